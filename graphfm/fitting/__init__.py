"""Fits of a pretrained model to one graph, and predictions from them."""
