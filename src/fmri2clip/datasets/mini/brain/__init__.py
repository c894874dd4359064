"""The simulated brain of world 2: early filters, areas that recognise, noise in features."""
