"""How well a decoder foretells the measured responses, voxel by voxel, where it has an encoding
model: `encoding`.

    r_v  = mean over i of z_iv p_iv                     z, p: measured and predicted, each z-scored
                                                        over the test images
    R2_v = 1 - sum (y_iv - yhat_iv)^2 / sum (y_iv - ybar_v)^2
    ceiling of R2_v: metrics/ceiling.py, of ncsnr as shipped; of r_v: its root

The score of a region is the mean over its voxels, so a mean over images, too: that of

    s_i  = mean over v of z_iv p_iv,    1 - I mean over v of (y_iv - yhat_iv)^2 / sum_i (...)^2

Intervals resample images with means and variances of voxels fixed. A voxel that is constant over
the test images has no score; one of constant predictions has r 0.

Letters: I test images, V voxels, G ROIs and groups of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.model import Model
from fmri2clip.artefacts.trials import TestBetas, read_betas, read_voxels
from fmri2clip.datasets.nsd.areas import PRF
from fmri2clip.decoders import Decoder
from fmri2clip.metrics.ceiling import average_inverse, find_ceiling
from fmri2clip.metrics.statistics import Scores

Array = NDArray[Any]
GROUP = "group/"
CATEGORY_AREAS = "floc-"
LEAST = 1e-9  # standard deviation of a voxel that varies


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Voxels of a model: coordinates, noise ceiling of the mean of a test picture's trials (0 where
    unknown), and members of each region by name.
    """

    ijk_V3: NDArray[np.int16]
    ceiling_V: NDArray[np.float64]
    members: Mapping[str, NDArray[np.bool_]]


def has_encoding_model(model: Model) -> bool:
    """Whether the decoder states which responses it expects of a picture."""
    return type(model.decoder).respond is not Decoder.respond


def read_regions(path: Path, test_path: Path, rows_V: Array) -> Regions:
    """Groups of params, areas of prf-visualrois with both halves, and those of floc; of columns
    rows_V. test_path: the subject's trials of test pictures.
    """
    arrays = read_voxels(path, ["ijk_V3", "ncsnr_V", "roi_VG", "roi_names_G"])
    members: dict[str, NDArray[np.bool_]] = {}
    # Groups first, as they are named in params.
    for name, member_V in sorted(
        zip(map(str, arrays["roi_names_G"]), arrays["roi_VG"][rows_V].T, strict=True),
        key=lambda pair: not pair[0].startswith(GROUP),
    ):
        region = _name_region(name)
        if region and member_V.any():
            members[region] = members.get(region, False) | member_V
    _, n_I = np.unique(read_betas(test_path, ["nsd_id_N"])["nsd_id_N"], return_counts=True)
    ncsnr_V = np.nan_to_num(arrays["ncsnr_V"][rows_V].astype(np.float64))
    ceiling_V = find_ceiling(ncsnr_V, average_inverse(Counter(n_I.tolist())))
    return Regions(ijk_V3=arrays["ijk_V3"][rows_V], ceiling_V=ceiling_V, members=members)


def _name_region(name: str) -> str:
    """What a column of the voxel file counts to; nothing for what is not shown."""
    if name.startswith(GROUP):
        return name.removeprefix(GROUP)
    if name.startswith(f"{PRF}/"):
        return name.removeprefix(f"{PRF}/").rstrip("vd")
    return name if name.startswith(CATEGORY_AREAS) and "/" not in name else ""


def score_responses(
    model: Model, betas: TestBetas, features: Mapping[str, torch.Tensor], regions: Regions
) -> tuple[Scores, dict[str, Array]]:
    """encoding.{r,r2}.<region> with their ceilings, and for every voxel the arrays of scores.py.

    features: of the test images, as Decoder.respond takes them.
    """
    expected = model.decoder.respond(features)
    assert expected is not None, "asked of decoders with an encoding model only"
    predicted_IV = expected.double().numpy()
    measured_IV = betas.mean_IV.astype(np.float64)
    centred_IV = measured_IV - measured_IV.mean(axis=0)
    deviation_V = centred_IV.std(axis=0)
    known_V = deviation_V > LEAST
    deviation_V = np.where(known_V, deviation_V, np.nan)
    product_IV = centred_IV / deviation_V * _z_score(predicted_IV)
    share_IV = 1 - ((measured_IV - predicted_IV) / deviation_V) ** 2
    ceiling_V = regions.ceiling_V
    per_image: dict[str, tuple[Array, Array]] = {}
    constants: dict[str, float] = {}
    ones_I = np.ones(len(measured_IV))
    for name, member_V in regions.members.items():
        shown_V = member_V & known_V
        if shown_V.any():
            per_image[f"encoding.r.{name}"] = (product_IV[:, shown_V].mean(axis=1), ones_I)
            per_image[f"encoding.r2.{name}"] = (share_IV[:, shown_V].mean(axis=1), ones_I)
            constants[f"encoding.ceiling_r.{name}"] = float(np.sqrt(ceiling_V[shown_V]).mean())
            constants[f"encoding.ceiling_r2.{name}"] = float(ceiling_V[shown_V].mean())
    arrays = {
        "ijk_V3": regions.ijk_V3,
        "foretold_r_V": product_IV.mean(axis=0),
        "foretold_r2_V": share_IV.mean(axis=0),
        "ceiling_r2_V": ceiling_V,
    }
    return Scores(nsd_id_I=betas.nsd_id_I, per_image=per_image, constants=constants), arrays


def _z_score(value_IV: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 where a column is constant."""
    centred_IV = value_IV - value_IV.mean(axis=0)
    deviation_V = centred_IV.std(axis=0)
    z_IV: NDArray[np.float64] = np.divide(
        centred_IV, deviation_V, out=np.zeros_like(centred_IV), where=deviation_V > LEAST
    )
    return z_IV
