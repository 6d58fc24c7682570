"""Adapters: transformed features of one dataset -> node tokens. A file is a kind."""
