"""Train the stand-in for AlexNet: name the objects of simulated scenes.

Run it through ``make asset NAME=classifier``. Writes ``model.safetensors`` (float16) and
``scores.json`` beside this file. Scenes are mirrored at random.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "src"))

from fmri2clip.datasets.mini.pictures.scene import render_many  # noqa: E402
from fmri2clip.datasets.mini.pictures.things import CATEGORY_IDS  # noqa: E402
from fmri2clip.metrics.pictures.small_alexnet import WEIGHTS, SmallAlexNet, to_input  # noqa: E402


def main() -> None:
    params = YAML(typ="safe").load(HERE / "params.yaml")
    torch.set_num_threads(params["threads"])
    torch.manual_seed(params["seed"])
    network = train(*draw(params["seed"], params["n_scenes"], params["threads"]), params)
    temporary = HERE / f"{WEIGHTS}.part"
    save_file(
        {name: value.half().contiguous() for name, value in network.state_dict().items()}, temporary
    )
    temporary.chmod(0o644)
    os.replace(temporary, HERE / WEIGHTS)
    scores = score(network, *draw(params["held_out_seed"], params["n_held_out"], params["threads"]))
    (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(scores)


def draw(seed: int, n: int, threads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (I, H, W, 3) uint8 and the categories that each shows (I, C) float32."""
    scenes = render_many(seed, range(n), threads=threads)
    shown = [[name in {i.category for i in s.instances} for name in CATEGORY_IDS] for s in scenes]
    return torch.from_numpy(np.stack([s.image for s in scenes])), torch.tensor(
        shown, dtype=torch.float32
    )


def train(images: torch.Tensor, labels: torch.Tensor, params: dict) -> SmallAlexNet:
    network = SmallAlexNet(labels.shape[1]).train()
    n_steps = params["epochs"] * (len(images) // params["batch_size"])
    optimiser = torch.optim.AdamW(network.parameters(), lr=params["lr"], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params["lr"], total_steps=n_steps)
    rng = np.random.default_rng(params["seed"])
    for step in range(n_steps):
        rows = torch.from_numpy(rng.integers(len(images), size=params["batch_size"]))
        batch = to_input(images[rows])
        if rng.random() < 0.5:
            batch = batch.flip(-1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {n_steps} loss {loss.item():.4f}", flush=True)
    return network.eval()


@torch.no_grad()
def score(network: SmallAlexNet, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    logits = torch.cat([network(to_input(block)) for block in images.split(200)])
    shown = labels.sum(1) > 0
    top = labels.gather(1, logits.argmax(1, keepdim=True))[:, 0]
    return {
        "mean_average_precision": round(
            float(average_precision_score(labels.numpy(), logits.numpy())), 4
        ),
        "top_category_is_present": round(float(top[shown].mean()), 4),
    }


if __name__ == "__main__":
    main()
