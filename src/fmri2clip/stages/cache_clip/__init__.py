"""cache_clip"""
