"""Heads: node state -> prediction and loss. Each file is a kind of task."""
