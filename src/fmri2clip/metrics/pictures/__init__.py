"""Scores of reconstructed pictures."""
