"""Graphs: the type, and its readers, catalog, features and audit."""
