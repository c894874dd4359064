"""What the parts of gpu_check.py are made of: random data of real shape, trainings with a clock,
and looks at the GPU's memory.

Letters: N trials, I images, V voxels, T image tokens, U text tokens, D embedding, C categories.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmri2clip.core.params import load
from fmri2clip.decoders import load_decoder
from fmri2clip.decoders.batches import Basis, TrainingData
from fmri2clip.stages.count_parameters.settings import nsd_config

ROOT = Path(__file__).resolve().parents[1]
GB = 1e9
N_REAL_IMAGES, N_REAL_TRIALS, N_REAL_SUBJECTS = 9_000, 27_000, 4
PRESET = ROOT / "presets" / "nsd.yaml"
# Voxels of ROIs as shares of all, one after the other: four early areas, four of categories, and
# two streams, without which principal axes of the rest would take a minute.
AREAS = {
    "prf-visualrois/V1v": 0.085,
    "prf-visualrois/V2v": 0.09,
    "prf-visualrois/V3v": 0.075,
    "prf-visualrois/hV4": 0.05,
    "floc-bodies": 0.1,
    "floc-faces": 0.08,
    "floc-words": 0.06,
    "floc-places": 0.09,
    "streams/lateral": 0.12,
    "streams/parietal": 0.12,
}
N_EARLY, N_LABELLED = 4, 8
AREA_NAMES = ", ".join([*AREAS, "rest"])
TOY_WIDTHS: dict[str, dict[str, Any]] = {
    "ridge": {"n_alphas": 2, "n_folds": 2},
    "brainclip": {"hidden": 16, "batch_size": 16},
    "brainmclip": {
        "hidden": 16,
        "blocks": 1,
        "token_rank": 4,
        "nce_tokens": 2,
        "batch_size": 16,
    },
    "clip_mused": {
        "components": 4,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "batch_size": 16,
    },
    "label_ridge": {"components": 4, "n_alphas": 2, "n_folds": 2},
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large everything is."""

    name: str = "real"
    device: str = "cuda"
    n_voxels: int = 15_724
    n_tokens: int = 257
    n_text: int = 77
    width: int = 768
    n_components: int = 512
    n_low: int = 1024
    n_validation: int = 100
    n_epochs: int = 10
    n_steps: int = 20  # of an epoch
    n_compared: int = 3  # steps on the CPU and on the GPU
    n_closed: int = 4_096  # images of the closed forms
    n_pictures: int = 1_024  # through CLIP
    n_painted: int = 4


REAL = Size()
TOY = Size(
    name="toy",
    device="cpu",
    n_voxels=60,
    n_tokens=5,
    n_text=4,
    width=16,
    n_components=6,
    n_low=8,
    n_validation=16,
    n_epochs=3,
    n_steps=3,
    n_closed=60,
    n_pictures=6,
)


class Enough(Exception):
    """As many steps as were asked for are done."""


# Data and decoders


def make_data(
    size: Size, n_images: int, targets: Sequence[str], subject: str = "subj01", seed: int = 0
) -> TrainingData:
    """Random data of one subject, two trials an image: training images, then validation images.

    targets: cached arrays that are needed beside the embeddings.
    """
    rng = np.random.default_rng(seed)
    n_all = n_images + size.n_validation

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape, np.float32))

    def draw_half(*shape: int) -> Tensor:
        out = torch.empty(shape, dtype=torch.float16)
        for block in out.split(128):  # the float32 of a block, not of all
            block.copy_(draw(*block.shape))
        return out

    shapes = {
        "semantic_tokens_ITD": (size.n_tokens, size.width),
        "detail_tokens_ITD": (size.n_tokens, size.width),
        "text_tokens_IUD": (size.n_text, size.width),
        "low_mean_IW": (size.n_low,),
        "low_cls_IW": (size.n_low,),
        "detail_class_IW": (size.width,),
    }
    bases = {
        "semantic": (size.n_components, size.n_tokens - 1, size.width),
        "detail": (size.n_components, size.n_tokens - 1, size.width),
        "text": (size.n_components, size.n_text, size.width),
    }
    scores = [f"{stream}_components_IP" for stream in bases]
    wanted = [name for target in targets for name in target.split("|")]
    areas = make_areas(size.n_voxels)
    return TrainingData(
        subject=subject,
        betas_NV=draw(2 * n_all, size.n_voxels),
        image_N=torch.arange(n_all).repeat(2),
        nsd_id_I=torch.arange(n_all),
        image_embedding_ID=normalize(draw(n_all, size.width) + 1, dim=1),
        text_embedding_KD=normalize(draw(n_all, size.width) + 1, dim=1),
        caption_image_K=torch.arange(n_all),
        caption_K=[f"picture {i}" for i in range(n_all)],
        is_validation_I=torch.arange(n_all) >= n_images,
        features={
            **{n: draw_half(n_all, *shape) for n, shape in shapes.items() if n in wanted},
            **{n: draw(n_all, size.n_components) for n in scores if n in wanted},
        },
        bases={
            stream: Basis(draw(*shape[1:]), draw_half(*shape) / prod(shape[1:]) ** 0.5)
            for stream, shape in bases.items()
            if f"{stream}_components_IP" in wanted
        },
        groups={name: areas.pop(name) for name in ("low", "high", "all")},
        rois=areas,
        labels_IC=torch.from_numpy(rng.random((n_all, 80)) < 0.1),
    )


def make_areas(n_voxels: int) -> dict[str, Tensor]:
    """Members (V) of the areas, and of the groups low, high and all."""
    edges = np.cumsum([0, *(round(share * n_voxels) for share in AREAS.values())]).tolist()
    voxel = torch.arange(n_voxels)
    areas = {
        name: (voxel >= first) & (voxel < last)
        for name, first, last in zip(AREAS, edges[:-1], edges[1:], strict=True)
    }
    early = edges[N_EARLY]
    return areas | {
        "low": voxel < early,
        "high": (voxel >= early) & (voxel < edges[N_LABELLED]),
        "all": voxel >= 0,
    }


def make_config(name: str, size: Size, **changes: Any) -> Any:
    """Settings of a decoder as presets/nsd.yaml has them, with changes; small ones for a toy."""
    config_class = load_decoder(name).Config
    config = nsd_config(load(ROOT / "params.yaml"), name, config_class, PRESET)
    toy = TOY_WIDTHS[name] if size.name == "toy" else {}
    areas = {"areas": AREA_NAMES} if hasattr(config, "areas") else {}
    return replace(config, **{**toy, **areas, **changes})


def make_training(
    name: str, size: Size, n_steps: int = 0, **changes: Any
) -> tuple[Any, list[TrainingData], Any]:
    """Settings, data and untrained decoder of a gradient training of n_epochs x n_steps.

    A decoder that serves several subjects gets two.
    """
    epochs = {"max_epochs": size.n_epochs, "patience": size.n_epochs}
    config = make_config(name, size, **{**epochs, **changes})
    module = load_decoder(name)
    names = ["subj01"] if module.Decoder.per_subject else ["subj01", "subj02"]
    n_images = config.batch_size * (n_steps or size.n_steps) // len(names)
    targets = module.Decoder.select_targets(config)
    data = [make_data(size, n_images, targets, s, seed) for seed, s in enumerate(names)]
    return config, data, module.Decoder.from_data(config, data, 0)


def without_dropout(decoder: Any, data: Sequence[TrainingData]) -> Any:
    """The same weights with all dropout at 0: its noise differs between devices."""
    zeros = {f.name: 0.0 for f in dataclasses.fields(decoder.config) if "dropout" in f.name}
    config = replace(decoder.config, **zeros)
    n_voxels: Any = {d.subject: d.betas_NV.shape[1] for d in data}
    if decoder.per_subject:
        n_voxels = data[0].betas_NV.shape[1]
    width_D = data[0].image_embedding_ID.shape[1]
    other = type(decoder)(config, n_voxels, width_D, 0, **(decoder.sizes or {}))
    other.load_state_dict(decoder.state_dict())
    return other


# Training and timing


class Steps:
    """Losses of all steps, and when the first and the last step of each epoch were done."""

    def __init__(self, device: str, n_steps: int, stop_after: int = 0) -> None:
        self.device = device
        self.n_steps = n_steps
        self.stop_after = stop_after
        self.losses: list[Tensor] = []
        self.marks: list[float] = []

    def __call__(self, epoch: int, loss: Tensor, optimizer: Any) -> None:
        """What the trainer calls after each step."""
        self.losses.append(loss)
        if len(self.losses) % self.n_steps in (0, 1):
            self.marks.append(now(self.device))
        if self.stop_after and len(self.losses) == self.stop_after:
            raise Enough

    def seconds(self) -> float:
        """Seconds of a step: mean over the epochs but the first, validation left out."""
        pairs = zip(self.marks[2::2], self.marks[3::2], strict=True)
        spans = [last - first for first, last in pairs]
        return sum(spans) / (len(spans) * (self.n_steps - 1))

    def values(self) -> list[float]:
        """Losses as numbers."""
        return [float(loss) for loss in self.losses]


def now(device: str) -> float:
    """Seconds, when all that the GPU was asked for is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def train(
    decoder: Any,
    data: Sequence[TrainingData],
    config: Any,
    device: str,
    *,
    precision: str = "auto",
    steps: Steps | None = None,
) -> None:
    """trainer.fit; it ends early where `steps` has had enough."""
    from fmri2clip.stages.train import trainer

    with tempfile.TemporaryDirectory() as temporary, contextlib.suppress(Enough):
        trainer.fit(
            decoder,
            data,
            config,
            seed=0,
            device=device,
            precision=precision,
            resume_dir=Path(temporary),
            on_step=steps,
            checkpoint_every_s=1e9,
            progress=None,
        )
    gc.collect()


def first_losses(
    decoder: Any,
    data: Sequence[TrainingData],
    device: str,
    precision: str,
    n: int,
) -> list[float]:
    """Losses of the first n steps of a copy of the decoder."""
    steps = Steps(device, 10**9, stop_after=n)
    train(copy.deepcopy(decoder), data, decoder.config, device, precision=precision, steps=steps)
    return steps.values()


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """Largest relative difference of two sequences."""
    a, b = (np.array(values) for values in (found, expected))
    return float(np.max(np.abs(a - b) / np.abs(b)))


def make_batches(data: Sequence[TrainingData], config: Any, per_subject: bool) -> list[Any]:
    """Batches of the first epoch, on the device of the data."""
    from fmri2clip.stages.train.batches import EpochBatches, MixedBatches

    kind = EpochBatches if per_subject else MixedBatches
    mix = (config.repeats_convex, config.repeats_mean)
    return list(kind(list(data), config.batch_size, 0, 0, *mix))


def time_bare_loop(
    decoder: Any, data: Sequence[TrainingData], config: Any, size: Size
) -> dict[str, float]:
    """Seconds of a step, and operations of one, with the same module and optimiser and with batches
    that lie ready on the device.
    """
    from fmri2clip.stages.train import trainer

    device = torch.device(size.device)
    decoder = decoder.to(device).train()
    batches = make_batches([d.to(device) for d in data], config, decoder.per_subject)
    weights = [p for p in decoder.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr / 10, fused=True)
    half = trainer.choose_precision(device, "auto") == "bf16"
    clip = getattr(config, "gradient_clip", 0.0)

    def forward_backward(batch: Any, epoch: float) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            loss = torch.stack(list(decoder.loss(batch, epoch).values())).sum()
        optimizer.zero_grad()
        loss.backward()

    spans = []
    for epoch in range(config.max_epochs):
        for i, batch in enumerate(batches):
            forward_backward(batch, epoch + i / len(batches))
            if clip:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            optimizer.step()
            if i == 0:
                started = now(size.device)
        spans.append(now(size.device) - started)
    seconds = sum(spans[1:]) / (len(spans[1:]) * (len(batches) - 1))
    return {"seconds": seconds, "flops": count_operations(lambda: forward_backward(batches[0], 0))}


def count_operations(step: Callable[[], None]) -> float:
    """Floating-point operations of the matrix products of one step, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def reset_memory(device: str) -> None:
    """Forget peaks; give back what nobody holds."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: str) -> float:
    """Largest memory of the GPU since reset_memory; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / GB if device == "cuda" else 0.0


def held_gb(device: str) -> float:
    """Memory of the GPU that is held now."""
    return torch.cuda.memory_allocated() / GB if device == "cuda" else 0.0


def missing_gb(data: Sequence[TrainingData]) -> float:
    """What real subjects have on the GPU beyond these data: trials, means of repeats, features."""
    found = 0.0
    n_subjects = 1 if len(data) == 1 else N_REAL_SUBJECTS
    one = data[0]
    n_images, n_voxels = len(one.nsd_id_I), one.betas_NV.shape[1]
    features = sum(value.nbytes for value in one.features.values()) / n_images
    found += n_subjects * 4 * n_voxels * (N_REAL_TRIALS + N_REAL_IMAGES)
    found += n_subjects * features * N_REAL_IMAGES
    for d in data:
        found -= 4 * n_voxels * (len(d.betas_NV) + n_images)
        found -= sum(value.nbytes for value in d.features.values())
    return found / GB


def start(function: Callable[..., None], *arguments: Any) -> Any:
    """A process that calls a function: a fork for a toy, as CUDA does not survive a fork."""
    way = "spawn" if torch.cuda.is_available() else "fork"
    process = multiprocessing.get_context(way).Process(target=function, args=arguments)
    process.start()
    return process
