"""From cached arrays to a trained model; knows no decoder by name."""
