"""The Natural Scenes Dataset (Allen et al.

2022, Nature Neuroscience 25:116-126): one reader for its file layout.
"""
