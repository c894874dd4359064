"""The parts of gpu_check.py: each returns the numbers of its row, `note` among them.

A row with `problem` has failed, one with `skipped` was not run. What a part needs beyond torch and
numpy it imports itself, so that a missing package costs that part alone.

Letters: I images, T image tokens, U text tokens, D embedding, W width of block 1.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_tools import (
    GB,
    PRESET,
    REAL,
    ROOT,
    TOY,
    Size,
    Steps,
    difference,
    first_losses,
    held_gb,
    make_config,
    make_data,
    make_training,
    missing_gb,
    now,
    peak_gb,
    reset_memory,
    start,
    time_bare_loop,
    train,
    without_dropout,
)
from torch import Tensor
from torch.nn.functional import normalize

from fmri2clip.core.params import Clip, Compute
from fmri2clip.core.strict import build
from fmri2clip.decoders import load_decoder

FP32 = 1e-3  # largest relative difference of a loss between devices, both in float32
BF16 = 0.05  # between bfloat16 on the GPU and float32 on the CPU
SAME = 1e-6  # between two ways to bring the same numbers to one GPU
CARD_GB = 24.0


class Problem(Exception):
    """What a part found to be wrong."""


def train_gradient(name: str) -> Callable[[Size], dict[str, Any]]:
    """200 steps of a decoder against a bare loop; its first losses against the CPU's."""

    def part(size: Size) -> dict[str, Any]:
        config, data, decoder = make_training(name, size)
        plain = without_dropout(decoder, data)
        n = size.n_compared
        expected = first_losses(plain, data, "cpu", "fp32", n)
        in_fp32 = difference(first_losses(plain, data, size.device, "fp32", n), expected)
        in_bf16 = difference(first_losses(plain, data, size.device, "bf16", n), expected)
        del plain
        reset_memory(size.device)
        steps = Steps(size.device, size.n_steps)
        started = now(size.device)
        train(decoder, data, config, size.device, steps=steps)
        seconds = now(size.device) - started
        peak = peak_gb(size.device)
        bare = time_bare_loop(decoder, data, config, size)
        losses = steps.values()
        card = peak + missing_gb(data)
        row: dict[str, Any] = {
            "n_steps": len(losses),
            "batch": config.batch_size,
            "weights_million": decoder.n_parameters()["trained"] / 1e6,
            "loss_first": losses[0],
            "loss_last": losses[-1],
            "fp32_difference": in_fp32,
            "bf16_difference": in_bf16,
            "ms_per_step": 1000 * steps.seconds(),
            "bare_ms_per_step": 1000 * bare["seconds"],
            "of_bare_loop": bare["seconds"] / steps.seconds(),
            "tflops": bare["flops"] / steps.seconds() / 1e12,
            "training_s": seconds,
            "peak_gb": peak,
            "peak_gb_real_subjects": card if size.device == "cuda" else 0.0,
        }
        memory = f"; peak {peak:.1f} GB, {card:.1f} with real subjects"
        row["note"] = (
            f"{row['ms_per_step']:.1f} ms a step, {100 * row['of_bare_loop']:.0f} % of a bare "
            f"loop's speed, {row['tflops']:.2g} TFLOP/s; losses as on the CPU "
            f"{within(in_fp32)} in fp32, {within(in_bf16)} in bf16" + memory * (peak > 0)
        )
        problems = []
        if not np.isfinite(losses).all():
            problems.append("a loss is not finite")
        if not in_fp32 <= FP32:
            problems.append(f"losses differ from the CPU's by {in_fp32:.1e} in float32")
        if not in_bf16 <= BF16:
            problems.append(f"losses differ from the CPU's by {in_bf16:.1e} in bfloat16")
        if row["peak_gb_real_subjects"] > CARD_GB:
            problems.append(f"real subjects would take {card:.1f} GB")
        return check(row, problems)

    return part


def within(difference: float) -> str:
    """How near two losses are, in words."""
    return f"to {difference:.0e}" if difference else "exactly"


def gpu_memory(gb: float) -> str:
    """Peak of the GPU's memory for a note; nothing where there is no GPU."""
    return f"; peak {gb:.1f} GB" if gb else ""


def check(row: dict[str, Any], problems: Sequence[str]) -> dict[str, Any]:
    """The row, with what is wrong put before its note."""
    if problems:
        row["problem"] = "; ".join(problems)
    return row


def fit_closed_forms(size: Size) -> dict[str, Any]:
    """ridge with its token map and label_ridge, fitted by the code of the stage."""
    from fmri2clip.stages.train.run import fit_decoder

    row: dict[str, Any] = {"n_images": size.n_closed, "n_components": size.n_components}
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "ridge": ("ridge", {"tokens": "components"}),
        "label_ridge": ("label_ridge", {}),
    }
    notes = []
    problems = []
    for key, (name, changes) in cases.items():
        config = make_config(name, size, **changes)
        module = load_decoder(name)
        targets = module.Decoder.select_targets(config)
        data = make_data(size, size.n_closed, targets)
        decoder = module.Decoder.from_data(config, [data], 0)
        reset_memory(size.device)
        started = now(size.device)
        fit_decoder(decoder, [data], 0, Compute(device=size.device), Path())  # type: ignore[arg-type]
        row[f"{key}_s"] = now(size.device) - started
        row[f"{key}_peak_gb"] = peak_gb(size.device)
        row[f"{key}_difference"] = compare_small(name, changes, size)
        notes.append(
            f"{key} {row[f'{key}_s']:.1f} s, as on the CPU {within(row[f'{key}_difference'])}"
            f"{gpu_memory(row[f'{key}_peak_gb'])}"
        )
        if not row[f"{key}_difference"] <= 10 * FP32:
            problems.append(f"{key} differs from the CPU's by {row[f'{key}_difference']:.1e}")
    row["note"] = f"{size.n_closed:,} images, {size.n_components} components: {'; '.join(notes)}"
    return check(row, problems)


def compare_small(name: str, changes: Mapping[str, Any], size: Size) -> float:
    """Largest difference of what a small fit decodes on the GPU and on the CPU, over its spread."""
    from fmri2clip.stages.train.run import fit_decoder

    small = replace(TOY, n_voxels=200)
    config = make_config(name, small, **changes)
    module = load_decoder(name)
    data = make_data(small, 150, module.Decoder.select_targets(config))
    decoded = []
    for device in ("cpu", size.device):
        decoder = module.Decoder.from_data(config, [data], 0)
        fit_decoder(decoder, [data], 0, Compute(device=device), Path())  # type: ignore[arg-type]
        out = decoder.decode_tokens(data.mean_betas_IV, "subj01")
        parts = [out.embedding_ID, out.logits_IC, *out.tokens.values()]
        decoded.append(torch.cat([x.flatten().float() for x in parts if x is not None]))
    return float((decoded[0] - decoded[1]).abs().max() / decoded[0].std())


def train_two_subjects(size: Size) -> dict[str, Any]:
    """brainmclip of two subjects, one after the other; what the first leaves on the GPU."""
    from fmri2clip.stages.train.run import fit_decoder

    held = [held_gb(size.device)]
    peaks = []
    for subject in range(2):
        _, data, decoder = make_training("brainmclip", size, n_steps=5, max_epochs=1, patience=1)
        reset_memory(size.device)
        with tempfile.TemporaryDirectory() as folder:
            compute = Compute(device=size.device)  # type: ignore[arg-type]
            fit_decoder(decoder, data, subject, compute, Path(folder))
        peaks.append(peak_gb(size.device))
        held.append(held_gb(size.device))
    row = {"peak_gb": peaks, "held_gb": held}
    row["note"] = "without a GPU there is no memory to look at"
    if size.device == "cuda":
        row["note"] = (
            f"peaks {peaks[0]:.2f} and {peaks[1]:.2f} GB; {1000 * held[1]:.0f} MB survive the "
            f"first, {1000 * held[2]:.0f} MB the second"
        )
    problems = []
    # cuBLAS keeps a workspace of some 40 MB, which is nobody's.
    if held[1] - held[0] > 0.2 or held[2] - held[1] > 0.05:
        problems.append("memory of a subject survives it")
    return check(row, problems)


def stream_features(size: Size) -> dict[str, Any]:
    """Tokens that stay on the host and come batch by batch, against tokens on the GPU."""
    from fmri2clip.stages.train import trainer

    config, data, decoder = make_training("brainmclip", size)
    n_all = 3 * size.n_steps
    found = {}
    seconds = {}
    peaks = {}
    fits = trainer.fits
    try:
        for way, on_gpu in (("gpu", True), ("host", False)):
            trainer.fits = lambda n_bytes, device, on_gpu=on_gpu: on_gpu  # type: ignore[misc]
            steps = Steps(size.device, size.n_steps, stop_after=n_all)
            reset_memory(size.device)
            train(copy.deepcopy(decoder), data, config, size.device, steps=steps)
            found[way] = steps.values()
            seconds[way] = steps.seconds()
            peaks[way] = peak_gb(size.device)
    finally:
        trainer.fits = fits
    row = {
        "difference": difference(found["host"], found["gpu"]),
        "host_ms_per_step": 1000 * seconds["host"],
        "gpu_ms_per_step": 1000 * seconds["gpu"],
        "time_ratio": seconds["host"] / seconds["gpu"],
        "host_peak_gb": peaks["host"],
        "gpu_peak_gb": peaks["gpu"],
    }
    memory = f"; peak {peaks['host']:.1f} GB instead of {peaks['gpu']:.1f}"
    row["note"] = (
        f"a step takes {row['time_ratio']:.2f} times as long, losses equal "
        f"{within(row['difference'])}" + memory * (peaks["gpu"] > 0)
    )
    problems = []
    if not row["difference"] <= SAME:
        problems.append(f"losses differ by {row['difference']:.1e}")
    return check(row, problems)


def cache_clip(size: Size) -> dict[str, Any]:
    """Pictures through a ViT-L/14 with random weights into a CLIP cache, as the stage does it,
    against the bare forward pass.
    """
    import open_clip
    from safetensors.torch import save_file

    from fmri2clip.artefacts.clip_cache import CLIP
    from fmri2clip.clip import encoder, tokens
    from fmri2clip.core import store
    from fmri2clip.core.ahead import ahead
    from fmri2clip.core.schema import Kind

    threads = os.cpu_count() or 1
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder, size)
        torch.manual_seed(0)
        state = open_clip.create_model(clip.model).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, clip.pretrained)
        del state
        reset_memory(size.device)
        model = encoder.load(clip, size.device)
        side = 425 if size.name == "real" else 40
        step = min(clip.batch_size, size.n_pictures)
        images = rng.integers(0, 256, (step, side, side, 3), dtype=np.uint8)
        # Once before the clock runs: kernels are chosen and memory is taken.
        features = model.features(images, (), threads, targets=True, low_level=True)
        names = ["image_embedding_ID", tokens.LOW_CLS, tokens.LOW_MEAN, *tokens.image_names(clip)]
        sizes = {"I": size.n_pictures, "D": model.width_D}
        sizes |= dict(zip("TW", model.token_shape(), strict=True))
        kind = Kind(CLIP.name, {n: entry for n, entry in CLIP.fields.items() if n in names})
        starts = range(0, size.n_pictures, step)
        started = now(size.device)
        with store.open_stream(
            folder / "clip.h5", kind, fixed={}, sizes=sizes, names=names, partial=folder / "blocks"
        ) as stream:
            resized = ((s, model.resize(images[: size.n_pictures - s], threads)) for s in starts)
            for start, block in ahead(resized):
                features = model.features(block, (), targets=True, low_level=True)
                for key in names:
                    stream.write(key, start, features[key])
            seconds = now(size.device) - started
        written = now(size.device) - started
        bare = time_forward(model, images, size)
        captions = [f"a scene with {i} things" for i in range(step)]
        started = now(size.device)
        text = model.text_tokens(captions)
        text_seconds = now(size.device) - started
        ready = model.preprocess(images, threads).to(model.dtype)
        with torch.inference_mode():
            pooled_ID = normalize(model.model.encode_image(ready).float(), dim=1).cpu().numpy()
        direct = float(np.abs(pooled_ID - model.features(images)["image_embedding_ID"]).max())
    finite = all(np.isfinite(value).all() for value in (*features.values(), text))
    row = {
        "n_pictures": size.n_pictures,
        "batch": step,
        "precision": clip.precision,
        "threads": threads,
        "pictures_per_s": size.n_pictures / seconds,
        "pictures_per_s_with_file": size.n_pictures / written,
        "bare_pictures_per_s": bare,
        "of_bare_forward": size.n_pictures / seconds / bare,
        "captions_per_s": len(captions) / text_seconds,
        "peak_gb": peak_gb(size.device),
        "difference": direct,
    }
    row["note"] = (
        f"{row['pictures_per_s']:.0f} pictures/s, {100 * row['of_bare_forward']:.0f} % of the bare "
        f"forward pass ({bare:.0f}/s); 37,000 pictures in "
        f"{37_000 / row['pictures_per_s_with_file'] / 60:.1f} minutes{gpu_memory(row['peak_gb'])}"
    )
    problems = []
    if not finite:
        problems.append("a feature is not finite")
    if not direct <= 1e-3:
        problems.append(f"embeddings differ from a direct call by {direct:.1e}")
    return check(row, problems)


def make_clip(folder: Path, size: Size) -> Clip:
    """vit_l14 of presets/nsd.yaml with weights of this folder; a thin tower for a toy."""
    from ruamel.yaml import YAML

    weights = str(folder / "weights.safetensors")
    preset = YAML(typ="safe").load(PRESET.read_text(encoding="utf-8"))
    clip = build(Clip, preset["clips"]["vit_l14"], str(PRESET), "clips.vit_l14")
    if size.name == "real":
        return replace(clip, pretrained=weights)
    import open_clip

    path = folder / "thin.json"
    vision = {"image_size": 28, "layers": 2, "width": 64, "patch_size": 14}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    thin = {"model": "thin", "config": str(path), "precision": "fp32", "detail_layers": (1, 2)}
    return replace(clip, pretrained=weights, **thin)


def time_forward(model: Any, images: np.ndarray, size: Size) -> float:
    """Pictures a second of the image tower alone, pictures ready on the device."""
    ready = model.preprocess(images).to(model.dtype)
    n_passes = max(2, size.n_pictures // len(images))
    with torch.inference_mode():
        model.model.encode_image(ready)
        started = now(size.device)
        for _ in range(n_passes):
            model.model.encode_image(ready)
        return n_passes * len(images) / (now(size.device) - started)


def paint(size: Size) -> dict[str, Any]:
    """Pictures by a Versatile Diffusion of random weights, through the generator of the library."""
    import diffusers

    from fmri2clip.generators import Conditioning, versatile

    real = size.name == "real"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_versatile(folder, diffusers, size)
        config = versatile.Config(
            path=name,
            clip_model="ViT-L-14-quickgelu",
            precision="fp16" if size.device == "cuda" else "fp32",
            steps=20 if real else 2,
            batch_size=size.n_painted,
        )
        reset_memory(size.device)
        generator = versatile.Generator(config, size.device)
        rng = np.random.default_rng(0)
        n = size.n_painted
        width = 768 if real else 16
        features = Conditioning(
            clip_model=config.clip_model,
            tokens_ITW=rng.standard_normal((n, versatile.IMAGE_TOKENS, width), np.float32),
            text_tokens_IUW=rng.standard_normal((n, versatile.TEXT_TOKENS, width), np.float32),
        )
        started = now(size.device)
        images = generator.generate(features, list(range(n)))
        seconds = now(size.device) - started
    row = {"n_pictures": n, "s_per_picture": seconds / n, "peak_gb": peak_gb(size.device)}
    row["side"] = images.shape[1]
    row["note"] = (
        f"{n} pictures of {images.shape[1]} pixels, {row['s_per_picture']:.2f} s each"
        f"{gpu_memory(row['peak_gb'])}"
    )
    same = len(np.unique(images)) < 2
    return check(row, ["all pictures have one grey"] if same else [])


def save_versatile(folder: Path, diffusers: Any, size: Size) -> None:
    """The parts that the generator reads, of the published sizes, as a saved pipeline has them."""
    torch.manual_seed(0)
    real = size.name == "real"
    dtype = torch.float16 if size.device == "cuda" else torch.float32
    channels = (320, 640, 1280, 1280) if real else (8, 16)
    n = len(channels)
    unet = diffusers.UNet2DConditionModel(
        sample_size=64 if real else 8,
        block_out_channels=channels,
        layers_per_block=2 if real else 1,
        down_block_types=("CrossAttnDownBlock2D",) * (n - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (n - 1),
        cross_attention_dim=768 if real else 16,
        attention_head_dim=8 if real else 2,
        norm_num_groups=32 if real else 4,
        dual_cross_attention=True,
    )
    unet.to(dtype).save_pretrained(folder / "image_unet")
    del unet
    widths = (128, 256, 512, 512) if real else (8, 8)
    vae = diffusers.AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=2 if real else 1,
        latent_channels=4,
        norm_num_groups=32 if real else 4,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
    )
    vae.to(dtype).save_pretrained(folder / "vae")
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "VersatileDiffusionDualGuidedPipeline",
        "_diffusers_version": diffusers.__version__,
        "image_unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_unet": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


DDP_RUNS = ("brainclip", "brainmclip")


def train_on_two_gpus(size: Size) -> dict[str, Any]:
    """Two processes under torchrun take the steps of one."""
    n_gpus = torch.cuda.device_count() if size.device == "cuda" else 0
    if n_gpus < 2:
        return {"skipped": f"two GPUs are needed, {n_gpus} there"}
    with tempfile.TemporaryDirectory() as folder:
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
        command = [
            sys.executable,
            *torchrun,
            str(ROOT / "benchmarks" / "gpu_check.py"),
            "--ddp",
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Problem(done.stderr[-500:])
        found = json.loads((Path(folder) / "losses.json").read_text())
    row: dict[str, Any] = {}
    problems = []
    for name in DDP_RUNS:
        losses, seconds = ddp_losses(name, size)
        row[f"{name}_difference"] = difference(found[name][0], losses)
        row[f"{name}_speed_up"] = seconds / found[name][1]
        if not row[f"{name}_difference"] <= FP32:
            problems.append(f"{name} differs by {row[f'{name}_difference']:.1e}")
    row["note"] = "; ".join(
        f"{name} {row[f'{name}_speed_up']:.2f} times as fast, losses equal "
        f"{within(row[f'{name}_difference'])}"
        for name in DDP_RUNS
    )
    return check(row, problems)


def ddp_losses(name: str, size: Size) -> tuple[list[float], float]:
    """Losses of two epochs without dropout in float32, and seconds of a step, in this process or in
    all that torchrun has started.
    """
    _, data, decoder = make_training(name, size, n_steps=5)
    decoder = without_dropout(decoder, data)
    steps = Steps(size.device, 5, stop_after=10)
    train(decoder, data, decoder.config, size.device, precision="fp32", steps=steps)
    return steps.values(), steps.seconds()


def run_ddp(folder: Path) -> None:
    """What torchrun starts twice."""
    found = {name: ddp_losses(name, REAL) for name in DDP_RUNS}
    if os.environ["RANK"] == "0":
        (folder / "losses.json").write_text(json.dumps(found))


RESUMED: dict[str, dict[str, Any]] = {"brainclip": {}, "brainmclip": {"hidden": 256}}


def resume_after_kill(size: Size) -> dict[str, Any]:
    """A training that SIGKILL ends behind a checkpoint, and that goes on, gives the bytes of one
    that nobody disturbed.
    """
    row: dict[str, Any] = {}
    problems = []
    for name in RESUMED:
        with tempfile.TemporaryDirectory() as folder:
            killed = Path(folder) / "killed"
            whole = Path(folder) / "whole"
            ended = start(train_and_digest, size, name, killed, True)
            ended.join()
            if ended.exitcode != -signal.SIGKILL or not (killed / "last.ckpt").is_file():
                raise Problem(f"{name} ended with {ended.exitcode} and not by its own SIGKILL")
            row[f"{name}_checkpoint_gb"] = (killed / "last.ckpt").stat().st_size / GB
            digests = []
            for path in (killed, whole):
                ended = start(train_and_digest, size, name, path, False)
                ended.join()
                if ended.exitcode:
                    raise Problem(f"{name} ended with {ended.exitcode}")
                digests.append(json.loads((path / "digest.json").read_text()))
        row[name] = digests[0] == digests[1]
        if not row[name]:
            problems.append(f"{name} ends with other bytes")
    row["note"] = f"{' and '.join(RESUMED)} killed in the third of four epochs"
    row["note"] += "" if problems else "; the same bytes as undisturbed"
    return check(row, problems)


def train_and_digest(size: Size, name: str, folder: Path, kill: bool) -> None:
    """Four epochs with a checkpoint after each; sha256 of the weights, and the curve. kill: SIGKILL
    in the third epoch.
    """
    config, data, decoder = make_training(
        name, size, n_steps=4, max_epochs=4, patience=4, **RESUMED[name]
    )
    folder.mkdir(parents=True, exist_ok=True)

    def watch(epoch: int, loss: Tensor, optimizer: Any) -> None:
        if kill and epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    from fmri2clip.stages.train import trainer

    rows = trainer.fit(
        decoder,
        data,
        config,
        seed=0,
        device=size.device,
        resume_dir=folder,
        on_step=watch,
        checkpoint_every_s=0.0,
        progress=None,
    )
    digest = hashlib.sha256()
    for key, value in sorted(decoder.state_dict().items()):
        digest.update(key.encode() + value.contiguous().numpy().tobytes())
    content = {"sha256": digest.hexdigest(), "rows": rows}
    (folder / "digest.json").write_text(json.dumps(content))


# Part -> what it does, and seconds that it may take.
PARTS: dict[str, tuple[Callable[[Size], dict[str, Any]], float]] = {
    "train_brainclip": (train_gradient("brainclip"), 90),
    "train_brainmclip": (train_gradient("brainmclip"), 150),
    "train_clip_mused": (train_gradient("clip_mused"), 120),
    "stream_features": (stream_features, 90),
    "two_subjects": (train_two_subjects, 120),
    "closed_forms": (fit_closed_forms, 120),
    "resume": (resume_after_kill, 120),
    "cache_clip": (cache_clip, 120),
    "two_gpus": (train_on_two_gpus, 90),
    "generator": (paint, 120),
}
