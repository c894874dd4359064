"""What the bands of a world are measured on, read from the files of the stages before.

Letters: I training images of a subject (ascending NSD id), N trials, V voxels, D embedding width, F
features of the picture, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from skimage.color import rgb2lab

from fmri2clip.artefacts.clip_cache import read_cache
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.stimuli import TRAIN, iterate_images, read_annotations
from fmri2clip.artefacts.trials import (
    average_repeats,
    read_betas,
    read_noise_free,
    read_voxels,
)
from fmri2clip.core.rows import find_rows
from fmri2clip.stages.describe_data.hierarchy_bands import Brain, Pictures
from fmri2clip.stages.describe_data.regression import Floats

COLOUR_PLACES = 4
EDGE_PLACES = 8
MOST_IMAGES = 2500  # of a subject, drawn at random: regressions use fewer
BLOCK = 50  # pictures in memory at a time
# Areas whose responses are shown, and the labels that make them up.
SHOWN = {
    "V1": ("prf-visualrois/V1v", "prf-visualrois/V1d"),
    "hV4": ("prf-visualrois/hV4",),
    "FFA": ("floc-faces/FFA-1", "floc-faces/FFA-2"),
    "VWFA": ("floc-words/VWFA-1", "floc-words/VWFA-2"),
    "PPA": ("floc-places/PPA",),
    "EBA": ("floc-bodies/EBA",),
}
FLOC = ("floc-faces", "floc-words", "floc-places", "floc-bodies")
EARLY = "prf-visualrois"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One subject's training images and responses.

    image_ID: CLIP embeddings; betas_NV: z-scored trials, None on a real tree, where nobody needs
    them; image_N: the row of each; floc_VK: members
    of FLOC; is_early_V: members of EARLY; shown_VA: of SHOWN; median_ncsnr: by ROI group;
    categories: of label_IC. brain.clean_IV is None on a real tree.
    """

    nsd_id_I: NDArray[np.int64]
    pictures: Pictures
    brain: Brain
    image_ID: Floats
    betas_NV: NDArray[np.float16] | None
    image_N: NDArray[np.intp]
    floc_VK: NDArray[np.bool_]
    is_early_V: NDArray[np.bool_]
    shown_VA: NDArray[np.bool_]
    median_ncsnr: dict[str, float]
    categories: list[str]


def take_images(pictures: Pictures, brain: Brain, rows: NDArray[np.intp]) -> tuple[Pictures, Brain]:
    """The same of these images only."""
    of_images = {field.name: getattr(pictures, field.name)[rows] for field in fields(pictures)}
    clean_IV = None if brain.clean_IV is None else brain.clean_IV[rows]
    return Pictures(**of_images), replace(brain, mean_IV=brain.mean_IV[rows], clean_IV=clean_IV)


def can_gather(subject: str, paths: Paths, clip_name: str) -> bool:
    """Whether a subject has NSD's areas, captions and labels, which `gather` reads."""
    names = set(read_voxels(paths.voxels(subject), ["roi_names_G"])["roi_names_G"].tolist())
    wanted = {EARLY, *FLOC, *(label for labels in SHOWN.values() for label in labels)}
    cache = read_cache(paths.clip_train(clip_name, subject), ["caption_image_K", "present_C"])
    return (
        wanted <= names and bool(len(cache["caption_image_K"])) and bool(cache["present_C"].any())
    )


def median_ncsnr(voxels: dict[str, NDArray]) -> dict[str, float]:
    """Median of each ROI group that has a number."""
    found = {}
    for k, name in enumerate(voxels["roi_names_G"]):
        own_V = voxels["ncsnr_V"][voxels["roi_VG"][:, k]]
        if name.startswith("group/") and np.isfinite(own_V).any():
            found[name.removeprefix("group/")] = float(np.nanmedian(own_V))
    return found


def gather(subject: str, paths: Paths, clip_name: str) -> Subject:
    """Read one subject."""
    trials = read_betas(paths.train_betas(subject), ["betas_NV", "nsd_id_N"])
    mean_IV, nsd_id_I = average_repeats(trials["betas_NV"], trials["nsd_id_N"])
    if len(nsd_id_I) > MOST_IMAGES:
        kept = np.random.default_rng(0).choice(len(nsd_id_I), MOST_IMAGES, replace=False)
        kept.sort()
        mean_IV, nsd_id_I = mean_IV[kept], nsd_id_I[kept]
    trials_N = np.isin(trials["nsd_id_N"], nsd_id_I)
    voxels = read_voxels(
        paths.voxels(subject),
        [
            "ijk_V3",
            "roi_VG",
            "roi_names_G",
            "ncsnr_V",
            "ncsnr_train_V",
            "mean_SV",
            "std_SV",
            "invalid_SV",
        ],
    )
    column = {str(name): k for k, name in enumerate(voxels["roi_names_G"])}
    floc_VK = np.stack([voxels["roi_VG"][:, column[roi]] for roi in FLOC], axis=1)
    is_early_V = voxels["roi_VG"][:, column[EARLY]]
    is_floc_V = floc_VK.any(axis=1)
    cache = read_cache(
        paths.clip_train(clip_name, subject),
        [
            "nsd_id_I",
            "image_embedding_ID",
            "text_embedding_KD",
            "caption_image_K",
            "labels_IC",
            "present_C",
            "category_C",
        ],
    )
    row_I = find_rows(cache["nsd_id_I"], nsd_id_I, "the CLIP cache of the training images")
    caption_ID = average_captions(cache["text_embedding_KD"], cache["caption_image_K"])[row_I]
    colour_IF, edges_IF = look_at(paths, nsd_id_I)
    clean_IV = read_clean(subject, paths, nsd_id_I, voxels)
    noted = read_annotations(paths.stimuli(TRAIN))
    noted_I = find_rows(noted["nsd_id_I"], nsd_id_I, "the training pictures")
    return Subject(
        nsd_id_I=nsd_id_I,
        pictures=Pictures(
            caption_ID=caption_ID,
            label_IC=cache["labels_IC"][row_I][:, cache["present_C"]],
            colour_IF=colour_IF,
            edges_IF=edges_IF,
            object_IF=np.nan_to_num(noted["largest_I3"][noted_I].astype(np.float64)),
        ),
        brain=Brain(
            mean_IV=mean_IV,
            clean_IV=clean_IV,
            ncsnr_V=voxels["ncsnr_train_V"],
            is_low_V=is_early_V & ~is_floc_V,
            is_high_V=is_floc_V & ~is_early_V,
        ),
        image_ID=cache["image_embedding_ID"][row_I].astype(np.float64),
        betas_NV=None if clean_IV is None else trials["betas_NV"][trials_N],
        image_N=np.searchsorted(nsd_id_I, trials["nsd_id_N"][trials_N]),
        floc_VK=floc_VK,
        is_early_V=is_early_V,
        shown_VA=np.stack(
            [
                voxels["roi_VG"][:, [column[label] for label in labels]].any(axis=1)
                for labels in SHOWN.values()
            ],
            axis=1,
        ),
        categories=[str(name) for name in cache["category_C"][cache["present_C"]]],
        median_ncsnr=median_ncsnr(voxels),
    )


def average_captions(text_KD: Floats, image_K: NDArray[np.integer]) -> Floats:
    """Mean of the caption embeddings of each image, (I, D)."""
    total_ID = np.zeros((int(image_K.max()) + 1, text_KD.shape[1]))
    np.add.at(total_ID, image_K, text_KD.astype(np.float64))
    mean_ID: Floats = total_ID / np.bincount(image_K)[:, None]
    return mean_ID


def read_clean(
    subject: str, paths: Paths, nsd_id_I: NDArray[np.int64], voxels: dict[str, NDArray]
) -> Floats | None:
    """Noise-free responses (I, V) on the scale of the stored betas, or None on a real tree.

    Extraction z-scores each session: here, by the mean over sessions of mean and deviation.
    """
    truth = read_noise_free(paths.noise_free(subject))
    if truth is None:
        return None
    columns_V = find_columns(truth["ijk_V3"], voxels["ijk_V3"])
    row_I = find_rows(truth["nsd_id_I"], nsd_id_I, "the noise-free responses")
    valid_SV = ~voxels["invalid_SV"]
    mean_V = np.average(voxels["mean_SV"], axis=0, weights=valid_SV)
    deviation_V = np.average(voxels["std_SV"], axis=0, weights=valid_SV)
    clean_IV: Floats = (truth["betas_IV"][row_I][:, columns_V] - mean_V) / deviation_V
    return clean_IV


def find_columns(all_ijk_V3: NDArray, ijk_V3: NDArray) -> list[int]:
    """Where voxels with these coordinates stand among all."""
    place = {tuple(ijk): k for k, ijk in enumerate(all_ijk_V3.tolist())}
    return [place[tuple(ijk)] for ijk in ijk_V3.tolist()]


def look_at(paths: Paths, nsd_id_I: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean Lab (I, 48) at 4 x 4 places and Sobel magnitude of luminance (I, 64) at 8 x 8."""
    colours = []
    edges = []
    for images_IHWC in iterate_images(paths.stimuli(TRAIN), nsd_id_I, BLOCK):
        rgb = images_IHWC.astype(np.float32) / 255
        colours.append(pool(rgb2lab(rgb), COLOUR_PLACES))
        slope_IHW = find_edges(rgb @ np.array((0.2125, 0.7154, 0.0721), np.float32))
        edges.append(pool(slope_IHW[..., None], EDGE_PLACES))
    return np.concatenate(colours), np.concatenate(edges)


def find_edges(luminance_IHW: Floats) -> Floats:
    """Sobel magnitude of each picture."""
    down = correlate1d(correlate1d(luminance_IHW, (-1, 0, 1), axis=1), (1, 2, 1), axis=2)
    right = correlate1d(correlate1d(luminance_IHW, (-1, 0, 1), axis=2), (1, 2, 1), axis=1)
    magnitude_IHW: Floats = np.hypot(down, right)
    return magnitude_IHW


def pool(map_IHWC: Floats, n_places: int) -> Floats:
    """Mean over n_places x n_places blocks, (I, n_places * n_places * C)."""
    side = map_IHWC.shape[1] // n_places
    kept = map_IHWC[:, : side * n_places, : side * n_places]
    blocks = kept.reshape(len(kept), n_places, side, n_places, side, -1)
    pooled: Floats = blocks.mean(axis=(2, 4)).reshape(len(kept), -1)
    return pooled
