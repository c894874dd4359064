"""Gradient training through Lightning: data in memory, early stopping, exact resume.

Every random number of epoch e comes from (seed, e): EpochBatches draws images, repeats and captions
from it, and the generators behind dropout and noise are seeded with it when the epoch starts. A
training that was killed and continues from its last checkpoint therefore ends with the same bytes.

When to stop: the score of an epoch is the mean of image and text top-1 on the validation images, or
the mean average precision of a decoder of categories (validation.py), each averaged over subjects.
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
import math
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fmri2clip.decoders.batches import Batch, MixedBatch, TrainingData
from fmri2clip.stages.train.data import EpochBatches, MixedBatches
from fmri2clip.stages.train.validation import validation_scores

WINDOW = 3
ROUNDING = 1e-9  # equal scores have means that differ in the last bits
# Shorter epochs share a checkpoint: writing one costs as much as a small epoch.
CHECKPOINT_EVERY_S = 30.0


class Config(Protocol):
    """The settings that every gradient decoder's Config has.

    Two more are optional: warmup_epochs (the learning rate rises linearly over so many epochs
    before the cosine) and gradient_clip (largest norm of the gradient), 0 for neither.
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
    resume_dir: Path,
    callbacks: Sequence[pl.Callback] = (),
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    progress: str | None = "training",
) -> list[dict[str, float]]:
    """Train `decoder` in place and leave it on the CPU with the weights of its best epoch.

    device: cpu or cuda (then bfloat16 autocast); resume_dir: where the checkpoint lives, and from
    where a killed training continues; progress: label of the progress bar, None for no bar. Returns
    one row an epoch: epoch, mean of each loss term, loss, validation scores.
    """
    given = [data] if isinstance(data, TrainingData) else data
    subjects = [d.to(device) for d in given]
    mix = (config.repeats_convex, config.repeats_mean)
    kind = EpochBatches if decoder.per_subject else MixedBatches
    batches = kind(subjects, config.batch_size, seed, 0, *mix)
    module = _Module(decoder, config, seed, len(batches))
    border = _EpochBorder(batches, config, resume_dir / "last.ckpt", checkpoint_every_s, progress)
    resume_dir.mkdir(parents=True, exist_ok=True)
    # Each epoch seeds torch anew (start_epoch); the caller's random numbers go on as if there had
    # been no training.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        warnings.filterwarnings("ignore", module="lightning")
        clip = getattr(config, "gradient_clip", 0.0)
        trainer = _quiet_trainer(config.max_epochs, device, resume_dir, [border, *callbacks], clip)
        checkpoint = border.path if border.path.is_file() else None
        trainer.fit(module, train_dataloaders=batches, ckpt_path=checkpoint, weights_only=True)
    assert border.best_state is not None
    decoder.cpu().load_state_dict(border.best_state)
    decoder.eval()
    return border.rows


def _quiet_trainer(
    max_epochs: int, device: str, folder: Path, callbacks: list[pl.Callback], gradient_clip: float
) -> pl.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return pl.Trainer(
        max_epochs=max_epochs,
        accelerator="gpu" if device == "cuda" else "cpu",
        **_processes(),
        precision="bf16-mixed" if device == "cuda" else "32-true",
        deterministic=True,
        gradient_clip_val=gradient_clip or None,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=callbacks,
    )


def _processes() -> dict[str, Any]:
    """Lightning's settings for the processes that torchrun has started, or for one."""
    n_all = int(os.environ.get("WORLD_SIZE", 1))
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if n_all == 1:
        return {"devices": 1}
    # No sampler that deals out batches: all processes draw the same one, and the decoder takes its
    # share of it.
    return {
        "devices": n_here,
        "num_nodes": n_all // n_here,
        "strategy": "ddp",
        "use_distributed_sampler": False,
    }


class _Module(pl.LightningModule):
    """The decoder's loss, AdamW, and a cosine from lr to 0 over all steps."""

    def __init__(self, decoder: Any, config: Config, seed: int, n_steps: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.config = config
        self.seed = seed
        self.n_steps = n_steps
        self.sums: dict[str, Tensor] = {}

    def start_epoch(self, epoch: int) -> None:
        """Forget the sums of the last epoch, and seed what the decoder draws in this one."""
        self.epoch = epoch
        self.sums = {}
        # Not from where the last epoch left the generator: a training that resumes at a checkpoint
        # draws what it would have drawn. Each process draws noise of its own, hence the rank.
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(2, np.uint32)
        torch.manual_seed((int(state[0]) << 31 | int(state[1]) >> 1) + self.global_rank)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        return batch  # the data are there already

    def training_step(self, batch: Batch | MixedBatch, batch_idx: int) -> Tensor:
        terms = self.decoder.loss(batch, self.epoch + batch_idx / self.n_steps)
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        total: Tensor = torch.stack(list(terms.values())).sum()
        return total

    def configure_optimizers(self) -> Any:
        # Frozen weights are left out. Of the others, matrices decay; offsets, gains of norms and
        # the temperature have one dimension or none and do not.
        parameters = [p for p in self.decoder.parameters() if p.requires_grad]
        groups = [
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": self.config.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.lr, fused=True)
        schedule = self._schedule(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        n_all = self.config.max_epochs * self.n_steps
        n_rise = getattr(self.config, "warmup_epochs", 0.0) * self.n_steps
        if not n_rise:
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_all)
        # A short training rises over half of its steps, so that half are left to fall.
        n_rise = min(n_rise, n_all / 2)

        def factor(step: int) -> float:
            if step < n_rise:
                return (step + 1) / (n_rise + 1)  # never 0: the first step learns too
            fall = (step - n_rise) / (n_all - n_rise)
            return (1 + math.cos(math.pi * min(fall, 1.0))) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class _EpochBorder(pl.Callback):
    """All that happens between epochs: seeds, scores, the best weights, the checkpoint, the end."""

    def __init__(
        self,
        batches: EpochBatches,
        config: Config,
        path: Path,
        every_s: float,
        progress: str | None,
    ) -> None:
        self.batches = batches
        self.config = config
        self.path = path
        self.every_s = every_s
        self.progress = progress
        self.rows: list[dict[str, float]] = []
        self.best_state: dict[str, Tensor] | None = None
        self.best_score = -1.0
        self.best_epoch = -1

    def state_dict(self) -> dict[str, Any]:
        # Lightning puts these into the checkpoint: the curve, the best weights and the patience go
        # on with a training that was killed.
        names = ("rows", "best_state", "best_score", "best_epoch")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.saved_at = time.monotonic()
        self.bar = tqdm(
            total=self.config.max_epochs,
            initial=len(self.rows),
            desc=self.progress,
            unit="epoch",
            # None: tqdm hides itself where no terminal watches.
            disable=True if self.progress is None else None,
        )
        # The checkpoint may be one of a training that had stopped already.
        trainer.should_stop = self._out_of_patience()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        # Our own count of finished epochs: Lightning's is off by one at some hooks after a resume.
        self.batches.epoch = len(self.rows)
        module.start_epoch(len(self.rows))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        epoch = len(self.rows)
        n_steps = len(self.batches)
        terms = {name: float(value) / n_steps for name, value in module.sums.items()}
        loss = sum(terms.values())
        if not np.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} in epoch {epoch} (terms {terms}); lower lr of the decoder"
            )
        scores = [validation_scores(module.decoder, data) for data in self.batches.data]
        means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
        self.rows.append({"epoch": epoch, **terms, "loss": loss, **means})
        smooth = float(np.mean([row["val_mean"] for row in self.rows[-WINDOW:]]))
        if smooth > self.best_score + ROUNDING:
            self.best_score = smooth
            self.best_epoch = epoch
            # Copies, since training goes on in these tensors; on the CPU, where the decoder is left
            # in the end.
            self.best_state = {
                k: v.detach().cpu().clone() for k, v in module.decoder.state_dict().items()
            }
        trainer.should_stop = self._out_of_patience()
        last = trainer.should_stop or len(self.rows) == self.config.max_epochs
        due = last or time.monotonic() - self.saved_at >= self.every_s
        # One clock decides: all processes take part in saving.
        if trainer.strategy.broadcast(due):
            self._save(trainer)
        self.bar.set_postfix(
            loss=f"{loss:.3f}", val=f"{means['val_mean']:.3f}", best=f"{self.best_score:.3f}"
        )
        self.bar.update()

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.bar.close()

    def on_exception(self, trainer: pl.Trainer, module: Any, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.close()

    def _out_of_patience(self) -> bool:
        return len(self.rows) - 1 - self.best_epoch >= self.config.patience

    def _save(self, trainer: pl.Trainer) -> None:
        # Renamed when complete: a kill while it is written leaves the last checkpoint.
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, self.path)
        self.saved_at = time.monotonic()
