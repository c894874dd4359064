"""brainclip"""
