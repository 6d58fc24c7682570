"""Scaling laws: loss from model size and data, with intervals."""
