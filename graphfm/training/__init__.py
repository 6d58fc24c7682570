"""The loop, its optimizer, metrics and receipt."""
