"""Train the CLIP of the simulated world: an open_clip model on scenes that no simulated subject
ever saw.

Run it through ``make asset NAME=clip``. Writes ``model.safetensors`` (float16) and ``scores.json``
beside this file.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "src"))

from fmri2clip.datasets.mini.scenes import Scene, render_many  # noqa: E402
from fmri2clip.datasets.mini.shapes import CATEGORIES  # noqa: E402

MODEL = "fmri2clip-mini"
WARM_UP = 150
N_WAY, N_DRAWS = 300, 30


def main() -> None:
    params = YAML(typ="safe").load(HERE / "params.yaml")
    torch.set_num_threads(params["threads"])
    torch.manual_seed(params["seed"])
    open_clip.add_model_config(HERE / f"{MODEL}.json")
    model, _, _ = open_clip.create_model_and_transforms(MODEL, force_patch_dropout=0.5)
    tokenizer = open_clip.get_tokenizer(MODEL)
    train(model, tokenizer, params)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    temporary = HERE / "model.safetensors.part"
    save_file(weights, temporary)
    temporary.chmod(0o644)
    os.replace(temporary, HERE / "model.safetensors")
    model, _, _ = open_clip.create_model_and_transforms(
        MODEL, pretrained=str(HERE / "model.safetensors")
    )
    scores = score(model.eval(), tokenizer, params, n_scenes=3000)
    (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores, indent=2))


def train(model: nn.Module, tokenizer: open_clip.SimpleTokenizer, params: dict) -> None:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv 2103.00020) with pairs of equal text masked."""
    rng = np.random.default_rng(params["seed"])
    scenes = render_many(params["seed"], range(params["n_scenes"]), threads=params["threads"])
    images = np.stack([scene.image for scene in scenes])
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": params["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=params["lr"], betas=(0.9, 0.98))
    model.train()
    for step in range(params["steps"]):
        if step == int(params["dropped_fraction"] * params["steps"]):
            model.visual.patch_dropout = nn.Identity()
        for group in optimiser.param_groups:
            group["lr"] = params["lr"] * schedule(step, params["steps"])
        rows = rng.integers(len(scenes), size=params["batch_size"])
        texts = [draw_caption(rng, scenes[row], params) for row in rows]
        loss = contrastive(model, normalised(images[rows]), tokenizer(texts), texts)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f}", flush=True)
        if step % 400 == 399:
            watched = {**params, "held_out_seed": params["seed"] + 1000}
            print(json.dumps(score(model.eval(), tokenizer, watched, n_scenes=600)), flush=True)
            model.train()


def schedule(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (steps - WARM_UP)))


def draw_caption(rng: np.random.Generator, scene: Scene, params: dict) -> str:
    """One of the scene's captions, or now and then a prompt with one of its categories."""
    if scene.instances and rng.random() < params["prompt_probability"]:
        category = scene.instances[rng.integers(len(scene.instances))].category
        return str(rng.choice(params["prompts"])).format(category=category)
    return scene.captions[rng.integers(len(scene.captions))]


def contrastive(
    model: nn.Module, images: torch.Tensor, tokens: torch.Tensor, texts: list[str]
) -> torch.Tensor:
    image_BD, text_BD, scale = model(images, tokens)[:3]
    logits_BB = scale * image_BD @ text_BD.T
    _, text_id = np.unique(texts, return_inverse=True)
    same = torch.from_numpy(text_id[:, None] == text_id[None, :]) & ~torch.eye(
        len(texts), dtype=torch.bool
    )
    logits_BB = logits_BB.masked_fill(same, float("-inf"))
    target = torch.arange(len(texts))
    return (F.cross_entropy(logits_BB, target) + F.cross_entropy(logits_BB.T, target)) / 2


def normalised(images: np.ndarray) -> torch.Tensor:
    """uint8 (I, H, W, 3) to float (I, 3, H, W) with the mean and deviation that open_clip gives
    this model.
    """
    mean, std = (
        torch.tensor(open_clip.OPENAI_DATASET_MEAN),
        torch.tensor(open_clip.OPENAI_DATASET_STD),
    )
    return ((torch.from_numpy(images).float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def score(
    model: nn.Module, tokenizer: open_clip.SimpleTokenizer, params: dict, n_scenes: int
) -> dict[str, float]:
    """300-way image-to-text top-1 and zero-shot categories of single-object scenes, all on unseen
    scenes.
    """
    seed, threads = params["held_out_seed"], params["threads"]
    scenes = render_many(seed, range(n_scenes), threads=threads)
    single = render_many(seed + 1, range(n_scenes // 2), threads=threads, n_objects=1)
    image_ID = encode_images(model, scenes)
    first_ID = encode_texts(model, tokenizer, [scene.captions[0] for scene in scenes])
    mean_ID = sum(
        encode_texts(model, tokenizer, [scene.captions[k] for scene in scenes]) for k in range(5)
    )
    result = {
        "image_to_text_top1_300way_one_caption": n_way(image_ID, first_ID),
        "image_to_text_top1_300way_mean_of_five": n_way(image_ID, F.normalize(mean_ID, dim=-1)),
        "text_to_image_top1_300way_one_caption": n_way(first_ID, image_ID),
    }
    true = np.array([CATEGORIES.index(scene.instances[0].category) for scene in single])
    image_ID = encode_images(model, single)
    for template in params["prompts"]:
        prompt_CD = encode_texts(
            model, tokenizer, [template.format(category=name) for name in CATEGORIES]
        )
        guess = (image_ID @ prompt_CD.T).argmax(dim=1).numpy()
        result[f"zero_shot_top1 {template}"] = float((guess == true).mean())
    return {name: round(value, 4) for name, value in result.items()}


def n_way(query_ID: torch.Tensor, gallery_ID: torch.Tensor) -> float:
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(N_DRAWS):
        rows = rng.choice(len(query_ID), N_WAY, replace=False)
        hits.append(
            ((query_ID[rows] @ gallery_ID[rows].T).argmax(dim=1) == torch.arange(N_WAY))
            .float()
            .mean()
            .item()
        )
    return float(np.mean(hits))


def encode_images(model: nn.Module, scenes: list[Scene]) -> torch.Tensor:
    blocks = [scenes[i : i + 250] for i in range(0, len(scenes), 250)]
    return torch.cat(
        [
            model.encode_image(normalised(np.stack([s.image for s in b])), normalize=True)
            for b in blocks
        ]
    )


def encode_texts(
    model: nn.Module, tokenizer: open_clip.SimpleTokenizer, texts: list[str]
) -> torch.Tensor:
    blocks = [texts[i : i + 500] for i in range(0, len(texts), 500)]
    return torch.cat([model.encode_text(tokenizer(block), normalize=True) for block in blocks])


if __name__ == "__main__":
    main()
