"""Objectives: the loss of a training step. A file name is a ``kind`` in recipes."""
