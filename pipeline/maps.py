"""Write a subject's voxel maps as NIfTI volumes.

python -m pipeline.maps subj01 MASK.nii.gz OUT
"""

from __future__ import annotations

from pathlib import Path

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.scores import list_groups, read_predictions
from fmri2clip.artefacts.trials import read_voxels
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.core.store import Arrays
from fmri2clip.figures.maps import Maps, write_maps

FORETOLD = ("r", "r2")


def maps(params: Params, subject: str, like: str, out: str) -> None:
    """Write OUT/<subject>_ncsnr.nii.gz and, of each run with an encoding model, how well it
    foretells the responses to test pictures: the correlation (r), the share of variance (r2) and
    what of it the noise of the trials leaves (ceiling_r2).

    like: a volume of the betas' grid, such as a mask; the maps have its affine.
    """
    stage.check_named(subject, params.subjects, "subjects")
    found: dict[str, Arrays] = {}
    for run in params.runs:
        path = Paths().predictions(run)
        if path.is_file() and subject in list_groups(path):
            found[run] = read_predictions(path, group=subject)
    for path in write_maps(Path(out), Path(like), make_maps(subject, found)):
        print(path)


def make_maps(subject: str, predictions: dict[str, Arrays]) -> Maps:
    """Name -> voxels and numbers; predictions: run -> what it predicts for the subject."""
    voxels = read_voxels(Paths().voxels(subject), ["ijk_V3", "ncsnr_V"])
    found = {f"{subject}_ncsnr": (voxels["ijk_V3"], voxels["ncsnr_V"])}
    for run, arrays in predictions.items():
        if "foretold_r_V" not in arrays:
            continue
        numbers = {name: arrays[f"foretold_{name}_V"] for name in FORETOLD}
        numbers["ceiling_r2"] = arrays["ceiling_r2_V"]
        for name, value_V in numbers.items():
            found[f"{subject}_{run}_{name}"] = (arrays["ijk_V3"], value_V)
    return found


if __name__ == "__main__":
    stage.run(maps)
