"""score_pictures"""
