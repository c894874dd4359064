"""label_ridge"""
