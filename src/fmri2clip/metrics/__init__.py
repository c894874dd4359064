"""Scores of decoded brain patterns and their statistics; NumPy only, nothing here reads a file or knows a decoder."""
