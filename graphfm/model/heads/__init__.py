"""Heads: node state -> prediction and loss. A file is a kind, and a kind is a task."""
