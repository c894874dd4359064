"""What the data are like: figures without decoders, sample pictures, noise ceiling by region.

Axis letters: I images, V voxels, G ROI groups, K captions.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, read_annotations, read_images
from fmri2clip.artefacts.trials import read_noise_free, read_voxels
from fmri2clip.clip import encoder
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Clip, World
from fmri2clip.figures import plots
from fmri2clip.figures.areas import draw_responses
from fmri2clip.stages.describe_data.gather import SHOWN
from fmri2clip.stages.describe_data.world import describe_world

# What a generator paints from true features, beside its pipeline (assets/mini/generator/train.py)
PAINTED = "scores.json"
N_SCENES = 24  # sample pictures: evenly spaced through the test images, not chosen
WITHHELD_GREY = 200


def describe_data(
    subjects: Sequence[str],
    clip_name: str,
    clip: Clip,
    world: World,
    generators: Mapping[str, Mapping[str, Any]],
    paths: Paths,
    device: str,
    threads: int,
) -> None:
    """Write the figures of the tree as JSON, and three pictures for the report.

    clip_name: the CLIP model whose cache and blocks are described. world: how a simulated tree was
    made. generators: those of the parameters.
    """
    load = cache(partial(encoder.load, clip, device))
    painted = read_painted(generators, clip.model)
    tree, responses = describe_world(subjects, paths, clip_name, load, world, painted, threads)
    with replacing(paths.world) as (temporary,):
        temporary.write_text(json.dumps(tree, indent=1) + "\n")
    simulated = read_noise_free(paths.noise_free(subjects[0]), ["nsd_id_I"]) is not None
    draw_scenes(paths.stimuli(TEST), paths.reports / "scenes.png", withhold=not simulated)
    areas = paths.reports / "areas.png"
    if responses:
        response_AK = np.stack(list(responses.values()), axis=1)
        draw_responses(response_AK, list(SHOWN), list(responses), areas)
    else:
        plots.draw_nothing("left out: the data lack the areas of NSD, captions or labels", areas)
    draw_ncsnr({s: paths.voxels(s) for s in subjects}, paths.reports / "ncsnr.png")


def read_painted(
    generators: Mapping[str, Mapping[str, Any]], clip_model: str
) -> Mapping[str, float] | None:
    """Scores of the generator that reads a CLIP model's features; None where none has any."""
    for generator in generators.values():
        scores = Path(generator["path"]).parent / PAINTED
        if generator["clip_model"] == clip_model and scores.is_file():
            return json.loads(scores.read_text(encoding="utf-8"))
    return None


def draw_scenes(stimuli_path: Path, path: Path, *, withhold: bool) -> None:
    """Sample pictures, each with its first caption.

    withhold: grey panels, as NSD forbids to pass its pictures on.
    """
    described = read_annotations(stimuli_path)
    rows = np.unique(np.linspace(0, len(described["nsd_id_I"]) - 1, N_SCENES).astype(int))
    pictures = read_images(stimuli_path, described["nsd_id_I"][rows])
    if withhold:
        pictures = np.full_like(pictures, WITHHELD_GREY)
    captions = [_wrapped(_first_caption(described, row)) for row in rows]
    plots.draw_gallery(pictures, captions, path)


def draw_ncsnr(voxels_paths: Mapping[str, Path], path: Path) -> None:
    """Distribution of ncsnr over the voxels of each region, one panel a subject."""
    found = {s: _ncsnr_by_region(voxels) for s, voxels in voxels_paths.items()}
    if not all(found.values()):
        plots.draw_nothing("no noise ceiling: no picture was shown more than once", path)
        return
    plots.draw_boxes(found, path, y_label="ncsnr")


def _ncsnr_by_region(voxels_path: Path) -> dict[str, NDArray[np.floating[Any]]]:
    """Finite values of every group and whole ROI that has voxels; single labels are left out."""
    voxels = read_voxels(voxels_path, ["ncsnr_V", "roi_VG", "roi_names_G"])
    finite_V = np.isfinite(voxels["ncsnr_V"])
    names = {str(name): column for column, name in enumerate(voxels["roi_names_G"])}
    shown = {name: c for name, c in names.items() if name.startswith("group/") or "/" not in name}
    values = {
        name: voxels["ncsnr_V"][voxels["roi_VG"][:, c] & finite_V] for name, c in shown.items()
    }
    return {name.removeprefix("group/"): value for name, value in values.items() if len(value)}


def _first_caption(clip: Mapping[str, Any], row: int) -> str:
    own = np.flatnonzero(clip["caption_image_K"] == row)
    return str(clip["caption_K"][own[0]]) if len(own) else ""


def _wrapped(text: str, width: int = 34) -> str:
    return "\n".join(textwrap.wrap(text, width))
