"""Numbers and tables of README.md and docs/*.md, written from the files of reports/."""
