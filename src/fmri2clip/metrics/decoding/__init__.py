"""Scores of decoded embeddings, tokens and labels."""
