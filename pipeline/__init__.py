"""The stages of dvc.yaml, one module each: `python -m pipeline.<stage> [argument]`.

A temporary copy of the project must run its own library even where another checkout is installed in the environment.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
