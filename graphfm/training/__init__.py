"""Pretraining: from a recipe to checkpoints and a receipt."""
