"""The nodes of the pipeline: one folder for each stage, named as in dvc.yaml."""
