"""Train the picture generator of the simulated world: a diffusers pipeline that paints what mini
CLIP tokens describe.

Run it through ``make asset NAME=generator``. First an autoencoder (96 px to 24 x 24 latents), then
a U-Net that reads semantic tokens, class token first and patches with their places, by
cross-attention, and all of them together beside the time step. Now and then it sees the class token
alone, which is the pooled embedding, so that one token is a condition too, and now and then the
mean of semantic and detail tokens, so that it knows what a decoder of both may give. Writes the
folder ``pipeline`` (StableDiffusionPipeline, float16), ``scores.json`` and ``grid.png`` where it is
called, from the ``params.yaml`` there: beside this file, or in the folder of the reporting worlds'
own; a killed run continues from ``.resume/``.

``start`` names another generator to go on from: its autoencoder stays, as it knows nothing of
CLIP, and its U-Net first reads the new CLIP's tokens through a linear map to those that it knows.

Letters: I images, B images of a batch, T tokens, D embedding width, X the same and places, C H W
channels, height and width.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch.nn import functional as F

HERE = Path.cwd()  # the folder of the asset: its params.yaml, and what is written
CODE = Path(__file__).resolve().parent
ROOT = CODE.parents[2]
sys.path[:0] = [str(CODE), str(ROOT / "src")]

from training import fit  # noqa: E402

from fmri2clip.clip import encoder as clip  # noqa: E402
from fmri2clip.core import params as knobs  # noqa: E402
from fmri2clip.core import resume  # noqa: E402
from fmri2clip.datasets.mini.pictures.scene import render_many  # noqa: E402
from fmri2clip.generators.tokens import N_PLACES, add_places  # noqa: E402

LATENT_CHANNELS = 8
# Rows: brightness, red against green, blue against yellow. In RGB alone the autoencoder stays grey.
OPPONENT = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1.0, -1.0, 0.0], [-0.5, -0.5, 1.0]])
SEMANTIC, DETAIL = "semantic_tokens_ITD", "detail_tokens_ITD"
N_WAY, N_DRAWS = 300, 30
GRID_COLUMNS, CHUNK = 12, 2000


def main() -> None:
    params = YAML(typ="safe").load(HERE / "params.yaml")
    torch.set_num_threads(params["threads"])
    code = [(CODE / name).read_text() for name in ("train.py", "training.py")]
    root = ROOT / ".resume"
    folder = resume.resume_dir(f"assets/{HERE.name}", params, code, root=root)
    images_IHWC = draw_scenes(params["seed"], params["n_scenes"], params["threads"])
    start = load_pipeline(ROOT / "assets/mini" / params["start"]) if params["start"] else None
    vae = start.vae.float() if start else train_autoencoder(images_IHWC, params, folder)
    latents_ICHW = encode_latents(vae, images_IHWC)
    encoder = load_clip(params["clip"], params["detail_layers"])
    tokens = encode_tokens(encoder, images_IHWC)
    unet = make_unet(params, latents_ICHW.shape[-1], tokens[0].shape[-1])
    if start:
        known = load_clip(params["start_clip"], params["detail_layers"])
        few = images_IHWC[:CHUNK]
        take_over(unet, start.unet, tokens[0][:CHUNK], encode_tokens(known, few)[0])
    unet = train_unet(unet, latents_ICHW, tokens, vae, encoder, params, folder)
    save(make_pipeline(vae, unet))
    scores = score(
        encoder,
        load_pipeline(HERE),
        params,
        params["held_out_seed"],
        params["n_held_out"],
        HERE / "grid.png",
    )
    (HERE / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores, indent=2))
    resume.remove(folder, root)


def load_clip(name: str, layers: list[int]) -> clip.Encoder:
    """The CLIP of assets/mini/<name>."""
    folder = ROOT / "assets/mini" / name
    config = next(folder.glob("fmri2clip-*.json"))
    weights = str(folder / "model.safetensors")
    return clip.load(
        knobs.Clip(
            model=config.stem,
            config=str(config),
            pretrained=weights,
            tokens=True,
            detail_layers=tuple(layers),
        )
    )


def draw_scenes(seed: int, n: int, threads: int) -> np.ndarray:
    """Pictures (I, H, W, 3) uint8 of the first n scenes of a seed."""
    images = []
    for start in range(0, n, CHUNK):
        scenes = render_many(seed, range(start, min(start + CHUNK, n)), threads=threads)
        images.append(np.stack([scene.image for scene in scenes]))
    return np.concatenate(images)


def encode_tokens(encoder: clip.Encoder, images_IHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Semantic and detail tokens (I, T, D) float16."""
    semantic, detail = [], []
    for start in range(0, len(images_IHWC), CHUNK):
        found = encoder.features(images_IHWC[start : start + CHUNK], targets=True)
        semantic.append(found[SEMANTIC].astype(np.float16))
        detail.append(found[DETAIL].astype(np.float16))
    return np.concatenate(semantic), np.concatenate(detail)


def mix(semantic_ITD: np.ndarray, detail_ITD: np.ndarray) -> np.ndarray:
    """Mean of both, in the scale of the cache: the class token has norm 1."""
    mixed_ITD = (semantic_ITD.astype(np.float32) + detail_ITD.astype(np.float32)) / 2
    return mixed_ITD / np.linalg.norm(mixed_ITD[:, :1], axis=2, keepdims=True)


def train_autoencoder(images_IHWC: np.ndarray, params: dict, folder: Path) -> Any:
    """0.2 mean |d| + 2 mean d^2 + w mean KL(q(z|x) || N(0, 1)), z from q, d the opponent colours of
    D(z) - x; means over pixel values and latents.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(params["seed"])
    channels = tuple(params["autoencoder_channels"])
    model = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=images_IHWC.shape[1],
    )
    with torch.no_grad():  # little noise in the latents at first: learning is faster
        model.quant_conv.weight[LATENT_CHANNELS:] *= 0.1
        model.quant_conv.bias[LATENT_CHANNELS:] = -6

    def loss_of(rng: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
        rows = np.sort(rng.integers(len(images_IHWC), size=params["autoencoder_batch_size"]))
        x = to_float(images_IHWC[rows])
        posterior = model.encode(x).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        error = model.decode(posterior.sample(noise)).sample.float() - x
        error = torch.einsum("kc,bchw->bkhw", OPPONENT, error)
        distance = 0.2 * error.abs().mean() + 2 * error.square().mean()
        return distance + params["kl_weight"] * kl

    model = fit(model, loss_of, "autoencoder", params, folder)
    scale = 1 / float(encode_latents(model, images_IHWC[:CHUNK]).float().std())
    model.register_to_config(scaling_factor=scale)
    return model


@torch.no_grad()
def encode_latents(vae: Any, images_IHWC: np.ndarray) -> torch.Tensor:
    """Posterior means (I, C, H, W) float16, not yet multiplied by the scaling factor."""
    # Blocks that fit a processor's cache: of 250 pictures each would take three times as long.
    blocks = [images_IHWC[i : i + 25] for i in range(0, len(images_IHWC), 25)]
    return torch.cat([vae.encode(to_float(block)).latent_dist.mean.half() for block in blocks])


def make_scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


def make_unet(params: dict, side: int, width_D: int) -> Any:
    """Attention to itself and to the tokens at half size and at a quarter, 12 x 12 and 6 x 6.

    The tokens are pooled into the time embedding too (`addition_embed_type`, as in DeepFloyd IF):
    what holds for the whole picture is learned twice as fast that way.
    """
    from diffusers import UNet2DConditionModel

    torch.manual_seed(params["seed"] + 1)
    channels = tuple(params["unet_channels"])
    model = UNet2DConditionModel(
        sample_size=side,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=tuple(width // 32 for width in channels),
        norm_num_groups=16,
        encoder_hid_dim=width_D + N_PLACES,
        encoder_hid_dim_type="text_proj",
        cross_attention_dim=width_D,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    # A token and its place have norm 1 each; attention learns faster from elements of about 1.
    with torch.no_grad():
        model.encoder_hid_proj.weight.mul_(width_D**0.5)
        model.encoder_hid_proj.weight[:, width_D:].mul_(N_PLACES**0.5)
    return model


@torch.no_grad()
def take_over(
    unet: Any, start: Any, token_ITD: np.ndarray, known_ITD: np.ndarray, penalty: float = 1e-3
) -> None:
    """Weights of `start`, whose projection of tokens for attention is put behind a ridge regression
    from the new tokens to those that it knows, of the same pictures. What is pooled of the tokens
    beside the time step is normalised first, and left to the training.
    """
    unet.load_state_dict(start.float().state_dict())
    width_D = known_ITD.shape[-1]
    x_ND = torch.from_numpy(token_ITD).float().flatten(0, 1)
    y_ND = torch.from_numpy(known_ITD).float().flatten(0, 1)
    mean_x_D, mean_y_D = x_ND.mean(0), y_ND.mean(0)
    x_ND, y_ND = x_ND - mean_x_D, y_ND - mean_y_D
    gram_DD = x_ND.T @ x_ND
    gram_DD += penalty * gram_DD.diagonal().mean() * torch.eye(width_D)
    map_DD = torch.linalg.solve(gram_DD, x_ND.T @ y_ND)
    projection = unet.encoder_hid_proj
    weight_ED = projection.weight[:, :width_D].clone()
    projection.bias += weight_ED @ (mean_y_D - mean_x_D @ map_DD)
    projection.weight[:, :width_D] = weight_ED @ map_DD.T


def train_unet(
    model: Any,
    latents_ICHW: torch.Tensor,
    tokens: tuple[np.ndarray, np.ndarray],
    vae: Any,
    encoder: clip.Encoder,
    params: dict,
    folder: Path,
) -> Any:
    """mean |v - U(a x + s e, t, c)|^2 with v = a e - s x (Salimans & Ho 2022, arXiv 2202.00512),
    a^2 + s^2 = 1.
    """
    semantic_ITD, detail_ITD = tokens
    alpha_bar = make_scheduler().alphas_cumprod

    def loss_of(rng: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
        rows = rng.integers(len(latents_ICHW), size=params["batch_size"])
        pooled_B = torch.from_numpy(rng.random(len(rows)) < params["pooled_probability"])
        mixed_B = rng.random(len(rows)) < params["mixed_probability"]
        c_BTD = semantic_ITD[rows].astype(np.float32)
        c_BTD[mixed_B] = mix(c_BTD[mixed_B], detail_ITD[rows[mixed_B]])
        c_BTX = torch.from_numpy(add_places(c_BTD))
        c_BTX = torch.where(
            pooled_B[:, None, None], c_BTX[:, :1], c_BTX
        )  # T equal tokens weigh as much as one
        x = latents_ICHW[rows].float() * vae.config.scaling_factor
        e = torch.randn(x.shape, generator=noise)
        t = torch.from_numpy(draw_steps(rng, len(rows), len(alpha_bar)))
        a, s = (part.sqrt()[:, None, None, None] for part in (alpha_bar[t], 1 - alpha_bar[t]))
        return F.mse_loss(model(a * x + s * e, t, c_BTX).sample, a * e - s * x)

    def watch(average: Any) -> None:
        found = score(
            encoder, make_pipeline(vae, average), params, params["held_out_seed"] + 1, N_WAY
        )
        print(json.dumps(found), flush=True)

    return fit(model, loss_of, "", params, folder, watch)


def draw_steps(rng: np.random.Generator, n: int, n_steps: int) -> np.ndarray:
    """Time steps: all alike for half of the scenes, for the others from the noisiest fifth, where
    the tokens decide what is painted.
    """
    low_B = np.where(rng.random(n) < 0.5, 0.8, 0.0)
    return ((low_B + (1 - low_B) * rng.random(n)) * n_steps).astype(np.int64)


def make_pipeline(vae: Any, unet: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, scheduler=make_scheduler(), **absent, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save(pipe: Any) -> None:
    """The folder appears when it is complete; weights in float16."""
    temporary, final = HERE / "pipeline.part", HERE / "pipeline"
    shutil.rmtree(temporary, ignore_errors=True)
    pipe.to(dtype=torch.float16).save_pretrained(temporary, safe_serialization=True)
    # diffusers writes where a part was loaded from: a folder of this machine.
    config = temporary / "vae" / "config.json"
    known = {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"}
    config.write_text(json.dumps(known, indent=2) + "\n")
    for file in temporary.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)


def load_pipeline(asset: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    absent = dict.fromkeys(("text_encoder", "tokenizer"))  # the class has no default for them
    pipe = StableDiffusionPipeline.from_pretrained(
        asset / "pipeline", local_files_only=True, **absent
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def score(
    encoder: clip.Encoder, pipe: Any, params: dict, seed: int, n: int, grid: Path | None = None
) -> dict[str, float]:
    """300-way top-1 of the pictures, encoded again, among the true embeddings of the scenes they
    should show.
    """
    images_IHWC = draw_scenes(seed, n, params["threads"])
    semantic_ITD, detail_ITD = encode_tokens(encoder, images_IHWC)
    rebuilt = [
        pipe.vae.decode(z.float()[None]).sample[0] / 2 + 0.5
        for z in encode_latents(pipe.vae.float(), images_IHWC)
    ]
    made = {
        "autoencoder": (torch.stack(rebuilt).permute(0, 2, 3, 1).clamp(0, 1) * 255)
        .round()
        .byte()
        .numpy(),
        "tokens": generate(pipe, semantic_ITD, params["sampling_steps"]),
        "mixed": generate(pipe, mix(semantic_ITD, detail_ITD), params["sampling_steps"]),
        "pooled": generate(pipe, semantic_ITD[:, :1], params["sampling_steps"]),
    }
    if grid:
        draw_grid(grid, [images_IHWC, *made.values()])
    result = {}
    for name, pictures in made.items():
        result[f"top1_300way_{name}"] = n_way(encoder.images(pictures), encoder.images(images_IHWC))
        result[f"pixel_correlation_{name}"] = pixel_correlation(pictures, images_IHWC)
    return {name: round(value, 4) for name, value in result.items()}


def generate(pipe: Any, tokens_ITD: np.ndarray, steps: int, batch_size: int = 50) -> np.ndarray:
    """uint8 pictures (I, H, W, 3); the seed of a picture is its row."""
    parts = []
    for start in range(0, len(tokens_ITD), batch_size):
        c_BTX = torch.from_numpy(
            add_places(tokens_ITD[start : start + batch_size].astype(np.float32))
        )
        noise = [torch.Generator().manual_seed(start + row) for row in range(len(c_BTX))]
        made = pipe(
            prompt_embeds=c_BTX,
            guidance_scale=1.0,
            num_inference_steps=steps,
            generator=noise,
            output_type="np",
        )
        parts.append((made.images * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def draw_grid(path: Path, rows: list[np.ndarray]) -> None:
    """Stimulus, autoencoder, from semantic, from mixed tokens, from the pooled embedding: one row
    each, pixels doubled.
    """
    grid = np.concatenate([np.concatenate(list(images[:GRID_COLUMNS]), axis=1) for images in rows])
    Image.fromarray(grid.repeat(2, axis=0).repeat(2, axis=1)).save(path)


def n_way(query_ID: np.ndarray, gallery_ID: np.ndarray) -> float:
    rng, n = np.random.default_rng(0), min(N_WAY, len(query_ID))
    draws = [rng.choice(len(query_ID), n, replace=False) for _ in range(N_DRAWS)]
    return float(
        np.mean([((query_ID[r] @ gallery_ID[r].T).argmax(1) == np.arange(n)).mean() for r in draws])
    )


def pixel_correlation(a_IHWC: np.ndarray, b_IHWC: np.ndarray) -> float:
    pairs = zip(a_IHWC.reshape(len(a_IHWC), -1), b_IHWC.reshape(len(b_IHWC), -1), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def to_float(images_IHWC: np.ndarray) -> torch.Tensor:
    """uint8 (I, H, W, 3) to (I, 3, H, W) from -1 to 1."""
    return (torch.from_numpy(images_IHWC).float() / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


if __name__ == "__main__":
    main()
