"""A training loop that a kill does not hurt: it goes on from its last checkpoint and ends with the
same weights.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

WARM_UP, EMA, WATCH_EVERY = 200, 0.998, 1000
CHECKPOINT_S = 60

Loss = Callable[[np.random.Generator, torch.Generator], torch.Tensor]


def fit(
    model: Any,
    loss_of: Loss,
    name: str,
    params: dict,
    folder: Path,
    watch: Callable[[Any], None] | None = None,
) -> Any:
    """Minimise loss_of(rng, noise) by AdamW; returns the running average of the weights, ready for
    use.

    name: prefix of `steps` and `lr` in params, '' for the main training. folder: keeps the
    checkpoint. All randomness
    of a step comes from the two generators, which derive from the seed and the step. watch: sees
    the average at times.
    """
    prefix = f"{name}_" if name else ""
    n_steps, lr, path = (
        params[f"{prefix}steps"],
        params[f"{prefix}lr"],
        folder / f"{name or 'unet'}.pt",
    )
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    parts = {"model": model, "average": average, "optimiser": optimiser}
    first, saved, began = load(path, parts), time.monotonic(), time.monotonic()
    for step in range(first, n_steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * schedule(step, n_steps)
        noise = torch.Generator().manual_seed(params["seed"] * 1_000_003 + step)
        rng = np.random.default_rng((params["seed"], step, len(name)))
        # bfloat16: 0.65 of float32's time where the processor knows it. Fused attention is slower
        # than plain products here.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            loss = loss_of(rng, noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        follow(average, model, min(EMA, (step + 1) / (step + 10)))
        if step % 50 == 49 or step == n_steps - 1:
            pace = (time.monotonic() - began) / (step + 1 - first)
            left = pace * (n_steps - 1 - step) / 60
            print(
                f"{path.stem} step {step + 1} of {n_steps} loss {loss.item():.4f}, {left:.0f} min "
                "left",
                flush=True,
            )
        if time.monotonic() - saved > CHECKPOINT_S or step == n_steps - 1:
            save(path, parts, step + 1)
            saved = time.monotonic()
        if watch and step % WATCH_EVERY == WATCH_EVERY - 1:
            watch(average)
    return average


@torch.no_grad()
def follow(average: Any, model: Any, decay: float) -> None:
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def schedule(step: int, n_steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    warm = min(WARM_UP, n_steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (n_steps - warm)))


def load(path: Path, parts: dict[str, Any]) -> int:
    """Take up a checkpoint; returns the step to go on with."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    print(f"{path.stem} goes on at step {state['step']}", flush=True)
    return int(state["step"])


def save(path: Path, parts: dict[str, Any], step: int) -> None:
    temporary = path.with_suffix(".part")
    torch.save(
        {"step": step} | {name: part.state_dict() for name, part in parts.items()}, temporary
    )
    os.replace(temporary, path)
