"""Files of anybody's experiment, which need not lie in NSD's tree."""
