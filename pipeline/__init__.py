"""The stages of dvc.yaml, one module each: `python -m pipeline.<stage> [argument]`.

A temporary copy of the project must run its own library even where another checkout is installed in
the environment.
"""

import os
import sys
from pathlib import Path

# OpenBLAS's threads otherwise spin for 20 ms after each call and take the cores from PyTorch's;
# read when NumPy loads.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
