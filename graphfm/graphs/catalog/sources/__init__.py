"""Where graphs come from: one file per origin, found by its name (``source.kind`` of an entry)."""
