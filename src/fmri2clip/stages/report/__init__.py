"""Stage report: what is read (inputs), what is said (sections, ...), and how it is rendered."""
