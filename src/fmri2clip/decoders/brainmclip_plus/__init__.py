"""brainmclip_plus"""
