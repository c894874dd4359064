"""One network for all subjects, behind a closed form of each."""
