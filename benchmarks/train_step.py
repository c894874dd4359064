"""Time of a brainmclip training step through the trainer against a bare loop, and its peak memory;
random data.

    python benchmarks/train_step.py          # writes benchmarks/train_step.json
    python benchmarks/train_step.py --tiny   # seconds, to see that it works; writes nothing

Real size on a GPU: 15,724 voxels, 257 x 768 image and 77 x 768 text tokens, batch 64, hidden 2048,
rank 192, bfloat16 autocast. Without a GPU the width is reduced, and the file says so. Both loops
run the same module on the same data, in memory, with the same batches, precision, optimiser and
gradient clip; the trainer's validation is left out, as the bare loop has none.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import platform
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.core.params import load  # noqa: E402
from fmri2clip.decoders.batches import TrainingData  # noqa: E402
from fmri2clip.decoders.brainmclip.decoder import Config, Decoder  # noqa: E402
from fmri2clip.stages.count_parameters.settings import nsd_config  # noqa: E402
from fmri2clip.stages.train import trainer  # noqa: E402
from fmri2clip.stages.train.batches import EpochBatches  # noqa: E402

# Voxels, images of an epoch, tokens, width of tokens, width and rank of the network.
NAMES = ("voxels", "images", "tokens", "text", "width", "hidden", "rank")
SIZES = {
    "real size": (15_724, 1_280, 257, 77, 768, 2048, 192),
    "reduced width": (15_724, 256, 257, 77, 96, 256, 24),
    "tiny": (300, 64, 9, 5, 16, 16, 4),
}
N_WARM, N_TIMED = 1, 3  # epochs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    label = "tiny" if arguments.tiny else "real size" if device == "cuda" else "reduced width"
    size = dict(zip(NAMES, SIZES[label], strict=True))
    params = load(ROOT / "params.yaml")
    config = replace(
        nsd_config(params, "brainmclip", Config, ROOT / "presets" / "nsd.yaml"),
        hidden=size["hidden"],
        variant="tokens",
        token_rank=size["rank"],
        max_epochs=N_WARM + N_TIMED,
        patience=99,
        batch_size=64,
        mixco_epochs=0.0,
    )
    data = make_data(size, device)
    row: dict[str, Any] = {
        "size": label,
        "device": describe(device),
        **size,
        "batch": config.batch_size,
    }
    for name, measure in (("bare_loop", time_bare_loop), ("trainer", time_trainer)):
        row |= {f"{name}_{key}": value for key, value in measure(config, data, device).items()}
    row["trainer_over_bare_loop"] = round(
        row["trainer_s_per_step"] / row["bare_loop_s_per_step"], 3
    )
    print(json.dumps(row, indent=1))
    if not arguments.tiny:
        (ROOT / "benchmarks" / "train_step.json").write_text(json.dumps(row, indent=1) + "\n")


def make_data(size: dict[str, int], device: str) -> TrainingData:
    """Random voxels and tokens, one trial an image; two thirds of the voxels are category voxels,
    all are detail.
    """
    generator = torch.Generator().manual_seed(0)
    n, width = size["images"], size["width"]

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    image, text = size["tokens"], size["text"]
    shapes = {"semantic_tokens_ITD": image, "detail_tokens_ITD": image, "text_tokens_IUD": text}
    voxel, embedding = torch.arange(size["voxels"]), normalize(draw(n, width), dim=1)
    return TrainingData(
        subject="subj01",
        betas_NV=draw(n, size["voxels"]),
        image_N=torch.arange(n),
        nsd_id_I=torch.arange(n),
        image_embedding_ID=embedding,
        text_embedding_KD=embedding,
        caption_image_K=torch.arange(n),
        caption_K=[str(i) for i in range(n)],
        is_validation_I=torch.zeros(n, dtype=torch.bool),
        features={name: draw(n, tokens, width).half() for name, tokens in shapes.items()},
        groups={"low": voxel < 9000, "high": voxel >= size["voxels"] // 3},
    ).to(device)


def time_bare_loop(config: Config, data: TrainingData, device: str) -> dict[str, float]:
    """The steps of an epoch in a plain loop."""
    decoder = Decoder.from_data(config, [data], 0).to(device).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=config.lr, fused=True)
    batches = EpochBatches(
        data, config.batch_size, 0, 0, config.repeats_convex, config.repeats_mean
    )
    half = (
        torch.autocast("cuda", dtype=torch.bfloat16)
        if device == "cuda"
        else contextlib.nullcontext()
    )
    reset_peak(device)
    for epoch in range(N_WARM + N_TIMED):
        if epoch == N_WARM:
            started = now(device)
        batches.epoch = epoch
        for i, batch in enumerate(batches):
            with half:
                loss = torch.stack(
                    list(decoder.loss(batch, epoch + i / len(batches)).values())
                ).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), config.gradient_clip)
            optimizer.step()
    return report(now(device) - started, len(batches), device)


def time_trainer(config: Config, data: TrainingData, device: str) -> dict[str, float]:
    """The same steps through the trainer, from the end of the first step of the first timed epoch
    to that of one more.
    """
    decoder = Decoder.from_data(config, [data], 0)
    first: dict[int, float] = {}  # when the first step of each epoch was done
    scores, trainer.validation_scores = (
        trainer.validation_scores,
        lambda decoder, data: {"val_mean": 0.0},
    )

    def watch(epoch: int, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        if epoch not in first:
            first[epoch] = now(device)

    longer = dataclasses.replace(config, max_epochs=config.max_epochs + 1)
    reset_peak(device)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer.fit(
                decoder,
                data,
                longer,
                seed=0,
                device=device,
                resume_dir=Path(folder),
                on_step=watch,
                checkpoint_every_s=1e9,
                progress=None,
            )
    finally:
        trainer.validation_scores = scores
    n_steps = -(-len(data.nsd_id_I) // config.batch_size)
    return report(first[N_WARM + N_TIMED] - first[N_WARM], n_steps, device)


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def report(seconds: float, n_steps: int, device: str) -> dict[str, float]:
    """Seconds a step; peak GiB on the GPU, or of the whole process so far on the CPU (data
    included).
    """
    process = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else process
    return {
        "s_per_step": round(seconds / (N_TIMED * n_steps), 5),
        "peak_gib": round(peak / 2**30, 3),
    }


def describe(device: str) -> str:
    cpu = f"{torch.get_num_threads()} threads of a {platform.machine()} CPU"
    return torch.cuda.get_device_name() if device == "cuda" else cpu


if __name__ == "__main__":
    main()
