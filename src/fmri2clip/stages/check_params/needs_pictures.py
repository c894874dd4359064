"""What painting and measuring of pictures takes: one function a stage.

Letters: N trials, J training images, V voxels, F features of a picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from fmri2clip.core.params import MEAN_IMAGE, TARGET, Reconstruction
from fmri2clip.stages.check_params.case import WITH_TORCH, Case, Need
from fmri2clip.stages.check_params.machine import CPU, GB, TERA
from fmri2clip.stages.check_params.sizes import HALF, SINGLE, Subject

WITH_DIFFUSERS = 0.8 * GB  # Python with torch, diffusers and transformers imported; assumed
# Features of a picture that the encoding model reads: two layers of AlexNet on a grid of 6 x 6, of
# the stand-in 6 x 6 and 4 x 4 (metrics/pictures/brain_correlation.py, small_alexnet.py)
ENCODING_FEATURES = {"": 36 * (192 + 256), "stand-in": 36 * 96 + 64 * 96}
ENCODING_ALPHAS = 6
ENCODING_FOLDS = 3
# AlexNet, Inception-v3, EfficientNet-B1 and SwAV's ResNet-50: weights, FLOP of a picture at their
# sizes, and bytes to fetch (docs/pictures.md)
NETWORK_WEIGHTS = 61e6 + 27e6 + 8e6 + 28e6
NETWORK_FLOPS = 20e9
NETWORK_BYTES = 0.5 * GB
# Seconds a subject for what the simulated cortex answers, on one core; measured
ANSWERING = 37.0
SCORING = 0.02  # seconds a picture and protocol on the CPU, for SSIM and resizing at 425 pixels


@dataclass(frozen=True, kw_only=True)
class Painter:
    """A family of generators: weights, and FLOP of one pass of its U-Net and of its decoder."""

    n_weights: float
    pass_flops: float
    decode_flops: float
    side: int  # pixels
    working: float  # bytes of a picture of a batch while it is painted, in half precision


# Weights: docs/pictures.md. FLOP: 0.8 TFLOP a pass at 512 pixels for the U-Net of Stable Diffusion
# 1, in proportion to the area beyond. These, passes included, and working memory are assumed.
PAINTERS = {
    "versatile": Painter(
        n_weights=1.8e9,
        pass_flops=0.8 * TERA,
        decode_flops=2.5 * TERA,
        side=512,
        working=0.6 * GB,
    ),
    "unclip": Painter(
        n_weights=1.6e9,
        pass_flops=1.8 * TERA,
        decode_flops=5.6 * TERA,
        side=768,
        working=1.2 * GB,
    ),
    "ip_adapter": Painter(
        n_weights=1.1e9,
        pass_flops=0.8 * TERA,
        decode_flops=2.5 * TERA,
        side=512,
        working=0.6 * GB,
    ),
}


def reconstruct(case: Case) -> list[Need]:
    """Pictures of every entry, one generator at a time.

    RAM: features of all rows in float32 twice (a list, then joined), those of one subject in
    float16, and the generator while it is loaded.
    """
    entries = case.params.reconstructions
    used = {entry.generator for entry in entries.values() if entry.source != MEAN_IMAGE}
    painters = {name: find_painter(case, name) for name in used}
    features = [count_features(case, entry) for entry in entries.values()]
    weights = [_weight_bytes(case, name) * p.n_weights for name, p in painters.items()]
    # Several generators may be one pipeline with other settings.
    hub = {str(case.params.generators[name]["path"]): p for name, p in painters.items()}
    fetched = sum(SINGLE * p.n_weights for path, p in hub.items() if not Path(path).is_dir())
    files = [_picture_bytes(case, entry) for entry in entries.values()]
    working = [
        case.params.generators[n].get("batch_size", 8) * p.working for n, p in painters.items()
    ]
    ram = WITH_DIFFUSERS + max(features, default=0.0) + max(weights, default=0.0)
    gpu = max((w + b for w, b in zip(weights, working, strict=True)), default=0.0) + GB
    return [
        Need(
            stage="reconstruct",
            download=fetched,
            disk=sum(files) + fetched,
            cached=sum(files),
            scratch=max(files, default=0.0),
            ram=ram if case.has_gpu else ram + max(working, default=0.0),
            gpu=gpu if case.has_gpu else 0.0,
            seconds=10
            + sum(_painting_seconds(case, entry) for entry in entries.values())
            + fetched / case.device.network,
        )
    ]


def find_painter(case: Case, name: str) -> Painter:
    """Size of a generator: of its family, or of a pipeline in a folder by the sizes of its files.

    Of a folder, 2 FLOP a weight and place of the latent, a quarter of them as places get fewer.
    """
    settings = case.params.generators[name]
    folder = Path(str(settings["path"]))
    known = PAINTERS.get(str(settings["family"]))
    if known is not None and not folder.is_dir():
        return known
    n_weights = sum(p.stat().st_size for p in folder.rglob("*.safetensors")) / SINGLE
    places = _unet_side(folder) ** 2
    side = case.side if known is None else known.side
    return Painter(
        n_weights=n_weights,
        pass_flops=n_weights * places / 2,
        decode_flops=n_weights * places,
        side=side,
        working=side**2 * 3 * SINGLE * 64,
    )


def _unet_side(folder: Path) -> int:
    """Places of a side of the latent, from the U-Net's config; 64 if there is none."""
    path = folder / "unet" / "config.json"
    if not path.is_file():
        return 64
    size = json.loads(path.read_text()).get("sample_size", 64)
    return int(size if isinstance(size, int) else max(size))


def _weight_bytes(case: Case, name: str) -> int:
    return SINGLE if case.params.generators[name].get("precision", "fp32") == "fp32" else HALF


def count_rows(case: Case, entry: Reconstruction) -> int:
    """Pictures of an entry: of each subject of its run, or of all test images once."""
    wanted = case.params.pictures.n_images

    def limit(n: int) -> int:
        return min(wanted or n, n)

    if entry.source in (TARGET, MEAN_IMAGE):
        return limit(case.n_test_images)
    run = case.params.runs[entry.source]
    return sum(limit(case.subjects[s].n_test_images) for s in run.subjects)


def count_features(case: Case, entry: Reconstruction) -> float:
    """Bytes of RAM of the features of an entry, see reconstruct."""
    if entry.source == MEAN_IMAGE:
        return 0.0
    clip = case.params.generators[entry.generator]["clip_model"]
    name = next((n for n, c in case.params.clips.items() if c.model == clip), "")
    shape = case.clips.get(name) or next(iter(case.clips.values()))
    numbers = shape.width_D
    if entry.reads != "embedding":
        numbers = prod(shape.arrays.get("semantic_tokens_ITD", (shape.width_D,)))
    if entry.text:
        numbers += prod(shape.arrays.get("text_tokens_IUD", (0,)))
    n_subjects = 1
    if entry.source in case.params.runs:
        n_subjects = len(case.params.runs[entry.source].subjects)
    rows = count_rows(case, entry)
    return rows * numbers * (2 * SINGLE + HALF / n_subjects)


def _side(case: Case, entry: Reconstruction) -> int:
    """Pixels of a side of an entry's pictures; the mean image is as large as a photograph."""
    return case.side if entry.source == MEAN_IMAGE else find_painter(case, entry.generator).side


def _picture_bytes(case: Case, entry: Reconstruction) -> float:
    return count_rows(case, entry) * _side(case, entry) ** 2 * 3


def _painting_seconds(case: Case, entry: Reconstruction) -> float:
    """Seconds of an entry: steps x passes (two if guided) of the U-Net, and the decoder."""
    if entry.source == MEAN_IMAGE:
        return 0.0
    settings = case.params.generators[entry.generator]
    painter = find_painter(case, entry.generator)
    passes = settings.get("steps", 20) * (2 if settings.get("guidance_scale", 1.0) > 1 else 1)
    flops = passes * painter.pass_flops + painter.decode_flops
    half = _weight_bytes(case, entry.generator) == HALF
    speed = case.device.half if half else case.device.single
    return count_rows(case, entry) * entry.n_candidates * flops / speed


def score_pictures(case: Case) -> list[Need]:
    """Every picture beside its stimulus, subject by subject; an encoding model of each brain."""
    pictures = case.params.pictures
    if not case.params.reconstructions:
        return [Need(stage="score_pictures", ram=WITH_TORCH, seconds=10)]
    clip = case.clips[pictures.clip] if pictures.clip else None
    published = not pictures.classifier
    weights = SINGLE * (clip.n_weights if clip else 0.0)
    weights += SINGLE * NETWORK_WEIGHTS if published else 0.0
    flops = (clip.image_flops if clip else 0.0) + (NETWORK_FLOPS if published else 0.0)
    n_rows = sum(count_rows(case, e) for e in case.params.reconstructions.values())
    n_pictures = n_rows * len(pictures.protocols)
    ram = max(_scoring_ram(case, subject) for subject in case.subjects.values())
    encoding = sum(_encoding_seconds(case, s) for s in case.subjects.values())
    answering = 0.0 if case.is_real else ANSWERING * len(case.subjects)
    fetched = NETWORK_BYTES if published and pictures.download else 0.0
    return [
        Need(
            stage="score_pictures",
            download=fetched,
            disk=fetched + n_rows * 300,
            cached=n_rows * 300,
            ram=WITH_TORCH + weights + ram,
            gpu=weights + 2 * GB if case.has_gpu else 0.0,
            seconds=10
            + encoding
            + answering
            + n_pictures * (flops / case.device.single + SCORING * (case.side / 425) ** 2),
        )
    ]


def _scoring_ram(case: Case, subject: Subject) -> float:
    """The encoding model of one subject: 2 N V of trials, 8 J V of means, 12 J F of features, and
    16 J^2 of the kernel or 4 J^2 + 8 J V + 8 F V of the weights. Pictures are read in batches.
    """
    if not case.params.pictures.brain:
        return 0.0
    n, n_voxels = subject.n_train_images, subject.n_voxels
    n_features = ENCODING_FEATURES["stand-in" if case.params.pictures.classifier else ""]
    fitting = 2 * subject.n_train_trials * n_voxels + 2 * SINGLE * n * n_voxels
    fitting += 3 * SINGLE * n * n_features
    kernel = SINGLE * n**2
    weights = 2 * SINGLE * n_voxels * (n + n_features)
    return fitting + max(4 * kernel, kernel + weights)


def _encoding_seconds(case: Case, subject: Subject) -> float:
    """Seconds of the encoding model, on the CPU: see memory.count_closed_seconds, V targets."""
    if not case.params.pictures.brain:
        return 0.0
    n = subject.n_train_images
    n_features = ENCODING_FEATURES["stand-in" if case.params.pictures.classifier else ""]
    k = ENCODING_FOLDS
    narrow = min(n, subject.n_voxels)
    choice = 2 * n**3 / k + 2 * n**2 * narrow * (1 + 1 / k)
    products = 2 * n**2 * (n_features + narrow) + ENCODING_ALPHAS * choice
    products += 2 * n * subject.n_voxels * (2 * n + n_features)
    return products / CPU.single + 9 * n**3 / CPU.eigen
