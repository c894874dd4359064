"""The simulated brain: early filters, areas that recognise, noise in features."""
