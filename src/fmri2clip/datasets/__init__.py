"""Readers of the Natural Scenes Dataset and the simulation that writes the same files."""
