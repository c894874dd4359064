"""count_parameters"""
