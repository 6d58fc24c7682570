"""What a graph is, and where graphs come from."""
