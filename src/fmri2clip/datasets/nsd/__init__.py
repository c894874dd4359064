"""The Natural Scenes Dataset: one reader for its files, whether released or simulated.

Allen et al. 2022, Nature Neuroscience 25:116-126.
"""
