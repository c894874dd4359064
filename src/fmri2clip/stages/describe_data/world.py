"""What a tree is like before any decoder, in figures.

Where noise-free responses exist, that is, where the tree was simulated, the figures of bands.py are
measured and judged. Those that need no truth are measured on a real tree too. Definitions:
docs/preregistered.md.

Letters: I images, J scored images, V voxels, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.trials import read_noise_free, read_voxels
from fmri2clip.clip.encoder import Encoder
from fmri2clip.core.params import World
from fmri2clip.stages.describe_data import claim_bands, hierarchy_bands, noise_bands
from fmri2clip.stages.describe_data.bands import judge_figures
from fmri2clip.stages.describe_data.clip_bands import compare_blocks, look_with_clip
from fmri2clip.stages.describe_data.duplicates import count_near_duplicates
from fmri2clip.stages.describe_data.gather import (
    FLOC,
    Subject,
    can_gather,
    find_columns,
    gather,
    median_ncsnr,
    take_images,
)
from fmri2clip.stages.describe_data.hierarchy_bands import AREAS
from fmri2clip.stages.describe_data.regression import N_FIT, N_SCORED, Floats
from fmri2clip.stages.describe_data.scenes import ask_author

LEAST_IMAGES = 100  # with all their trials, for figures that need truth
DOMAINS = tuple(name.removeprefix("floc-") for name in FLOC)


@dataclass(kw_only=True)
class Sums:
    """What is summed over subjects.

    hierarchy: area -> measure -> (R + 1). parts: a ratio's numerator or denominator by name.
    responses: kind of picture -> mean response of SHOWN, of each subject. gain_J, spread_J: of
    text_beyond_image, over the images of all subjects. means: key -> values, whose mean is the
    figure.
    """

    n_subjects: int
    responses: dict[str, list[Floats]] = field(default_factory=dict)
    hierarchy: dict[str, dict[str, Floats]] = field(default_factory=lambda: {a: {} for a in AREAS})
    parts: dict[str, float] = field(default_factory=dict)
    gain_J: list[Floats] = field(default_factory=list)
    spread_J: list[Floats] = field(default_factory=list)
    means: dict[str, list[float]] = field(default_factory=dict)

    def add_responses(
        self, mean_IV: Floats, shown_VA: NDArray[np.bool_], kinds: Mapping[str, NDArray[np.bool_]]
    ) -> None:
        for kind, member_I in kinds.items():
            mean_V = mean_IV[member_I].mean(axis=0)
            mean_A = (mean_V @ shown_VA) / np.maximum(shown_VA.sum(axis=0), 1)
            self.responses.setdefault(kind, []).append(mean_A)

    def add_part(self, name: str, value: float) -> None:
        self.parts[name] = self.parts.get(name, 0.0) + value

    def add_means(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.means.setdefault(name, []).append(float(value))


def describe_world(
    subject_names: Sequence[str],
    paths: Paths,
    clip_name: str,
    load_encoder: Callable[[], Encoder],
    world: World,
    painted: Mapping[str, float] | None,
    threads: int,
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """All figures as a nested dictionary of numbers: of each subject, near duplicates, printed and
    asserted ones; and, for each kind of picture, the mean z-scored response of SHOWN (A).

    clip_name, load_encoder: the CLIP whose cache and, if responses are simulated, blocks are looked
    at. world, painted: how a simulated tree was made, and how well its generator, if there is one,
    paints from true tokens (pixel_correlation_*); nothing of them is read where responses are real.
    """
    sums = Sums(n_subjects=len(subject_names))
    subjects = {}
    for number, name in enumerate(subject_names):
        if not can_gather(name, paths, clip_name):
            # The areas of other data have other names: their voxels alone are described.
            voxels = read_voxels(paths.voxels(name), ["ncsnr_V", "roi_VG", "roi_names_G"])
            own = {f"ncsnr_median_{group}": v for group, v in median_ncsnr(voxels).items()}
            subjects[name] = {"n_voxels": len(voxels["ncsnr_V"]), **_rounded(own)}
            continue
        whole = gather(name, paths, clip_name)
        own = {f"ncsnr_median_{group}": v for group, v in whole.median_ncsnr.items()}
        subjects[name] = {"n_voxels": whole.brain.mean_IV.shape[1], **_rounded(own)}
        _measure_pictures(sums, whole, number)
        rows = pick_rows(whole)
        if len(rows):
            _measure_truth(
                sums, name, whole, rows, paths, clip_name, load_encoder(), world, threads
            )
        del whole  # gigabytes at real size, before the next subject is read
    figures: dict[str, Any] = {
        "subjects": subjects,
        "near_duplicates": {name: count_near_duplicates(name, paths) for name in subject_names},
    }
    if not sums.parts:
        return figures, {}
    figures["printed"] = _print_figures(sums)
    found = _ratios(sums)
    if sums.means:
        found |= _mean_bands(sums)
        if len(subject_names) > 1:
            found["subjects.shared"] = _share_between(subject_names, paths)
        if painted:
            mixed = painted["pixel_correlation_mixed"]
            found["detail.paints"] = mixed - painted["pixel_correlation_tokens"]
        figures["asserted"] = judge_figures(found)
    else:
        figures["printed"]["measured"] = _rounded(found)
    responses = {kind: np.mean(found, axis=0) for kind, found in sums.responses.items()}
    return figures, responses


def pick_rows(whole: Subject) -> NDArray[np.intp]:
    """Rows of up to N_FIT + N_SCORED images with all their trials; none where nobody knows the
    noise-free responses, or too few images have all trials.
    """
    if whole.brain.clean_IV is None:
        return np.array([], dtype=np.intp)
    complete = np.bincount(whole.image_N, minlength=len(whole.nsd_id_I)) >= noise_bands.N_REPEATS
    order = np.random.default_rng(0).permutation(np.flatnonzero(complete))
    rows = order[: N_FIT + N_SCORED]
    return np.sort(rows) if len(rows) >= LEAST_IMAGES else rows[:0]


def _measure_pictures(sums: Sums, whole: Subject, number: int) -> None:
    """What needs no truth: the hierarchy of measured responses, and captions from colours."""
    found = hierarchy_bands.measure_hierarchy(whole.pictures, whole.brain, number=number)
    for area, measures in found.items():
        total = sums.hierarchy[area]
        for name, value_R in measures.items():
            total[name] = total[name] + value_R if name in total else value_R
    label_IC = whole.pictures.label_IC
    kinds = dict(zip(whole.categories, label_IC.T, strict=True))
    sums.add_responses(whole.brain.mean_IV, whole.shown_VA, kinds)
    caption_ID = whole.pictures.caption_ID
    colour = claim_bands.explain_captions(whole.pictures.colour_IF, caption_ID)
    sums.add_part("captions_from_colour", colour)
    sums.add_part("captions_from_image", claim_bands.explain_captions(whole.image_ID, caption_ID))


def _measure_truth(
    sums: Sums,
    name: str,
    whole: Subject,
    rows: NDArray[np.intp],
    paths: Paths,
    clip_name: str,
    encoder: Encoder,
    world: World,
    threads: int,
) -> None:
    """What only a simulated world can tell, on the images of `rows`."""
    assert whole.brain.clean_IV is not None and whole.betas_NV is not None
    snr_K = noise_bands.measure_snr(whole.brain.clean_IV, whole.betas_NV, whole.image_N)
    sums.add_means({"noise.snr_leading.least": snr_K.min(), "noise.snr_leading.most": snr_K.max()})
    pictures, brain = take_images(whole.pictures, whole.brain, rows)
    clean_IV = brain.clean_IV
    assert clean_IV is not None
    image_ID = whole.image_ID[rows]
    author = ask_author(world, whole.nsd_id_I[rows], threads)

    label_IC = pictures.label_IC
    background = claim_bands.explain_labels(author.background_IF, label_IC)
    sums.add_part("labels_from_background", background)
    sums.add_part("labels_from_image", claim_bands.explain_labels(image_ID, label_IC))
    betas = claim_bands.explain_labels(brain.mean_IV, label_IC)
    sums.add_means({"labels.betas_above_background": betas - background})

    found = noise_bands.find_by_ridge(brain.mean_IV, image_ID)
    found_clean = noise_bands.find_by_ridge(clean_IV, image_ID)
    sums.add_means({"ridge_top1": found, "ridge_top1_noise_free": found_clean})

    high_IV = clean_IV[:, brain.is_high_V]
    gain_J, spread_J = claim_bands.text_beyond_image(image_ID, high_IV, pictures.caption_ID)
    sums.gain_J.append(gain_J)
    sums.spread_J.append(spread_J)

    kinds = {f"({k})": member_I for k, member_I in zip(DOMAINS, author.member_KI, strict=True)}
    sums.add_responses(brain.mean_IV, whole.shown_VA, kinds)
    sums.add_means(_select(clean_IV, author.member_KI, whole))
    blocks, targets = look_with_clip(encoder, paths, name, clip_name, whole.nsd_id_I[rows])
    sums.add_means(compare_blocks(blocks, targets, brain))
    tokens = targets.get("semantic")
    in_place = np.full(len(whole.nsd_id_I), -1)
    in_place[rows] = np.arange(len(rows))
    kept_N = in_place[whole.image_N] >= 0
    observed = noise_bands.observe(
        clean_IV, whole.betas_NV[kept_N], in_place[whole.image_N[kept_N]], image_ID, tokens
    )
    sums.add_means({f"observer.{key}": value for key, value in observed.items()})


def _select(clean_IV: Floats, member_KI: NDArray[np.bool_], whole: Subject) -> dict[str, float]:
    """Median d' of the voxels of each kind of area, and how many prefer something else."""
    d_KV = np.stack([claim_bands.selectivity(clean_IV, member_I) for member_I in member_KI])
    found = {}
    for k, domain in enumerate(DOMAINS):
        own_V = whole.floc_VK[:, k] & ~whole.is_early_V
        found[f"selectivity.{domain}"] = float(np.median(d_KV[k, own_V]))
        maximal_V = d_KV[:, own_V].argmax(axis=0) == k
        found[f"selectivity.{domain}_not_maximal"] = 1 - float(maximal_V.mean())
    return found


def _ratios(sums: Sums) -> dict[str, float]:
    """Asserted figures that are ratios of sums over subjects."""
    low, high = (sums.hierarchy[area] for area in AREAS)
    found = {
        "captions.from_colour": sums.parts["captions_from_colour"]
        / sums.parts["captions_from_image"]
    }
    if "labels_from_image" in sums.parts:
        found["labels.from_background"] = (
            sums.parts["labels_from_background"] / sums.parts["labels_from_image"]
        )
    for name in ("text", "labels"):
        ratio, upper = hierarchy_bands.compare(low[name], high[name])
        found[f"hierarchy.{name}_low_over_high"] = ratio
        found[f"hierarchy.{name}_low_over_high_upper"] = upper
        found[f"hierarchy.{name}_high"] = float(high[name][0]) / sums.n_subjects
        if f"{name}_encoding" in high:
            ratio = float(low[f"{name}_encoding"][0] / high[f"{name}_encoding"][0])
            found[f"hierarchy.{name}_encoding_low_over_high"] = ratio
    found["hierarchy.pixels_high_over_low"] = float(high["pixels"][0] / low["pixels"][0])
    return found


def _mean_bands(sums: Sums) -> dict[str, float]:
    """Asserted figures that are means over subjects."""
    means = {name: float(np.mean(values)) for name, values in sums.means.items()}
    asserted = ("noise.", "labels.", "blocks.", "selectivity.")
    found = {name: value for name, value in means.items() if name.startswith(asserted)}
    found["noise.costs"] = means["ridge_top1_noise_free"] - means["ridge_top1"]
    found["observer.top1_3"] = means["observer.gaussian_3"]
    # Of every component in every subject.
    found["noise.snr_leading.least"] = min(sums.means["noise.snr_leading.least"])
    found["noise.snr_leading.most"] = max(sums.means["noise.snr_leading.most"])
    _, lower, _ = _text_gain(sums)
    found["text.beyond_image_lower"] = lower
    return found


def _text_gain(sums: Sums) -> tuple[float, float, float]:
    return claim_bands.gained_r2(np.concatenate(sums.gain_J), np.concatenate(sums.spread_J))


def _print_figures(sums: Sums) -> dict[str, Any]:
    """Figures without a band, means over subjects."""
    printed: dict[str, Any] = {
        "hierarchy": {
            area: _rounded({k: float(v[0]) / sums.n_subjects for k, v in measures.items()})
            for area, measures in sums.hierarchy.items()
        }
    }
    for name, values in sums.means.items():
        if name.startswith(("observer.", "explained.", "ridge_")):
            *path, last = name.split(".")
            node = printed
            for part in path:
                node = node.setdefault(part, {})
            node |= _rounded({last: float(np.mean(values))})
    if sums.gain_J:
        gain, lower, upper = _text_gain(sums)
        printed["text_beyond_image"] = _rounded({"gain": gain, "lower": lower, "upper": upper})
    return printed


def _share_between(subject_names: Sequence[str], paths: Paths) -> float:
    """Mean over ordered pairs of subjects of what one's high voxels tell of the other's, on the
    pictures that both saw.
    """
    seen = {name: _read_high(name, paths) for name in subject_names}
    found = []
    for one in subject_names:
        for other in subject_names:
            if one == other:
                continue
            both, row_1, row_2 = np.intersect1d(seen[one][0], seen[other][0], return_indices=True)
            assert len(both), f"{one} and {other} saw no picture in common"
            shared = claim_bands.shared_between(seen[one][1][row_1], seen[other][1][row_2])
            found.append(shared)
    return float(np.mean(found))


def _read_high(subject: str, paths: Paths) -> tuple[NDArray[np.int64], Floats]:
    """NSD ids and noise-free responses of the high voxels."""
    truth = read_noise_free(paths.noise_free(subject))
    assert truth is not None
    voxels = read_voxels(paths.voxels(subject), ["ijk_V3", "roi_VG", "roi_names_G"])
    column = {str(name): k for k, name in enumerate(voxels["roi_names_G"])}
    floc_V = voxels["roi_VG"][:, [column[roi] for roi in FLOC]].any(axis=1)
    high_V = floc_V & ~voxels["roi_VG"][:, column["prf-visualrois"]]
    columns_V = find_columns(truth["ijk_V3"], voxels["ijk_V3"][high_V])
    return truth["nsd_id_I"], truth["betas_IV"][:, columns_V]


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(v), 4) for name, v in figures.items() if np.isfinite(v)}
