"""Which files a run is trained on."""
