"""fmri2clip: decoders from fMRI responses (Natural Scenes Dataset) to CLIP embeddings."""
