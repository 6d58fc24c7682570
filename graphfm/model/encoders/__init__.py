"""Encoders: packed node tokens -> latents. Each file is a kind."""
