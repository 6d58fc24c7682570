"""Peer methods to compare with, with layers as in PyG and models of scikit-learn."""
