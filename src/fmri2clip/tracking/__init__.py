"""MLflow as a view of the files: nothing reads it to make a result.

Files are the truth: `models/<run>`, `data/curves` and `data/scores` hold everything that a run
shows. Only this package imports mlflow, and only when something is recorded.
"""
