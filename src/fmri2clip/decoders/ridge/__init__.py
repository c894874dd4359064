"""ridge"""
