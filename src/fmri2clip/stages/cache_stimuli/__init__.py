"""Stage cache_stimuli: pictures, captions and labels at the size that stages use."""
