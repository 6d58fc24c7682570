"""Judged beside the best: models and peers on the same splits of graphs nobody has learned from."""
