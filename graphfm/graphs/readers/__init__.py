"""Readers of graph files: tables, GraphML, GML, GEXF, arrays and PyG files."""
