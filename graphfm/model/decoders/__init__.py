"""Decoders: target, neighbors and latents -> state of the target. A file is a kind."""
