"""Scaling laws: what a larger model or more data is worth, with intervals."""
