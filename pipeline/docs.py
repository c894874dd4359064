"""Write the numbers of README.md and docs/*.md from reports/: `python -m pipeline.docs`.

With --check nothing is written: the exit code is 1 if a document differs from reports/, with one
line for each place. fmri2clip/documents/markers.py says how a number or table is marked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fmri2clip.documents import markers


def main() -> None:
    """Update the documents of the project in the working directory, or compare them."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 if stale")
    arguments = parser.parse_args()
    root = Path.cwd()
    try:
        if arguments.check:
            differences = markers.find_differences(root)
            if differences:
                sys.exit("\n".join([*differences, "run 'make docs' and commit the documents"]))
        else:
            for path in markers.update(root):
                print(f"wrote {path.relative_to(root)}")
    except (ValueError, OSError) as error:
        sys.exit(f"docs: {error}")


if __name__ == "__main__":
    main()
