"""Leakage audit: overlap between a corpus and evaluation graphs."""
