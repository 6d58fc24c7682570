"""Attention, blocks, position encodings and base classes of the parts."""
