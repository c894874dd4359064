"""Studies: questions that need many runs, through DVC's experiments."""
