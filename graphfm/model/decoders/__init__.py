"""Decoders: target, neighbors and latents -> node state of the target. Each file is a kind."""
