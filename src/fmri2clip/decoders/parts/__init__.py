"""What several decoders are made of."""
