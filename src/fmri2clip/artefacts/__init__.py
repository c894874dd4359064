"""The arrows of the pipeline: each kind of file that stages exchange, its one writer and reader."""
