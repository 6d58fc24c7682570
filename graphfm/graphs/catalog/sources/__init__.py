"""Sources of graphs: one file per origin; ``source.kind`` of an entry is the file's name."""
