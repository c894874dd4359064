"""The ground that everything stands on: parameters, files, schemas, resume."""
