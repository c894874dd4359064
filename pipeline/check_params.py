"""Stage check_params: a typo in params.yaml fails here, in seconds, and not after the
extraction.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fmri2clip import store, validation
from fmri2clip.params import Params
from pipeline import _stage

VERDICT = _stage.DATA / "params_checked.txt"
RECONSTRUCTIONS = _stage.DATA / "reconstructions"


def check_params(params: Params) -> None:
    """Check every name in params.yaml, and forget results of what it no longer names."""
    validation.validate(params)
    named = {"train": params.subjects, "test": params.subjects, "voxels": params.subjects}
    for folder, names in named.items():
        remove_others(_stage.ROIS / folder, names)
    remove_others(
        _stage.PREDICTIONS, [*params.runs, *(f"reference_{clip}" for clip in params.clips)]
    )
    RECONSTRUCTIONS.mkdir(
        parents=True, exist_ok=True
    )  # scoring depends on the folder, also where it stays empty
    remove_others(RECONSTRUCTIONS, params.reconstructions)
    with store.replacing(VERDICT) as (verdict,):
        verdict.write_text("every name in params.yaml exists\n")


def remove_others(folder: Path, names: Iterable[str]) -> None:
    """Delete the files of a folder that belong to none of the names.

    Later stages depend on whole folders, so a left-over file would change what they read; DVC's
    cache keeps a copy.
    """
    for path in sorted(folder.glob("*.h5")):
        if path.stem not in set(names):
            print(f"remove {path}: params.yaml does not name {path.stem}")
            path.unlink()


if __name__ == "__main__":
    _stage.run(check_params)
