"""Measure reconstructed pictures against the stimuli under a named protocol, image by image.

Letters: I images (ascending NSD id), F features, H W C height, width and colours.

Metrics: pixcorr, ssim; alexnet2, alexnet5, inception, clip (two-way identification, one score a
direction: `alexnet2.image_given_reconstruction`); effnet, swav (1 - Pearson r of features, lower is
better); where the protocol has it brain_correlation, one score a region. Each gives a value an
image, the metric is their mean, and the bootstrap of statistics.py gives its interval. What cannot
be measured is named in `missing` with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.core.store import MappedRows
from fmri2clip.metrics.pictures.brain_correlation import BrainCorrelation
from fmri2clip.metrics.pictures.image_scores import (
    TwoWay,
    correlate_all,
    correlate_rows,
    count_two_way,
    score_ssim,
)
from fmri2clip.metrics.pictures.networks import Network, extract, flatten
from fmri2clip.metrics.pictures.protocols import (
    SLOTS,
    NetworkMetric,
    Protocol,
    Resize,
    find_protocol,
)
from fmri2clip.metrics.pictures.resizing import (
    Images,
    PictureSet,
    prepare,
    resize_common,
    resize_rest,
)
from fmri2clip.metrics.statistics import Scores

Floats = NDArray[np.floating]
BATCH = 16  # pictures of 425 pixels at once
# Of a set after the common steps, and of stimuli at the size of PixCorr and SSIM.
KEPT_BYTES = 2**29
PACKAGES = ("torch", "torchvision", "scikit-image", "scipy", "numpy", "Pillow")


@dataclass(frozen=True, kw_only=True)
class SubjectEvaluation:
    """Reconstructions of one subject under one protocol.

    score: metric (two-way with its direction, brain correlation with its region) -> score_I, NaN
    where undefined.
    two_way: the counts behind a two-way score. missing: metric -> why it has no value. networks:
    slot -> its name, weights and hash.
    """

    protocol: str
    nsd_id_I: NDArray[np.int64]
    score: Mapping[str, Floats]
    two_way: Mapping[str, TwoWay]
    missing: Mapping[str, str]
    networks: Mapping[str, Mapping[str, Any]]

    def values(self) -> dict[str, float]:
        """Plain mean over images of every metric; metrics that are undefined for an image are in
        `missing` only.
        """
        return {
            name: float(score_I.mean())
            for name, score_I in self.score.items()
            if name not in self.missing
        }

    def scores(self) -> Scores:
        """The same for the bootstrap, every image with weight 1."""
        weight_I = np.ones(len(self.nsd_id_I))
        per_image = {
            name: (score_I, weight_I)
            for name, score_I in self.score.items()
            if name not in self.missing
        }
        return Scores(nsd_id_I=self.nsd_id_I, per_image=per_image)

    def record(self) -> dict[str, Any]:
        """What must stand beside the numbers: protocol, networks with hashes, stand-ins, what is
        missing, versions.
        """
        return {
            "protocol": self.protocol,
            "n_images": len(self.nsd_id_I),
            "networks": {slot: dict(info) for slot, info in self.networks.items()},
            "stand_ins": [slot for slot, info in self.networks.items() if info.get("stand_in")],
            "missing": dict(self.missing),
            "versions": {package: version(package) for package in PACKAGES},
        }


@dataclass(frozen=True, kw_only=True)
class PartlyResized:
    """Pictures after a protocol's common steps, or before them where that would take much memory.

    resize(images_IHWC, steps=...): what is left to be done with a batch of them.
    """

    images_IHWC: Images | MappedRows
    resize: Callable[..., NDArray[np.float32]]


class Evaluator:
    """The stimuli of one subject under one protocol, encoded once for any number of
    reconstructions.

    networks: slot -> network. missing: slot -> why it has none, as load_networks says. brain: used
    by protocols that have brain correlation; no_brain: why there is none. threads: of PixCorr and
    SSIM. Raises ValueError for fewer than 2 stimuli, an unknown slot, and a network that is neither
    what the protocol names nor declared a stand-in.
    """

    def __init__(
        self,
        protocol: str | Protocol,
        stimuli: PictureSet,
        networks: Mapping[str, Network],
        missing: Mapping[str, str] | None = None,
        brain: BrainCorrelation | None = None,
        no_brain: str = "",
        threads: int = 1,
    ) -> None:
        self.protocol = find_protocol(protocol) if isinstance(protocol, str) else protocol
        if len(stimuli.nsd_id_I) < 2:
            raise ValueError(
                "two-way identification needs at least 2 images, got 1; reconstruct more"
            )
        # In the order of NSD ids, which the bootstrap of statistics.py relies on.
        self.stimuli = stimuli.select(np.sort(stimuli.nsd_id_I), "the set of stimuli")
        self.networks = dict(networks)
        self.reasons = dict(missing or {})
        self.brain = brain
        self.no_brain = no_brain
        self.threads = threads
        unknown = [slot for slot in (*self.networks, *self.reasons) if slot not in SLOTS]
        if unknown:
            raise ValueError(
                f"no protocol asks for a network {unknown[0]!r}; the slots are {', '.join(SLOTS)}"
            )
        for metric in self.protocol.networks:
            if metric.slot in self.networks:
                check_network(self.networks[metric.slot], metric, self.protocol)
        self._features: dict[str, dict[str, Floats]] = {}
        self._resized_stimuli = self._resize_common(self.stimuli)
        # First row of a batch -> stimuli as PixCorr and SSIM see them.
        self._pixels: dict[int, Floats] = {}

    def score(self, reconstructions: PictureSet) -> SubjectEvaluation:
        """Measure reconstructions, paired with the stimuli by NSD id; ValueError if one is
        missing.
        """
        given = reconstructions.select(self.stimuli.nsd_id_I, "the set of reconstructions")
        resized = self._resize_common(given)
        score = self._score_pixels(resized)
        two_way: dict[str, TwoWay] = {}
        missing: dict[str, str] = {}
        for metric in self.protocol.networks:
            if metric.slot not in self.networks:
                reason = self.reasons.get(
                    metric.slot, f"no network was given for {metric.slot} ({metric.weights})"
                )
                missing |= dict.fromkeys(metric.layers, reason)
            elif metric.comparison == "distance":
                score |= self._score_distances(metric, resized)
            else:
                counts = self._count(metric, resized)
                two_way |= counts
                score |= {
                    name: count.score(self.protocol.tie_credit) for name, count in counts.items()
                }
        # r of a constant prediction is undefined too, and treated as the protocol says.
        if self.protocol.brain and self.brain:
            score |= {name: self._fill(r_I) for name, r_I in self.brain.score(given).items()}
        elif self.protocol.brain:
            missing["brain_correlation"] = self.no_brain or "no encoding model was given"
        return SubjectEvaluation(
            protocol=self.protocol.name,
            nsd_id_I=self.stimuli.nsd_id_I,
            score=score,
            two_way=two_way,
            missing=missing | find_undefined(score, self.stimuli.nsd_id_I),
            networks=self._network_info(),
        )

    def _resize_common(self, pictures: PictureSet) -> PartlyResized:
        """The common steps, taken once for all metrics where their pictures take little memory."""
        images_IHWC = pictures.images_IHWC
        # 3 colours of 4 bytes: counted as float32, even where the pictures stay 8-bit.
        side = self.protocol.common[-1].size if self.protocol.common else images_IHWC.shape[1]
        if len(images_IHWC) * side**2 * 3 * 4 > KEPT_BYTES:
            return PartlyResized(
                images_IHWC=images_IHWC, resize=partial(prepare, protocol=self.protocol)
            )
        starts = range(0, len(images_IHWC), BATCH)
        common: list[NDArray[Any]] = [
            resize_common(images_IHWC[start : start + BATCH], self.protocol) for start in starts
        ]
        return PartlyResized(images_IHWC=np.concatenate(common), resize=resize_rest)

    def _score_pixels(self, given: PartlyResized) -> dict[str, Floats]:
        parts: list[tuple[Floats, Floats]] = []
        for start in range(0, len(given.images_IHWC), BATCH):
            stimuli = self._prepare_stimuli(start)
            reconstructions = self._prepare(given, start)
            r_I = correlate_rows(flatten(stimuli), flatten(reconstructions), self.threads)
            ssim_I = score_ssim(reconstructions, stimuli, self.protocol.ssim_columns, self.threads)
            parts.append((r_I, ssim_I))
        # SSIM is defined for constant pictures, so there is nothing to fill.
        r_I, ssim_I = (np.concatenate(part) for part in zip(*parts, strict=True))
        return {"pixcorr": self._fill(r_I), "ssim": ssim_I}

    def _prepare_stimuli(self, start: int) -> Floats:
        """One batch of stimuli, kept for the next set where all of them take little memory."""
        if start in self._pixels:
            return self._pixels[start]
        stimuli = self._prepare(self._resized_stimuli, start)
        if stimuli[0].nbytes * len(self.stimuli.nsd_id_I) <= KEPT_BYTES:
            self._pixels[start] = stimuli
        return stimuli

    def _prepare(self, resized: PartlyResized, start: int) -> Floats:
        return resized.resize(
            resized.images_IHWC[start : start + BATCH], steps=self.protocol.pixels
        )

    def _score_distances(self, metric: NetworkMetric, given: PartlyResized) -> dict[str, Floats]:
        stimuli, reconstructions = self._pair(metric, given)
        return {
            name: 1.0 - self._fill(correlate_rows(stimuli[layer], reconstructions[layer]))
            for name, layer in metric.layers.items()
        }

    def _count(self, metric: NetworkMetric, given: PartlyResized) -> dict[str, TwoWay]:
        stimuli, reconstructions = self._pair(metric, given)
        found = {}
        for name, layer in metric.layers.items():
            # Filled before it is counted, as the counts know no undefined correlation.
            r_II = self._fill(correlate_all(stimuli[layer], reconstructions[layer]))
            for direction in self.protocol.directions:
                found[f"{name}.{direction}"] = count_two_way(
                    r_II, direction, self.protocol.decimals
                )
        return found

    def _pair(
        self, metric: NetworkMetric, given: PartlyResized
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Features of stimuli (kept) and reconstructions, by layer."""
        # A slot belongs to one metric of a protocol, so its name will do as a key.
        if metric.slot not in self._features:
            self._features[metric.slot] = self._encode(metric, self._resized_stimuli)
        return self._features[metric.slot], self._encode(metric, given)

    def _encode(self, metric: NetworkMetric, resized: PartlyResized) -> dict[str, Floats]:
        network = self.networks[metric.slot]
        ready = partial(resized.resize, steps=resize_for(network, metric))
        # Two metrics may read one layer: each once, in order.
        layers = list(dict.fromkeys(metric.layers.values()))
        return extract(network, resized.images_IHWC, layers, ready)

    def _fill(self, r: Floats) -> Floats:
        return np.where(np.isnan(r), self.protocol.undefined, r)

    def _network_info(self) -> dict[str, Mapping[str, Any]]:
        slots = [metric.slot for metric in self.protocol.networks if metric.slot in self.networks]
        info: dict[str, Mapping[str, Any]] = {slot: self.networks[slot].record() for slot in slots}
        return info | ({"brain": self.brain.record()} if self.protocol.brain and self.brain else {})


def resize_for(network: Network, metric: NetworkMetric) -> tuple[Resize, ...]:
    """The metric's steps; a network with a size of its own replaces that of the last one."""
    if network.size is None:
        return metric.resize
    # Earlier steps stay: they are part of what the protocol does to a picture.
    return (*metric.resize[:-1], replace(metric.resize[-1], size=network.size))


def check_network(network: Network, metric: NetworkMetric, protocol: Protocol) -> None:
    """Raise ValueError for a network that would give the metric's name to another number."""
    info = network.info
    advice = "or declare it a stand-in"
    if protocol.fp32 and info.precision != "fp32":
        raise ValueError(
            f"{protocol.name} computes in fp32, but {info.name} is {info.precision}; load it in "
            "fp32"
        )
    # A stand-in may be any network: it is named as one beside every number.
    if info.stand_in:
        return
    if info.weights != metric.weights:
        raise ValueError(
            f"{protocol.name} wants {metric.weights} as {metric.slot}, got {info.weights}; load "
            f"those, {advice}"
        )
    size = metric.resize[-1].size
    if network.size not in (None, size):
        raise ValueError(
            f"{protocol.name} gives {metric.slot} {size} pixels, but {info.name} takes "
            f"{network.size}; take the published size, {advice}"
        )


def find_undefined(score: Mapping[str, Floats], nsd_id_I: NDArray[np.int64]) -> dict[str, str]:
    """Metric -> reason, for metrics that are undefined for an image and hence, under the protocol,
    as a whole.
    """
    return {
        name: f"undefined for {np.isnan(score_I).sum()} images (first NSD id "
        f"{nsd_id_I[np.isnan(score_I)][0]}): "
        "stimulus or reconstruction is constant, and this protocol's mean passes that on"
        for name, score_I in score.items()
        if np.isnan(score_I).any()
    }
