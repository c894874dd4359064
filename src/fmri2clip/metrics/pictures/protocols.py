"""Named protocols for reconstructed pictures: every resize, filter, layer, weights tag and
distance, as one table.

mindeye-2023         Scotti et al. 2023 (MedARC-AI/fMRI-reconstruction-NSD,
                     src/Reconstruction_Metrics.py). MindEye2 measures the same way, save that it
                     does not clamp and blends "enhanced" pictures beforehand.
braindiffuser-2023   Ozcelik and VanRullen 2023 (ozcelikfu/brain-diffuser,
                     scripts/eval_extract_features.py and evaluate_reconstruction.py). Its
                     `weights=True` gave EfficientNet-B1 its first weights.
strict-v1            ours: mindeye-2023 with antialiased resizing, both directions of two-way
                     identification, half a credit for ties and 0 for undefined correlations (a
                     constant picture is neither dropped nor does it undo the mean), float32
                     networks, and brain correlation as the last metric.

Reconstructions are stored at 8 bits before any protocol sees them, where MindEye measures float
tensors.

Resizing, and what else differs under the same names: the two published protocols pin the behaviour
of the versions that they were run with. torchvision < 0.17 did not antialias tensors; scikit-image
< 0.20 took `multichannel=True` on a grey picture as one 1-D signal a pixel column.

Letters: I images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fmri2clip.core.strict import suggest

DIRECTIONS = ("image_given_reconstruction", "reconstruction_given_image")
SLOTS = ("alexnet", "inception", "clip", "efficientnet", "swav")


@dataclass(frozen=True, kw_only=True)
class Resize:
    """One step to a square picture."""

    size: int  # pixels
    filter: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    # torchvision on float tensors, Pillow on 8-bit pictures
    library: Literal["tensor", "pillow"] = "tensor"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.library == "pillow" and not self.antialias:
            raise ValueError(
                "Pillow always antialiases; set antialias to true, or library to tensor"
            )
        if self.library == "tensor" and self.filter == "lanczos":
            raise ValueError(
                "torchvision resizes no tensor by lanczos; choose bilinear or bicubic, or library "
                "pillow"
            )


@dataclass(frozen=True, kw_only=True)
class NetworkMetric:
    """What is compared inside one network."""

    slot: str  # which network is asked for, one of SLOTS
    # tag: torchvision's enum, open_clip's model/pretrained, or the name of the published file
    weights: str
    layers: Mapping[str, str]  # metric -> layer; 'output': what the network returns
    # after the common steps; the last gives the size that the network sees
    resize: tuple[Resize, ...]
    comparison: Literal["two_way", "distance"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How pictures are measured."""

    name: str
    eight_bit: bool  # pictures are rounded to 8 bits first, as by a PNG file
    clamp: bool  # to [0, 1]
    common: tuple[Resize, ...]  # steps before all metrics
    pixels: tuple[Resize, ...]  # further steps before PixCorr and SSIM
    ssim_columns: bool  # SSIM of each pixel column as a 1-D signal
    networks: tuple[NetworkMetric, ...]
    directions: tuple[str, ...]  # of two-way identification, named after what is searched
    tie_credit: float  # of an exactly as similar distractor
    decimals: int  # correlations that agree to here are ties
    # in place of the correlation with a constant; NaN makes the mean of the metric undefined
    undefined: float
    fp32: bool  # networks of another precision are refused
    brain: bool  # with brain correlation

    def __post_init__(self) -> None:
        steps = [
            *self.common,
            *self.pixels,
            *(step for metric in self.networks for step in metric.resize),
        ]
        # Pillow has no float pictures in colour.
        if any(step.library == "pillow" for step in steps) and not self.eight_bit:
            raise ValueError(f"protocol {self.name} resizes with Pillow, which needs eight_bit")
        unknown = [direction for direction in self.directions if direction not in DIRECTIONS]
        if unknown or not self.directions:
            raise ValueError(
                f"protocol {self.name} has directions {list(self.directions)}; choose from "
                f"{DIRECTIONS}"
            )

    def metrics(self) -> list[str]:
        """Names of all metrics, in the order of a report."""
        network = [name for metric in self.networks for name in metric.layers]
        return ["pixcorr", "ssim", *network, *(["brain_correlation"] if self.brain else [])]


def _plain(size: int) -> Resize:
    return Resize(size=size, antialias=False)


def _antialiased(size: int) -> Resize:
    return Resize(size=size)


def _pillow(size: int) -> Resize:
    return Resize(size=size, library="pillow")


def _networks(
    step: Callable[[int], Resize], sizes: Mapping[str, int], efficientnet: str
) -> tuple[NetworkMetric, ...]:
    """features.4 and features.11 are AlexNet's second and fifth convolution after their ReLU."""
    rows: tuple[tuple[str, str, dict[str, str], Literal["two_way", "distance"]], ...] = (
        (
            "alexnet",
            "AlexNet_Weights.IMAGENET1K_V1",
            {"alexnet2": "features.4", "alexnet5": "features.11"},
            "two_way",
        ),
        ("inception", "Inception_V3_Weights.IMAGENET1K_V1", {"inception": "avgpool"}, "two_way"),
        ("clip", "ViT-L-14-quickgelu/openai", {"clip": "output"}, "two_way"),
        ("efficientnet", efficientnet, {"effnet": "avgpool"}, "distance"),
        ("swav", "swav_800ep_pretrain", {"swav": "avgpool"}, "distance"),
    )
    return tuple(
        NetworkMetric(
            slot=slot,
            weights=tag,
            layers=layers,
            resize=(step(sizes[slot]),),
            comparison=comparison,
        )
        for slot, tag, layers, comparison in rows
    )


_SIZES = {"alexnet": 256, "inception": 342, "clip": 224, "efficientnet": 255, "swav": 224}
_MINDEYE = Protocol(
    name="mindeye-2023",
    eight_bit=False,
    clamp=True,
    common=(_plain(256),),
    pixels=(_plain(425),),
    ssim_columns=False,
    networks=_networks(_plain, _SIZES, "EfficientNet_B1_Weights.IMAGENET1K_V2"),
    directions=("image_given_reconstruction",),
    tie_credit=0.0,
    decimals=9,  # sums in another order must not decide
    undefined=float("nan"),
    fp32=False,  # OpenAI's CLIP computes in half precision on a GPU, where near-ties may flip
    brain=False,
)
_BRAINDIFFUSER = replace(
    _MINDEYE,
    name="braindiffuser-2023",
    eight_bit=True,
    common=(),
    pixels=(Resize(size=425, filter="bicubic", library="pillow"),),
    ssim_columns=True,
    networks=_networks(_pillow, dict.fromkeys(SLOTS, 224), "EfficientNet_B1_Weights.IMAGENET1K_V1"),
)
_STRICT = replace(
    _MINDEYE,
    name="strict-v1",
    common=(_antialiased(256),),
    pixels=(_antialiased(425),),
    networks=_networks(_antialiased, _SIZES, "EfficientNet_B1_Weights.IMAGENET1K_V2"),
    directions=DIRECTIONS,
    tie_credit=0.5,
    decimals=6,  # float32 features of the same picture in another batch agree to about here
    undefined=0.0,
    fp32=True,
    brain=True,
)
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for protocol in (_MINDEYE, _BRAINDIFFUSER, _STRICT)
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ValueError for another name."""
    if name not in PROTOCOLS:
        raise ValueError(
            f"protocol {name!r} is not known{suggest(name, PROTOCOLS)}; choose from "
            f"{', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]
