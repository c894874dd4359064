"""Gradient training: data in memory, early stopping, a checkpoint at epoch borders, exact resume.

The loop is ours, from top to bottom; Fabric launches it in one process or in several and averages
their gradients.

Every random number of epoch e comes from (seed, e): EpochBatches draws images, repeats and captions
from it, and the generators behind dropout and noise are seeded with it when the epoch starts. A
training that was killed and continues from its last checkpoint therefore ends with the same bytes.

When to stop: the score of an epoch is the mean of image and text top-1 on the validation images, or
the mean average precision of a decoder of categories (validation.py), each averaged over subjects.
val_loss is the loss of the validation images, printed and not used: whether it still falls tells
whether a training was long enough (benchmarks/convergence.py).
A few hundred images make it coarse and noisy, so epochs are compared by the mean of their last
WINDOW scores, and only a strictly greater mean replaces the best epoch: of equals the earlier one
stays. Training ends after `patience` epochs without a new best; the weights of the best epoch are
restored.

Under torchrun, the processes train together (DistributedDataParallel; gloo on CPUs). Each draws the
same global batch and decodes its share of it (distributed.py), so batch_size means the same for any
number of processes; a decoder that takes no share decodes all in each process, to the same result.
Only the first process writes files.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from tqdm import tqdm

from fmri2clip.core import watch
from fmri2clip.core.ahead import ahead
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.stages.train.batches import EpochBatches, MixedBatches
from fmri2clip.stages.train.memory import release
from fmri2clip.stages.train.sigterm import heed_sigterm
from fmri2clip.stages.train.validation import validation_loss, validation_scores

WINDOW = 3
ROUNDING = 1e-9  # equal scores have means that differ in the last bits
# Shorter epochs share a checkpoint: writing one costs as much as a small epoch, and at real size it
# has 4.6 GB, so the time between two grows with the time that one takes.
CHECKPOINT_EVERY_S = 30.0
SAVE_SHARE = 20
FALL = 0.2  # share of the steps over which the learning rate falls to 0
DATA_SHARE = 0.4  # of a GPU's free memory that the features of the training images may take

# (epoch, loss, optimizer): called after each step, while its gradients and its learning rate stand.
OnStep = Callable[[int, Tensor, Optimizer], None]


class Config(Protocol):
    """The settings that every gradient decoder's Config has.

    Two more are optional: warmup_epochs (the learning rate rises linearly over so many epochs
    first) and gradient_clip (largest norm of the gradient), 0 for neither.
    """

    lr: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int
    repeats_convex: float
    repeats_mean: float


def fit(
    decoder: Any,
    data: TrainingData | Sequence[TrainingData],
    config: Any,
    *,
    seed: int,
    device: str,
    precision: str = "auto",
    resume_dir: Path,
    on_step: OnStep | None = None,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    progress: str | None = "training",
) -> list[dict[str, float]]:
    """Train `decoder` in place and leave it on the CPU with the weights of its best epoch.

    device: cpu or cuda; precision: auto, fp32 or bf16 (choose_precision); resume_dir: where the
    checkpoint lives, and from where a killed training continues; checkpoint_every_s: at least so
    long between two; progress: label of the progress bar, None for no bar. Returns one row an
    epoch: epoch, mean of each loss term, loss, validation scores. Raises ValueError where what the
    stage reads has changed meanwhile, and after SIGTERM, both behind a checkpoint.
    """
    path = resume_dir / "last.ckpt"
    resume_dir.mkdir(parents=True, exist_ok=True)
    subjects = [data] if isinstance(data, TrainingData) else list(data)
    # Each epoch seeds torch anew (_seed_epoch); the caller's random numbers go on as if there had
    # been no training.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), heed_sigterm() as term:
        fabric = _launch(device, decoder)
        half = choose_precision(fabric.device, precision) == "bf16"
        training, batches, held_out = _prepare(fabric, decoder, subjects, config, seed)
        if path.is_file():
            _load(training, path)
        clock = _Clock(checkpoint_every_s)
        with _make_bar(config.max_epochs, len(training.rows), progress) as bar:
            while not training.is_over(config):
                _seed_epoch(batches, seed, len(training.rows), fabric.global_rank)
                terms = _train_epoch(fabric, training, batches, config, half, on_step)
                row = _end_epoch(decoder, training, batches, held_out, config, terms)
                # Looked at once: a signal that comes later is for the next epoch, which saves.
                stops = fabric.broadcast(bool(term))
                due = training.is_over(config) or clock.is_due() or stops or watch.has_changed()
                if fabric.broadcast(due):  # one clock decides: all processes take part in saving
                    with clock.saving():
                        _save(fabric, training, path)
                bar.set_postfix(loss=row["loss"], val=row["val_mean"], best=training.best_score)
                bar.update()
                watch.check()
                if stops and not training.is_over(config):
                    raise ValueError(
                        f"stopped by SIGTERM after epoch {len(training.rows)} of "
                        f"{config.max_epochs}; run again to go on from there"
                    )
    rows = training.rows
    decoder.zero_grad()
    decoder.cpu().load_state_dict(training.best_state)
    decoder.eval()
    del training, batches, held_out
    release()
    return rows


class _Clock:
    """When the next checkpoint is due: writing takes at most a twentieth of the time."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.saved_at = time.monotonic()
        self.took_s = 0.0

    def is_due(self) -> bool:
        """Whether the last checkpoint is old enough; always where every_s is 0."""
        wait_s = max(self.every_s, SAVE_SHARE * self.took_s) if self.every_s else 0.0
        return time.monotonic() - self.saved_at >= wait_s

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of one."""
        started = time.monotonic()
        yield
        self.saved_at = time.monotonic()
        self.took_s = self.saved_at - started


def choose_precision(device: torch.device, wanted: str) -> str:
    """'fp32' or 'bf16' (autocast; weights stay in float32): auto is bf16 where a GPU computes it.

    GPUs before Ampere, such as V100 and T4, only emulate bf16, at a loss.
    """
    if wanted != "auto":
        return wanted
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp32"


@dataclass
class _Training:
    """What a checkpoint holds."""

    model: Any  # the decoder as Fabric wraps it
    optimizer: Any
    schedule: LRScheduler
    rows: list[dict[str, float]] = field(default_factory=list)
    best_state: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = -1.0
    best_epoch: int = -1

    def is_over(self, config: Config) -> bool:
        """Whether all epochs are done, or patience is."""
        n_done = len(self.rows)
        return n_done >= config.max_epochs or n_done - 1 - self.best_epoch >= config.patience


def _launch(device: str, decoder: torch.nn.Module) -> Fabric:
    """Fabric in the processes that torchrun has started, or in one; deterministic from here on."""
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    torch.use_deterministic_algorithms(True)
    # Filling memory that is overwritten at once takes a twentieth of a small network's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is not deterministic without it
    n_all, n_here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    # Buffers are bases and closed forms, hundreds of megabytes that training never changes; those
    # of batch norms do change, and each process must score epochs by the same.
    has_statistics = any(isinstance(m, torch.nn.BatchNorm1d) for m in decoder.modules())
    ddp = DDPStrategy(broadcast_buffers=has_statistics) if n_all > 1 else "auto"
    # A single process is one whatever SLURM's variables say of the job that it is a part of.
    plugins = LightningEnvironment() if n_all == 1 else None
    fabric = Fabric(
        accelerator=device,
        strategy=ddp,
        devices=n_here,
        num_nodes=n_all // n_here,
        plugins=plugins,
    )
    fabric.launch()
    return fabric


def _prepare(
    fabric: Fabric, decoder: Any, subjects: Sequence[TrainingData], config: Any, seed: int
) -> tuple[_Training, EpochBatches, EpochBatches]:
    """Decoder, optimiser and data on the device of this process, and the batches of an epoch: those
    of training and those of validation images, which show the mean of their repeats.
    """
    # Fabric knows the GPU of this process; 'cuda' alone would be the first one in all of them.
    device = fabric.device
    streams = not fits(sum(map(_count_bytes, subjects)), device)
    placed = [data.to(device, features=not streams) for data in subjects]
    batches = make_batches(decoder, placed, config, seed)
    others = [replace(data, is_validation_I=~data.is_validation_I) for data in placed]
    held_out = make_batches(
        decoder, others, replace(config, repeats_convex=0, repeats_mean=1), seed
    )
    decoder.train()  # an earlier phase has left it in evaluation mode
    return _set_up(fabric, decoder.to(device), config, len(batches)), batches, held_out


def make_batches(
    decoder: Any, data: Sequence[TrainingData], config: Any, seed: int
) -> EpochBatches:
    """The batches of an epoch: of one subject each, or mixed where the decoder serves several."""
    mix = (config.repeats_convex, config.repeats_mean)
    kind = EpochBatches if decoder.per_subject else MixedBatches
    return kind(data, config.batch_size, seed, 0, *mix)


def _count_bytes(data: TrainingData) -> int:
    return sum(value.nbytes for value in data.features.values())


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether features of this size move to the device; else each batch brings its own.

    They may take DATA_SHARE of a GPU's free memory, weights, optimiser and activations the rest.
    """
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= DATA_SHARE * free


def _set_up(fabric: Fabric, decoder: Any, config: Config, n_steps: int) -> _Training:
    """The decoder with AdamW: matrices decay, offsets and gains do not."""
    # Frozen weights are left out. Offsets, gains of norms and the temperature have one dimension or
    # none.
    parameters = [p for p in decoder.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adamw = AdamW(groups, lr=config.lr, fused=True)
    schedule = _make_schedule(adamw, config, n_steps)
    model, optimizer = fabric.setup(decoder, adamw)
    model.mark_forward_method("loss")  # else DistributedDataParallel would not see the call
    return _Training(model, optimizer, schedule)


def _make_schedule(optimizer: Optimizer, config: Config, n_steps: int) -> LRScheduler:
    """lr, constant, and over the last FALL of all steps linear to 0; behind a linear rise if the
    settings have one.

    While the rate is constant a curve shows whether training has converged; under a rate that falls
    it flattens in any case.
    """
    n_all = config.max_epochs * n_steps
    n_fall = FALL * n_all
    # A short training rises over half of its steps at most.
    n_rise = min(getattr(config, "warmup_epochs", 0.0) * n_steps, n_all / 2)

    def factor(step: int) -> float:
        if step < n_rise:
            return (step + 1) / (n_rise + 1)  # never 0: the first step learns too
        return min(1.0, max(0.0, (n_all - step) / n_fall))

    return LambdaLR(optimizer, factor)


def _make_bar(n_epochs: int, n_done: int, label: str | None) -> tqdm[Any]:
    off = True if label is None else None  # None: tqdm hides itself where no terminal watches
    return tqdm(total=n_epochs, initial=n_done, desc=label, unit="epoch", disable=off)


def _seed_epoch(batches: EpochBatches, seed: int, epoch: int, rank: int) -> None:
    """The random numbers of an epoch; only dropout and noise differ between processes."""
    batches.epoch = epoch
    # Not from where the last epoch left the generator: a training that resumes at a checkpoint
    # draws what it would have drawn. Each process draws noise of its own, hence the rank.
    state = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint32)
    torch.manual_seed((int(state[0]) << 31 | int(state[1]) >> 1) + rank)


def _train_epoch(
    fabric: Fabric,
    training: _Training,
    batches: EpochBatches,
    config: Any,
    half: bool,
    on_step: OnStep | None,
) -> dict[str, float]:
    """One step a batch; returns the mean of each loss term."""
    model = training.model
    optimizer = training.optimizer
    clip = getattr(config, "gradient_clip", 0.0)
    # Not Fabric's bf16-mixed, which rounds the batch, too. Without the cache, each use of a weight
    # adds its gradient in float32.
    kind = fabric.device.type
    autocast = torch.autocast(kind, torch.bfloat16, enabled=half, cache_enabled=False)
    sums: dict[str, Tensor] = {}
    # A thread begins on the first GPU, whose memory is another process'.
    on_gpu = partial(torch.cuda.set_device, fabric.device) if kind == "cuda" else None
    for i, batch in enumerate(ahead(batches, on_gpu) if batches.streams else batches):
        with autocast:
            terms = model.loss(batch, batches.epoch + i / len(batches))
            loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        fabric.backward(loss)
        if clip:
            fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=False)
        optimizer.step()
        if on_step:
            on_step(batches.epoch, loss.detach(), optimizer)
        training.schedule.step()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value.detach()
    return {name: float(value) / len(batches) for name, value in sums.items()}


def _end_epoch(
    decoder: Any,
    training: _Training,
    batches: EpochBatches,
    held_out: EpochBatches,
    config: Any,
    terms: dict[str, float],
) -> dict[str, float]:
    """Score the epoch and keep its weights if they are the best; returns its row of the curve."""
    epoch = len(training.rows)
    loss = sum(terms.values())
    if not np.isfinite(loss):
        raise ValueError(
            f"the loss became {loss} in epoch {epoch} (terms {terms}); lower lr of the decoder"
        )
    scores = [validation_scores(decoder, data) for data in batches.data]
    means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    val_loss = validation_loss(decoder, held_out, config.max_epochs)
    row = {"epoch": epoch, **terms, "loss": loss, "val_loss": val_loss, **means}
    training.rows.append(row)
    smooth = float(np.mean([r["val_mean"] for r in training.rows[-WINDOW:]]))
    if smooth > training.best_score + ROUNDING:
        training.best_score = smooth
        training.best_epoch = epoch
        _copy_state(decoder, training.best_state)
    return row


STATEFUL = ("model", "optimizer", "schedule")  # fields of _Training that know how to be saved


def _save(fabric: Fabric, training: _Training, path: Path) -> None:
    """Write the checkpoint under a temporary name: a killed process leaves the last one whole.

    Not with fabric.save, which holds all of the file in memory first.
    """
    content = dict(vars(training))
    content |= {name: content[name].state_dict() for name in STATEFUL}
    # The weights of the last epoch are there as those of the model.
    if training.best_epoch == len(training.rows) - 1:
        content["best_state"] = {}
    if fabric.is_global_zero:
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            torch.save(content, temporary)
        except RuntimeError as error:
            # What torch makes of a full disk names neither the disk nor the file.
            temporary.unlink(missing_ok=True)
            raise OSError(f"{path} cannot be written ({error}); is the disk full?") from None
        os.replace(temporary, path)
    fabric.barrier()


def _load(training: _Training, path: Path) -> None:
    """Go on from a checkpoint; from the start where the file is damaged, which the next one
    replaces.
    """
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it ends too early")
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"{path} is damaged ({reason}): the training starts anew", stacklevel=3)
        return
    for name in STATEFUL:
        getattr(training, name).load_state_dict(content.pop(name))
    vars(training).update(content)
    # Copies: the next checkpoint replaces the file that these tensors are mapped from.
    training.best_state = {n: value.clone() for n, value in training.best_state.items()}
    if not training.best_state:
        _copy_state(training.model.module, training.best_state)


def _copy_state(decoder: Any, state: dict[str, Tensor]) -> None:
    """The weights into `state`, on the CPU, where the decoder is left in the end.

    Into the tensors that are there: at real size a second copy is 1.5 GB.
    """
    for name, value in decoder.state_dict().items():
        if name in state:
            state[name].copy_(value)
        else:
            state[name] = value.detach().to("cpu", copy=True)
