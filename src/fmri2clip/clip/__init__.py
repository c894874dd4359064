"""CLIP models through open_clip (`encoder`) and the cache of their features (`cache`)."""
