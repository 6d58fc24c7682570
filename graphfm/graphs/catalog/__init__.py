"""Catalog of datasets: entries, mixtures, download and cache."""
