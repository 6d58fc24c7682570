"""Features of a prepared graph: feature transform, positions, neighbor means."""
