"""The command line: one file per command; nothing heavy is imported at module level."""
