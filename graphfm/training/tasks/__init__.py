"""Tasks of in-context pretraining: a graph, some shown labels, and labels to predict."""
