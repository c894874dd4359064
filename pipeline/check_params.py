"""Stage check_params: a typo in params.yaml fails here, in seconds, not after the extraction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Params
from fmri2clip.stages.check_params import plan, validate


def check_params(params: Params) -> None:
    """Check every name in params.yaml, and forget results of what it no longer names."""
    validate.validate(params)
    paths = Paths()
    for folder in ("train", "test", "voxels", "noise_free"):
        remove_others(paths.rois / folder, params.subjects)
    references = [f"reference_{clip}" for clip in params.clips]
    remove_others(paths.predictions_folder, [*params.runs, *references])
    # Scoring depends on the folder, also where it stays empty. Its files are left to reconstruct:
    # what was painted beforehand is in no cache.
    paths.reconstructions_folder.mkdir(parents=True, exist_ok=True)
    with replacing(paths.root / "data/params_checked.txt") as (verdict,):
        verdict.write_text("every name in params.yaml exists\n")
    warn(params, paths.root)


def warn(params: Params, root: Path) -> None:
    """Print a line for each stage that this machine is too small for (`make plan` has the table).

    A plan is no check: whatever it comes to, and even if it cannot be made, the stage succeeds.
    """
    try:
        lines = plan.find_obstacles(params, root)
    except Exception as error:
        lines = [f"no plan could be made ({type(error).__name__}: {error})"]
    for line in lines:
        print(f"warning: {line}")


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
    stage.run(check_params)
