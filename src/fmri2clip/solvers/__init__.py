"""Linear algebra in closed form."""
