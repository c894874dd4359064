"""One run of params.yaml: train its models and put them, complete, under models/<run>.

    models/<run>/<subject>/weights.safetensors, config.yaml     the decoder (folder `shared` if one serves all)
    models/<run>/<subject>/inputs.safetensors                   voxels, session statistics, means for centring, clusters
    models/<run>/<subject>/split.json                           ids of validation and left-out images, unseen categories

Finished subjects wait in the resume folder until all are finished; then the run appears at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from fmri2clip import decoders, resume, store
from fmri2clip.decoders import TrainingData
from fmri2clip.params import Params, Split, decoder_config, run_split
from fmri2clip.training.cached import read_clip
from fmri2clip.training.data import Subject, load_subject
from fmri2clip.training.split import fit_clusters
from fmri2clip.training.validation import token_means, training_means, validation_scores

# (folder of the model, curve.csv, seconds by name): called once a model when the run is complete,
# for tracking.
Log = Callable[[Path, Path, Mapping[str, float]], Any]


def train_run(
    run_name: str,
    params: Params,
    *,
    rois_train_dir: Path,
    voxels_dir: Path,
    clip_train_path: Path,
    models_dir: Path,
    curve_path: Path,
    log: Log | None = None,
    resume_root: Path = resume.RESUME_ROOT,
) -> None:
    """Train all models of a run; write models_dir/<run_name> and the curve, both only when
    everything is finished.

    rois_train_dir and voxels_dir hold <subject>.h5; clip_train_path is the cache of the training
    images.
    """
    torch.set_num_threads(params.compute.threads)
    run = params.runs[run_name]
    module = decoders.load_decoder(run.decoder)
    config, split = decoder_config(params, run_name, module.Config), run_split(params, run_name)
    files = {
        s: {"betas": rois_train_dir / f"{s}.h5", "voxels": voxels_dir / f"{s}.h5"}
        for s in run.subjects
    }
    described = {
        "run": run_name,
        **{key: getattr(run, key) for key in ("decoder", "clip", "voxels", "seed")},
        "config": asdict(config),
        "split": asdict(split),
        "digests": {"clip": _sha256(clip_train_path)}
        | {s: {kind: _sha256(path) for kind, path in paths.items()} for s, paths in files.items()},
    }
    work = resume.resume_dir(
        f"train/{run_name}", described, params.compute, _code(run.decoder), root=resume_root
    )
    targets, per_subject = (
        decoders.find_targets(module, config),
        decoders.trains_alone(module, config),
    )
    clip = read_clip(clip_train_path, targets)
    clusters = fit_clusters(clip["image_embedding_ID"], split) if split.holdout_clusters else None
    seconds: dict[str, dict[str, float]] = {}
    for group in [[s] for s in run.subjects] if per_subject else [list(run.subjects)]:
        name = group[0] if per_subject else "shared"
        if (work / "finished" / name).is_dir():
            continue
        subjects = [
            load_subject(
                *(
                    s,
                    files[s]["betas"],
                    files[s]["voxels"],
                    clip,
                    run.voxels,
                    subject_split(split, config, s),
                ),
                *(clusters, targets),
            )
            for s in group
        ]
        own = {"clip": described["digests"]["clip"], **{s: described["digests"][s] for s in group}}
        started = time.monotonic()
        _train_model(
            name,
            subjects,
            module,
            config,
            {**described, "digests": own},
            params.compute.device,
            work,
        )
        seconds[name] = {"train": time.monotonic() - started}
    if not is_writer():
        return
    for folder in _place(run_name, work / "finished", models_dir, curve_path):
        if log:
            log(folder, curve_path, seconds.get(folder.name, {}))
    resume.remove(work, root=resume_root)


def subject_split(split: Split, config: Any, subject: str) -> Split:
    """The split of one subject: the `new_subject` of a decoder's settings has its first
    `new_sessions` only.
    """
    if subject == getattr(config, "new_subject", "") and config.new_sessions:
        return replace(split, n_sessions=config.new_sessions)
    return split


def is_writer() -> bool:
    """False in all but the first of the processes that torchrun starts."""
    return os.environ.get("RANK", "0") == "0"


def _code(decoder: str) -> str:
    """Digest of the code that decides what a training results in."""
    return resume.code_digest(
        *(f"decoders/{name}.py" for name in ("__init__", decoder)),
        *(
            f"training/{name}.py"
            for name in ("cached", "data", "routing", "run", "split", "trainer", "validation")
        ),
        *(
            f"{name}.py"
            for name in (
                "distributed",
                "guidance",
                "input_maps",
                "kernel_ridge",
                "losses",
                "networks",
            )
        ),
        *(f"mused_{name}.py" for name in ("config", "facts", "guidance", "networks", "phases")),
        *("metrics/classification.py", "rois.py"),
    )


def _train_model(
    name: str,
    subjects: list[Subject],
    module: Any,
    config: Any,
    described: dict[str, Any],
    device: str,
    work: Path,
) -> None:
    """Train one model for these subjects and move its complete folders to work/finished."""
    data = [subject.data for subject in subjects]
    sizes = {d.subject: d.betas_NV.shape[1] for d in data}
    n_voxels = sizes[data[0].subject] if module.Decoder.per_subject else sizes
    width_D = data[0].image_embedding_ID.shape[1]
    decoder = decoders.build(module, config, data, described["seed"])
    rows = fit_decoder(
        decoder, data, config, described["seed"], device, work / f"checkpoint_{name}", name
    )
    if not is_writer():
        return
    described = described | {
        "n_voxels": n_voxels,
        "width_D": width_D,
        "n_training_images": {d.subject: int((~d.is_validation_I).sum()) for d in data},
        "n_validation_images": {d.subject: int(d.is_validation_I.sum()) for d in data},
        "parameters": decoder.n_parameters(),
    }
    folder = work / "unfinished" / name
    shutil.rmtree(folder, ignore_errors=True)
    decoders.save(folder / name, decoder, described)
    for subject in subjects:
        means = training_means(decoder, subject.data) | token_means(decoder, subject.data)
        _save_subject(folder / subject.data.subject, subject, means)
    (folder / "curve.json").write_text(json.dumps(rows))
    (work / "finished").mkdir(exist_ok=True)
    os.replace(folder, work / "finished" / name)
    shutil.rmtree(work / f"checkpoint_{name}", ignore_errors=True)


def fit_decoder(
    decoder: Any,
    data: Sequence[TrainingData],
    config: Any,
    seed: int,
    device: str,
    folder: Path,
    label: str = "training",
) -> list[dict[str, float]]:
    """Train a decoder in place, in closed form if it has `fit`, else by gradients; returns the
    rows of its curve.
    """
    device = resolve_device(device)
    if hasattr(decoder, "fit"):
        (single,) = data
        row = decoder.to(device).fit(single.to(device))
        decoder.cpu()
        return [{"epoch": 0, **row, **validation_scores(decoder, single)}]
    from fmri2clip.training import (
        trainer,
    )  # imports lightning, which a closed form need not pay for

    if not hasattr(decoder, "phases"):
        return trainer.fit(
            decoder, data, config, seed=seed, device=device, resume_dir=folder, progress=label
        )
    rows: list[dict[str, float]] = []
    for phase in decoder.phases(data):
        where = {"resume_dir": folder / phase.name, "progress": f"{label} {phase.name}"}
        part = trainer.fit(decoder, phase.data, phase.config, seed=seed, device=device, **where)
        rows += [{**row, "epoch": row["epoch"] + len(rows)} for row in part]
    return rows


def resolve_device(name: str) -> str:
    """cpu or cuda for auto, cpu or cuda. Raises ValueError if cuda is asked for and absent."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is 'cuda' but no GPU is visible; set it to auto or cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(f"compute.device is {name!r}; choose from auto, cpu, cuda")
    return name


def _save_subject(folder: Path, subject: Subject, means: dict[str, torch.Tensor]) -> None:
    """inputs.safetensors and split.json of one subject."""
    arrays = {name: np.ascontiguousarray(array) for name, array in subject.inputs.items()}
    arrays |= {name: value.cpu().numpy() for name, value in means.items()}
    if subject.split.clusters is not None:
        arrays["centroids_KD"] = subject.split.clusters.centroids_KD
        arrays["heldout_clusters"] = subject.split.clusters.heldout
    folder.mkdir(exist_ok=True)
    save_file(arrays, folder / "inputs.safetensors")
    split, ids = subject.split, subject.nsd_id_I
    content = {
        "validation": ids[split.validation_I].tolist(),
        "left_out": ids[split.left_out_I].tolist(),
        "unused": ids[split.unused_I].tolist(),
        "unseen_categories": subject.unseen,
    }
    (folder / "split.json").write_text(json.dumps(content) + "\n")


def _place(run_name: str, finished: Path, models_dir: Path, curve_path: Path) -> list[Path]:
    """Publish the run and its curve; returns the folders of its models."""
    curves = {
        f.parent.name: json.loads(f.read_text()) for f in sorted(finished.glob("*/curve.json"))
    }
    final, temporary = models_dir / run_name, models_dir / f".{run_name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    for name in curves:
        shutil.copytree(
            finished / name,
            temporary,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("curve.json"),
        )
    shutil.rmtree(
        final, ignore_errors=True
    )  # of an earlier run by hand: DVC removes outputs itself
    os.replace(temporary, final)
    with store.replacing(curve_path) as (part,):
        part.write_text(curve_csv(curves))
    return [final / name for name in curves]


def curve_csv(curves: dict[str, list[dict[str, float]]]) -> str:
    """The curves as CSV: subject, then the columns of the rows; numbers with 6 significant
    digits.
    """
    columns = list(next(iter(curves.values()))[0])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", *columns])
    writer.writerows(
        [name, *(f"{row[c]:.6g}" for c in columns)] for name, rows in curves.items() for row in rows
    )
    return text.getvalue()


def _sha256(path: Path) -> str:
    """Digest of a file. Raises ValueError if it does not exist."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the stage that writes it (dvc repro)")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
