"""Benchmark of models and peer methods on graphs outside the pretraining corpus."""
