"""Encoders: packed node tokens -> latents. A file is a kind."""
