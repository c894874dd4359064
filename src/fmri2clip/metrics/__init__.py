"""Scores of decoded brain patterns and of reconstructed pictures, and their statistics; nothing
here knows a decoder.

NumPy only, except what resizes pictures, runs networks or fits an encoding model; only weights are
read from files.
"""
