"""Brain correlation without an encoding model: what the simulated cortex answers to pictures.

Letters: I images, J probes, V voxels, S sessions, H W C height, width and channels of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TEST, TRAIN, make_reader
from fmri2clip.artefacts.trials import read_voxels
from fmri2clip.core.params import World
from fmri2clip.core.rows import find_rows
from fmri2clip.metrics.pictures.brain_correlation import PREFIX, Measured, correlate_patterns
from fmri2clip.metrics.pictures.protocols import Resize
from fmri2clip.metrics.pictures.resizing import PictureSet, resize, to_uint8
from fmri2clip.metrics.statistics import Scores

Array = NDArray[Any]
TRUE_CORTEX = "true_cortex_correlation"


def score_true_cortex(
    world: World,
    subject: str,
    paths: Paths,
    given: Mapping[str, PictureSet],
    measured: Measured,
    threads: int = 1,
) -> dict[str, Scores]:
    """true_cortex_correlation.<region> of every set of pictures of one subject.

    No encoding model stands between, so it tells how much of brain correlation is the model's
    fault. Pearson r across the voxels of a region between the mean of the measured repeats and the
    noise-free response to the reconstruction; 0 where that is constant.
    """
    # All sets at once: each time, the cortex is shown the subject's own pictures before the probes,
    # as these are what it has adapted to.
    counts = [len(made.nsd_id_I) for made in given.values()]
    probes = [np.asarray(made.images_IHWC) for made in given.values()]
    z_JV = respond_to(world, subject, paths, probes, threads)
    found: dict[str, Scores] = {}
    for (name, made), z_IV in zip(
        given.items(), np.split(z_JV, np.cumsum(counts)[:-1]), strict=True
    ):
        order_I = np.argsort(made.nsd_id_I)
        row_I = find_rows(measured.nsd_id_I, made.nsd_id_I[order_I], "the measured patterns")
        r = correlate_patterns(measured.betas_IV[row_I], z_IV[order_I], measured.regions)
        weight_I = np.ones(len(order_I))
        per_image = {
            key.replace(PREFIX, TRUE_CORTEX): (np.nan_to_num(r_I), weight_I)
            for key, r_I in r.items()
        }
        found[name] = Scores(nsd_id_I=made.nsd_id_I[order_I], per_image=per_image)
    return found


def respond_to(
    world: World, subject: str, paths: Paths, probes: list[Array], threads: int = 1
) -> Array:
    """Noise-free responses (J, V) to all probes (I, H, W, C), on the scale of the betas.

    z-scored as extraction does with the noise-free responses to the test pictures: by the mean over
    sessions of mean and standard deviation.
    """
    from fmri2clip.datasets.mini.brain.cortex import Brains
    from fmri2clip.datasets.mini.brain.cortex import respond_to as answer
    from fmri2clip.datasets.mini.design import make_design
    from fmri2clip.datasets.mini.volume import make_volume

    ids = make_design(world.seed, world.n_sessions, world.n_shared).nsd_ids((subject,))
    own_IHWC = make_reader(paths.stimuli(TRAIN), paths.stimuli(TEST))(ids)
    volume = make_volume(subject, world.seed)
    probes_JHWC = np.concatenate(
        [fit_size(images_IHWC, own_IHWC.shape[1]) for images_IHWC in probes]
    )
    percent_JV = answer(own_IHWC, probes_JHWC, volume, Brains.of(world), subject, threads)
    voxels = read_voxels(paths.voxels(subject), ["ijk_V3", "mean_SV", "std_SV", "invalid_SV"])
    # Extraction may have left voxels out, so columns are found by their place in the volume.
    place = {
        tuple(ijk): column for column, ijk in enumerate(np.argwhere(volume.nsdgeneral).tolist())
    }
    columns_V = [place[tuple(ijk)] for ijk in voxels["ijk_V3"].tolist()]
    valid_SV = ~voxels["invalid_SV"]
    mean_V = np.average(voxels["mean_SV"], axis=0, weights=valid_SV)
    std_V = np.average(voxels["std_SV"], axis=0, weights=valid_SV)
    z_JV: Array = (percent_JV[:, columns_V] - mean_V) / std_V
    return z_JV


def fit_size(images_IHWC: Array, side: int) -> Array:
    """8-bit pictures of this side; those that have it stay as they are."""
    if images_IHWC.shape[1:3] == (side, side):
        return images_IHWC
    return to_uint8(resize(images_IHWC, Resize(size=side)))
