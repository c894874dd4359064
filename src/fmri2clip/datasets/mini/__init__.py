"""The simulated NSD: a small world of drawn scenes and artificial cortex, written in NSD's own file
layout.
"""
