"""A trained model outside of the pipeline: other people's betas in, embeddings and pictures out."""
