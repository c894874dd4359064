"""Write the data set Generic Object Decoding as a folder of docs/own_data.md.

python -m pipeline.convert_god SOURCE OUT
"""

from __future__ import annotations

from pathlib import Path

from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.datasets.god.convert import convert


def convert_god(params: Params, source: str, out: str) -> None:
    """SOURCE: GOD's Subject1.h5 ..., its pictures, and categories.tsv (synset, name)."""
    found = convert(Path(source), Path(out))
    print(f"{out}: {', '.join(f'{n:,} {what}' for what, n in found.items())}")


if __name__ == "__main__":
    stage.run(convert_god)
