"""brainmclip"""
