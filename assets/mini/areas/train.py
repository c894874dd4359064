"""Train the network behind the simulated category areas: it names what a scene shows.

Run it through ``make asset NAME=areas``. Writes ``model.safetensors`` (float16) and ``scores.json``
where it is called, from the ``params.yaml`` there: beside this file, or in the folder of the
reporting worlds' own.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn import functional as F

HERE = Path.cwd()  # the folder of the asset: its params.yaml, and what is written
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "src"))

from fmri2clip.datasets.mini.brain.network import (  # noqa: E402
    DOMAINS,
    AreaNetwork,
    Areas,
    Shape,
    area_maps,
    save_areas,
    to_float,
)
from fmri2clip.datasets.mini.pictures.places import PLACES  # noqa: E402
from fmri2clip.datasets.mini.pictures.scene import Scene, render_many  # noqa: E402
from fmri2clip.datasets.mini.pictures.things import CATEGORY_IDS  # noqa: E402

CATEGORIES = tuple(CATEGORY_IDS)
PLACE_NAMES = tuple(PLACES)
COMMON = 0.005
BIG = 0.04  # fraction of the picture: where no object is larger, a scene is a view of a place


def main() -> None:
    params = YAML(typ="safe").load(HERE / "params.yaml")
    torch.set_num_threads(params["threads"])
    torch.manual_seed(params["seed"])
    scenes = render_many(params["seed"], range(params["n_scenes"]), threads=params["threads"])
    looks = common_looks(scenes)
    tasks, targets = describe(scenes, looks)
    network = train(np.stack([s.image for s in scenes]), tasks, targets, params)
    held_out = render_many(
        params["seed"] + 1, range(params["n_held_out"]), threads=params["threads"]
    )
    selectivity_KU = measure_selectivity(network, held_out)
    temporary = HERE / "model.safetensors.part"
    save_areas(temporary, Areas(network=network, selectivity_KU=selectivity_KU))
    temporary.chmod(0o644)
    os.replace(temporary, HERE / "model.safetensors")
    scores = score(network, held_out, looks)
    scores |= {
        f"unit_d_{k}_max": round(float(d.max()), 3)
        for k, d in zip(DOMAINS, selectivity_KU, strict=True)
    }
    (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores, indent=2))


def describe(scenes: list[Scene], looks: Sequence[str]) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Tasks (name -> logits) and their targets: places as rows of PLACE_NAMES, else bits."""
    named = [{i.category for i in s.instances} for s in scenes]
    categories = np.array([[name in found for name in CATEGORIES] for found in named], np.float32)
    counts = np.array([sum(i.category == "person" for i in s.instances) for s in scenes])
    looking = np.array(
        [[look in found for look in looks] for found in map(look_of, scenes)], np.float32
    )
    bits = np.stack(
        [
            np.array([s.n_faces > 0 for s in scenes]),
            np.array([s.n_words > 0 for s in scenes]),
            counts > 1,
            np.array([len(s.instances) > 2 for s in scenes]),
            is_place(scenes),
        ],
        axis=1,
    ).astype(np.float32)
    place = np.array([PLACE_NAMES.index(s.background) for s in scenes])
    targets = {
        "categories": torch.from_numpy(categories),
        "looks": torch.from_numpy(looking),
        "bits": torch.from_numpy(bits),
        "place": torch.from_numpy(place),
    }
    tasks = {
        "categories": len(CATEGORIES),
        "looks": len(looks),
        "bits": bits.shape[1],
        "place": len(PLACE_NAMES),
    }
    return tasks, targets


def look_of(scene: Scene) -> set[str]:
    """Views, poses and forms of a scene's objects."""
    return {word for i in scene.instances for word in (i.view, i.pose, i.form) if word}


def common_looks(scenes: list[Scene]) -> list[str]:
    """Looks of at least COMMON of the scenes, sorted."""
    counts = Counter(look for scene in scenes for look in look_of(scene))
    return sorted(look for look, n in counts.items() if n >= COMMON * len(scenes))


def is_place(scenes: list[Scene]) -> np.ndarray:
    """Whether no object takes more than BIG of the original picture."""
    return np.array([all(i.area < BIG * s.width * s.height for i in s.instances) for s in scenes])


def train(
    images: np.ndarray, tasks: dict[str, int], targets: dict[str, Tensor], params: dict
) -> AreaNetwork:
    network = AreaNetwork(Shape(**params["shape"], tasks=tasks)).train()
    network = network.to(memory_format=torch.channels_last)
    n_steps = params["epochs"] * (len(images) // params["batch_size"])
    optimiser = torch.optim.AdamW(network.parameters(), lr=params["lr"], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params["lr"], total_steps=n_steps)
    rng = np.random.default_rng(params["seed"])
    for step in range(n_steps):
        rows = rng.integers(len(images), size=params["batch_size"])
        batch = to_float(images[rows]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(batch)
        losses = {
            name: F.cross_entropy(logits[name].float(), target[rows])
            if name == "place"
            else F.binary_cross_entropy_with_logits(logits[name].float(), target[rows])
            for name, target in targets.items()
        }
        loss = losses["categories"] + losses["looks"] + losses["bits"] + 0.2 * losses["place"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            shown = " ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            print(f"step {step} of {n_steps} {shown}", flush=True)
    return network.eval().to(memory_format=torch.contiguous_format)


def domain_members(scenes: list[Scene]) -> np.ndarray:
    """Which pictures show each of DOMAINS, (K, I): a face, printed words, hardly an object, a
    person who is more than a portrait.
    """
    bodies = [
        any(i.category == "person" and i.view != "portrait" for i in s.instances) for s in scenes
    ]
    return np.stack(
        [
            np.array([s.n_faces > 0 for s in scenes]),
            np.array([s.n_words > 0 for s in scenes]),
            is_place(scenes),
            np.array(bodies),
        ]
    )


def measure_selectivity(network: AreaNetwork, scenes: list[Scene]) -> np.ndarray:
    """d' (K, U) of each unit's mean over the picture: difference of the means over pictures that
    show the domain and those that do not, over the root of the mean variance.
    """
    _, late = area_maps(network, np.stack([s.image for s in scenes]))
    unit_IU = late.mean(axis=(2, 3))
    found = []
    for member_I in domain_members(scenes):
        a, b = unit_IU[member_I], unit_IU[~member_I]
        spread_U = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2) + 1e-6
        found.append((a.mean(axis=0) - b.mean(axis=0)) / spread_U)
    return np.stack(found)


@torch.no_grad()
def score(network: AreaNetwork, scenes: list[Scene], looks: Sequence[str]) -> dict[str, float]:
    tasks, targets = describe(scenes, looks)
    images = np.stack([s.image for s in scenes])
    blocks = [network(to_float(images[i : i + 250])) for i in range(0, len(images), 250)]
    logits = {name: torch.cat([b[name] for b in blocks]).numpy() for name in tasks}
    present = targets["categories"].numpy()
    bits = targets["bits"].numpy()
    names = ("face", "words", "several_people", "many_objects", "empty_view")
    found = {
        "categories_map": average_precision_score(present, logits["categories"], average="macro"),
        "categories_prevalence": present.mean(),
        "place_top1": (logits["place"].argmax(axis=1) == targets["place"].numpy()).mean(),
    }
    for k, name in enumerate(names):
        found[f"{name}_ap"] = average_precision_score(bits[:, k], logits["bits"][:, k])
        found[f"{name}_prevalence"] = bits[:, k].mean()
    return {name: round(float(value), 4) for name, value in found.items()}


if __name__ == "__main__":
    main()
