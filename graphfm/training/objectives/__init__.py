"""Objectives: what a step learns from. A file is a kind."""
