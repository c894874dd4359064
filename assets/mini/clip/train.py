"""Train the CLIP of the simulated world: an open_clip model on scenes that no simulated subject
ever saw.

A transformer learns slowly from few pictures, a convolutional network fast. So a convolutional
teacher and the text tower learn first, from captions alone: the contrast of CLIP (Radford et al.
2021, arXiv 2103.00020), and naming the words of a scene's captions (SuperClass, arXiv 2411.03313).
Then the transformer learns to give the teacher's embeddings and, at its patches, the teacher's late
maps (distillation, as DeiT from a convolutional teacher, arXiv 2012.12877), beside the contrast.

Run it through ``make asset NAME=clip``. Writes ``model.safetensors`` (float16) and ``scores.json``
where it is called, from the ``params.yaml`` there: beside this file, or in the folder of the
reporting worlds' own.
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
from torch.nn.attention import SDPBackend, sdpa_kernel

HERE = Path.cwd()  # the folder of the asset: its params.yaml, and what is written
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "src"))

from fmri2clip.datasets.mini.brain.network import AreaNetwork, Shape, to_float  # noqa: E402
from fmri2clip.datasets.mini.pictures.scene import Scene, render_many  # noqa: E402
from fmri2clip.datasets.mini.pictures.things import CATEGORY_IDS  # noqa: E402

MODEL = next(HERE.glob("fmri2clip-*.json")).stem
CATEGORIES = tuple(CATEGORY_IDS)
WARM_UP = 100
FALL = 0.3  # share of the steps over which the learning rate falls to 0
N_WAY, N_DRAWS = 300, 30


def main() -> None:
    params = YAML(typ="safe").load(HERE / "params.yaml")
    torch.set_num_threads(params["threads"])
    torch.manual_seed(params["seed"])
    open_clip.add_model_config(HERE / f"{MODEL}.json")
    model, _, _ = open_clip.create_model_and_transforms(MODEL)
    tokenizer = open_clip.get_tokenizer(MODEL)
    scenes = render_many(params["seed"], range(params["n_scenes"]), threads=params["threads"])
    data = Data(scenes, tokenizer, params)
    teacher = train_teacher(model, data, params)
    train(model, teacher, data, params)
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


class Data:
    """Training scenes, and what batches are drawn from."""

    def __init__(
        self, scenes: list[Scene], tokenizer: open_clip.SimpleTokenizer, params: dict
    ) -> None:
        self.scenes = scenes
        self.images = np.stack([scene.image for scene in scenes])
        self.bag_IW, self.weight_W = count_words([scene.captions for scene in scenes])
        self.tokenizer = tokenizer
        self.params = params
        self.rng = np.random.default_rng(params["seed"])

    def draw(self, n: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Rows, pictures with their channels jittered, and a caption of each."""
        rows = self.rng.integers(len(self.scenes), size=n)
        texts = [draw_caption(self.rng, self.scenes[row], self.params) for row in rows]
        return rows, jitter(self.rng, self.images[rows], self.params["colour_jitter"]), texts


def train_teacher(model: nn.Module, data: Data, params: dict) -> AreaNetwork:
    """A convolutional image tower, with the text tower and the temperature of `model`."""
    width = model.visual.output_dim
    teacher = AreaNetwork(Shape(**params["teacher"], tasks={"embedding": width})).train()
    teacher = teacher.to(memory_format=torch.channels_last)
    head = nn.Linear(width, len(data.weight_W))
    text = [p for name, p in model.named_parameters() if not name.startswith("visual")]
    optimiser = make_optimiser([*teacher.parameters(), *head.parameters(), *text], params)
    n_steps = params["teacher_steps"]
    for step in range(n_steps):
        set_rate(optimiser, params["teacher_lr"], step, n_steps)
        rows, images, texts = data.draw(params["teacher_batch_size"])
        batch = to_float(images).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            feature_BD = teacher(batch)["embedding"].float()
        contrast = contrastive(model, feature_BD, data.tokenizer(texts), texts)
        words = name_words(head(feature_BD), data.bag_IW[rows], data.weight_W)
        take_step(optimiser, contrast + words, model)
        if step % 100 == 0:
            print(f"teacher {step} contrast {contrast:.3f} words {words:.3f}", flush=True)
    return teacher.eval().to(memory_format=torch.contiguous_format)


def train(model: nn.Module, teacher: AreaNetwork, data: Data, params: dict) -> None:
    """The transformer: the teacher's embedding and late maps, and the contrast."""
    map_IUP, embedding_ID = ask_teacher(teacher, data.images)
    mean_U1 = map_IUP.float().mean(dim=(0, 2))[:, None]
    deviation_U1 = map_IUP.float().std(dim=(0, 2))[:, None] + 1e-6
    side = model.visual.grid_size[0]
    head = nn.Linear(model.visual.conv1.out_channels, map_IUP.shape[1])
    seen: list[torch.Tensor] = []
    last = model.visual.transformer.resblocks[-1]
    hook = last.register_forward_hook(lambda module, given, tokens: seen.append(tokens))
    optimiser = make_optimiser([*model.parameters(), *head.parameters()], params)
    model.train()
    for step in range(params["steps"]):
        set_rate(optimiser, params["lr"], step, params["steps"])
        rows, images, texts = data.draw(params["batch_size"])
        # On a CPU PyTorch's fused attention is the slowest part of a step: 0.65 s against 0.37.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            feature_BD = model.visual(normalised(images))
            told_BPU = head(seen.pop()[:, 1:])
        feature_BD = feature_BD.float()
        told_BPU = told_BPU.float()
        true_BUP = (map_IUP[rows].float() - mean_U1) / deviation_U1
        square = true_BUP.unflatten(2, (int(true_BUP.shape[2] ** 0.5), -1))
        wanted_BUP = F.interpolate(square, side, mode="bilinear", align_corners=False).flatten(2)
        maps = F.mse_loss(told_BPU, wanted_BUP.transpose(1, 2))
        near = 1 - F.cosine_similarity(feature_BD, embedding_ID[rows]).mean()
        contrast = contrastive(model, feature_BD, data.tokenizer(texts), texts)
        take_step(optimiser, contrast + maps + 5 * near, model)
        if step % 50 == 0:
            print(f"{step} contrast {contrast:.3f} maps {maps:.3f} near {near:.3f}", flush=True)
    hook.remove()
    model.eval()


@torch.no_grad()
def ask_teacher(teacher: AreaNetwork, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Late maps (I, U, P), float16, and embeddings (I, D) of all training scenes."""
    maps = []
    embeddings = []
    for start in range(0, len(images), 250):
        _, late = teacher.encode(to_float(images[start : start + 250]))
        pooled = torch.cat([late.mean(dim=(2, 3)), late.amax(dim=(2, 3))], dim=1)
        embeddings.append(F.normalize(teacher.heads["embedding"](pooled), dim=-1))
        maps.append(late.flatten(2).half())
    return torch.cat(maps), torch.cat(embeddings)


def make_optimiser(parameters: list[nn.Parameter], params: dict) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": params["weight_decay"]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def set_rate(optimiser: torch.optim.Optimizer, peak: float, step: int, n_steps: int) -> None:
    """Linear warm-up, constant, linear to 0 over the last FALL of the steps."""
    rate = peak * min(1, (step + 1) / WARM_UP) * min(1, (n_steps - step) / (FALL * n_steps))
    for group in optimiser.param_groups:
        group["lr"] = rate


def take_step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, model: nn.Module) -> None:
    optimiser.zero_grad()
    loss.backward()
    for group in optimiser.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))


def jitter(rng: np.random.Generator, images: np.ndarray, amount: float) -> np.ndarray:
    """Pictures (I, H, W, 3) with their channels multiplied by random factors."""
    factor = rng.uniform(1 - amount, 1 + amount, size=(len(images), 1, 1, 3)).astype(np.float32)
    return np.clip(images * factor, 0, 255).astype(np.uint8)


def draw_caption(rng: np.random.Generator, scene: Scene, params: dict) -> str:
    """One of the scene's captions, or now and then a prompt with one of its categories."""
    if scene.instances and rng.random() < params["prompt_probability"]:
        category = scene.instances[rng.integers(len(scene.instances))].category
        return str(rng.choice(params["prompts"])).format(category=category)
    return scene.captions[rng.integers(len(scene.captions))]


def count_words(captions: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which words (I, W) stand in the captions of each scene, and log(I / scenes with the word)."""
    words = sorted({word for texts in captions for text in texts for word in text.split()})
    place = {word: k for k, word in enumerate(words)}
    bag_IW = torch.zeros(len(captions), len(words), dtype=torch.bool)
    for row, texts in enumerate(captions):
        bag_IW[row, [place[word] for text in texts for word in text.split()]] = True
    return bag_IW, (len(captions) / bag_IW.float().sum(0)).log()


def name_words(
    logits_BW: torch.Tensor, bag_BW: torch.Tensor, weight_W: torch.Tensor
) -> torch.Tensor:
    """Cross entropy of the words of all captions, each by its rarity (SuperClass, arXiv
    2411.03313): it teaches the image tower what captions speak of before contrasts are found.
    """
    target_BW = bag_BW * weight_W
    target_BW = target_BW / target_BW.sum(1, keepdim=True)
    return -(target_BW * logits_BW.float().log_softmax(1)).sum(1).mean()


def contrastive(
    model: nn.Module, feature_BD: torch.Tensor, tokens: torch.Tensor, texts: list[str]
) -> torch.Tensor:
    image_BD = F.normalize(feature_BD.float(), dim=-1)
    text_BD = model.encode_text(tokens, normalize=True)
    with torch.autocast("cpu", enabled=False):
        logits_BB = model.logit_scale.exp() * image_BD @ text_BD.float().T
        _, text_id = np.unique(texts, return_inverse=True)
        same = torch.from_numpy(text_id[:, None] == text_id[None, :])
        same &= ~torch.eye(len(texts), dtype=torch.bool)
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
