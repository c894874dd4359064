"""cache_library"""
