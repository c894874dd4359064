"""Files of anybody's experiment, in the layout of docs/own_data.md."""
