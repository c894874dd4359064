"""clip_mused"""
