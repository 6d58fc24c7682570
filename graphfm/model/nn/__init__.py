"""Attention, blocks and encodings that the parts are made of."""
