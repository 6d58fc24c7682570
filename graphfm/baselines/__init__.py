"""Peer methods to compare with, built on layers of PyG and models of scikit-learn."""
