"""Train the network behind the simulated category areas: rebuild a scene and name its objects.

Run it through ``make asset NAME=cortex``. Writes ``model.safetensors`` (float16) and
``scores.json`` beside this file.
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
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "src"))

from fmri2clip.datasets.mini.network import CortexNetwork, to_float  # noqa: E402
from fmri2clip.datasets.mini.scenes import Scene, render_many  # noqa: E402
from fmri2clip.datasets.mini.shapes import CATEGORIES  # noqa: E402


def main() -> None:
    params = YAML(typ="safe").load(HERE / "params.yaml")
    torch.set_num_threads(params["threads"])
    torch.manual_seed(params["seed"])
    scenes = render_many(params["seed"], range(params["n_scenes"]), threads=params["threads"])
    network = train(scenes, params)
    temporary = HERE / "model.safetensors.part"
    save_file(
        {name: value.half().contiguous() for name, value in network.state_dict().items()}, temporary
    )
    temporary.chmod(0o644)
    os.replace(temporary, HERE / "model.safetensors")
    scores = score(network, render_many(params["seed"] + 1, range(1000), threads=params["threads"]))
    (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(scores)


def train(scenes: list[Scene], params: dict) -> CortexNetwork:
    images, labels = np.stack([s.image for s in scenes]), torch.from_numpy(named(scenes))
    network = CortexNetwork(len(CATEGORIES)).train()
    n_steps = params["epochs"] * (len(scenes) // params["batch_size"])
    optimiser = torch.optim.AdamW(network.parameters(), lr=params["lr"], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params["lr"], total_steps=n_steps)
    rng = np.random.default_rng(params["seed"])
    for step in range(n_steps):
        rows = rng.integers(len(scenes), size=params["batch_size"])
        batch = to_float(images[rows])
        rebuilt, logits = network(batch)
        naming = F.binary_cross_entropy_with_logits(logits, labels[rows])
        loss = F.mse_loss(rebuilt, batch) + params["naming_weight"] * naming
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            print(
                f"step {step} of {n_steps} loss {loss.item():.4f} naming {naming.item():.4f}",
                flush=True,
            )
    return network.eval()


def named(scenes: list[Scene]) -> np.ndarray:
    """Which categories a scene shows, (I, C) float32."""
    return np.array(
        [[name in {i.category for i in s.instances} for name in CATEGORIES] for s in scenes],
        np.float32,
    )


@torch.no_grad()
def score(network: CortexNetwork, scenes: list[Scene]) -> dict[str, float]:
    batch = to_float(np.stack([s.image for s in scenes]))
    rebuilt, logits = network(batch)
    explained = 1 - ((rebuilt - batch) ** 2).mean() / ((batch - batch.mean(0)) ** 2).mean()
    top = logits.argmax(dim=1).numpy()
    present = named(scenes)
    shown = present.sum(1) > 0
    return {
        "reconstruction_explained_variance": round(float(explained), 4),
        "top_category_is_present": round(float(present[np.arange(len(top)), top][shown].mean()), 4),
    }


if __name__ == "__main__":
    main()
