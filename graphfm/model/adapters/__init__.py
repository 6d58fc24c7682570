"""Adapters: transformed features of one dataset -> node tokens. Each file is a kind."""
