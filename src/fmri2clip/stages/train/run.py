"""One run of params.yaml: train its models and put them, complete, under models/<run>.

Finished subjects wait in the resume folder until all are finished; then the run appears at once.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.card import write_card
from fmri2clip.artefacts.library import find_parts
from fmri2clip.artefacts.model import (
    JUDGE,
    SHARED,
    publish,
    save,
    save_clip,
    save_heldout,
    save_subject,
)
from fmri2clip.artefacts.paths import Paths
from fmri2clip.artefacts.selected import check_selected, find_files
from fmri2clip.core import resume, watch
from fmri2clip.core.closure import code_digest
from fmri2clip.core.files import replacing
from fmri2clip.core.params import Compute, Params, decoder_config, run_split
from fmri2clip.core.stage import resolve_device
from fmri2clip.decoders import Decoder, load_decoder
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.stages.train.data import Subject
from fmri2clip.stages.train.heldout import predict_heldout
from fmri2clip.stages.train.inputs import Inputs
from fmri2clip.stages.train.memory import release
from fmri2clip.stages.train.readout import fit_readout
from fmri2clip.stages.train.sigterm import heed_sigterm
from fmri2clip.stages.train.validation import token_means, training_means, validation_scores

CURVE = "curve.json"  # rows of a finished model's curve, until all are finished
# For tracking, called when the run is complete: Unix seconds at which each model's training began
# and ended, of those that this process trained.
Log = Callable[[Mapping[str, tuple[float, float]]], Any]


def train_run(
    run_name: str,
    params: Params,
    paths: Paths,
    log: Log | None = None,
    resume_root: Path = resume.RESUME_ROOT,
) -> None:
    """Train all models of a run; write models/<run_name> and the curve when all are finished.

    Reads training trials, voxels and the CLIP cache of the training images, and nothing of the test
    images.
    """
    torch.set_num_threads(params.compute.threads)
    run = params.runs[run_name]
    module = load_decoder(run.decoder)
    config = decoder_config(params, run_name, module.Config)
    split = run_split(params, run_name)
    libraries = {s: find_parts(params, run_name, s, paths) for s in run.subjects}
    digests = check_selected(
        paths.selected(run_name), run.clip, run.subjects, paths, params.compute.threads, libraries
    )
    watch.also(
        f for s in run.subjects for f in find_files(run.clip, s, paths, libraries[s]).values()
    )
    described = {
        "run": run_name,
        **{key: getattr(run, key) for key in ("decoder", "clip", "voxels", "seed")},
        "dataset": {key: getattr(params.dataset, key) for key in ("source", "preparation")},
        "config": asdict(config),
        # The judge's images change no model, so none tells of them.
        "split": {key: value for key, value in asdict(split).items() if key != "n_judge"},
        "digests": digests,
    }
    # Settings, inputs and code name the folder of half-done work: a run that was killed goes on, a
    # changed one starts anew.
    code = code_digest(__name__, decoder=run.decoder)
    key = {**described, "n_judge": split.n_judge} if split.n_judge else described
    work = resume.resume_dir(f"train/{run_name}", key, params.compute, code, root=resume_root)
    inputs = Inputs(run, paths, split, module.Decoder, config, libraries)
    if module.Decoder.trains_alone(config):
        models = {s: [s] for s in run.subjects}
    else:
        models = {SHARED: list(run.subjects)}
    times: dict[str, tuple[float, float]] = {}
    # From the first model to the last, as a signal may come between two.
    with heed_sigterm() as term:
        for name, members in models.items():
            # Finished before the run was killed.
            if (work / "finished" / name).is_dir():
                continue
            # A training by gradients stops by itself, behind an epoch, in all of its processes.
            if term and module.Decoder.closed_form:
                raise ValueError(f"stopped by SIGTERM before {name}; run again to go on with it")
            # A model names the files that it has seen, and not those of other subjects.
            own = {**described, "digests": {s: digests[s] for s in members}}
            started = time.time()
            training = _Training(
                name=name,
                module=module,
                config=config,
                described=own,
                compute=params.compute,
                work=work,
            )
            _train_model(training, inputs, members)
            times[name] = (started, time.time())
            watch.check()
    # Under torchrun all processes train, and the first one writes.
    if not is_writer():
        return
    _place(work / "finished", paths.model(run_name), paths.curve(run_name))
    if log:
        log(times)
    resume.remove(work, root=resume_root)


def is_writer() -> bool:
    """False in all but the first of the processes that torchrun starts."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What one model of a run is trained with, and where its half-done work lies."""

    name: str
    module: Any
    config: Any
    described: dict[str, Any]
    compute: Compute
    work: Path

    def fit(
        self, subjects: Sequence[Subject], label: str
    ) -> tuple[Decoder, list[dict[str, float]]] | None:
        """A new decoder, trained, and rows of its curve; None in a process that has no part.

        A closed form cannot be divided among processes: the first one solves it.
        """
        data = [subject.data for subject in subjects]
        seed = self.described["seed"]
        decoder = self.module.Decoder.from_data(self.config, data, seed)
        if decoder.closed_form and not is_writer():
            return None
        folder = self.work / f"checkpoint_{label}"
        rows = fit_decoder(decoder, data, seed, self.compute, folder, label)
        return (decoder, rows) if is_writer() else None


def _train_model(training: _Training, inputs: Inputs, members: Sequence[str]) -> None:
    """Train one model for these subjects and move its complete folders to work/finished.

    Where the judge has images, a second one that does not see them comes first, and its predictions
    for them.
    """
    name = training.name
    # Written apart and renamed when complete: what lies in `finished` is whole.
    folder = training.work / "unfinished" / name
    shutil.rmtree(folder, ignore_errors=True)
    if inputs.split.n_judge:
        # Nothing of this one stays in memory when the next is read, 12 GB a subject at real size.
        _fit_judged(training, inputs, members, folder / JUDGE)
    subjects = inputs.load(members)
    fitted = training.fit(subjects, name)
    if fitted is None:
        return
    decoder, rows = fitted
    _save_model(folder, training, inputs, decoder, subjects)
    for subject in members:
        write_card(folder, subject)
    (folder / CURVE).write_text(json.dumps(rows))
    finished = training.work / "finished"
    finished.mkdir(exist_ok=True)
    os.replace(folder, finished / name)
    for label in (name, f"{name}_{JUDGE}"):
        shutil.rmtree(training.work / f"checkpoint_{label}", ignore_errors=True)


def _fit_judged(training: _Training, inputs: Inputs, members: Sequence[str], folder: Path) -> None:
    subjects = inputs.load(members, hide_judge=True)
    fitted = training.fit(subjects, f"{training.name}_{JUDGE}")
    if fitted is None:
        return
    decoder, _ = fitted
    _save_model(folder, training, inputs, decoder, subjects)
    basis = inputs.read_token_basis() if decoder.offers_tokens else None
    for subject in members:
        images = inputs.judge(subject, basis is not None)
        save_heldout(folder / subject, predict_heldout(decoder, images, basis))


def _save_model(
    folder: Path,
    training: _Training,
    inputs: Inputs,
    decoder: Decoder,
    subjects: Sequence[Subject],
) -> None:
    """Weights, and what belongs to each subject, in folders of their names."""
    data = [subject.data for subject in subjects]
    sizes = {d.subject: d.betas_NV.shape[1] for d in data}
    described = training.described | {
        "n_voxels": sizes[data[0].subject] if decoder.per_subject else sizes,
        "width_D": data[0].image_embedding_ID.shape[1],
        "n_training_images": {d.subject: int((~d.is_validation_I).sum()) for d in data},
        "n_validation_images": {d.subject: int(d.is_validation_I.sum()) for d in data},
        "parameters": decoder.n_parameters(),
    }
    save(folder / training.name, decoder, described)
    for subject in subjects:
        means = training_means(decoder, subject.data) | token_means(decoder, subject.data)
        readout = fit_readout(decoder, subject.data, means, inputs.prompts)
        own = folder / subject.data.subject
        _save_subject(own, subject, means, inputs.prompts | readout)
        save_clip(own, inputs.clip_facts)


def fit_decoder(
    decoder: Any,
    data: Sequence[TrainingData],
    seed: int,
    compute: Compute,
    folder: Path,
    label: str = "training",
) -> list[dict[str, float]]:
    """Train a decoder in place, in closed form or by gradients; returns rows of its curve."""
    device = resolve_device(compute.device)
    if decoder.closed_form:
        (single,) = data
        row = decoder.to(device).fit(single.to(device))
        decoder.cpu()
        release()
        return [{"epoch": 0, **row, **validation_scores(decoder, single)}]
    # Imported here: it brings Lightning, which a closed form does not need.
    from fmri2clip.stages.train import trainer

    rows: list[dict[str, float]] = []
    for phase in decoder.phases(data):
        part = trainer.fit(
            decoder,
            phase.data,
            phase.config,
            seed=seed,
            device=device,
            precision=compute.precision,
            resume_dir=folder / phase.name,
            progress=f"{label} {phase.name}".strip(),
        )
        # Epochs count on through the phases.
        rows += [{**row, "epoch": row["epoch"] + len(rows)} for row in part]
    return rows


def _save_subject(
    folder: Path,
    subject: Subject,
    means: dict[str, torch.Tensor],
    readout: Mapping[str, NDArray[Any]],
) -> None:
    """What the model folder keeps about one subject.

    readout: present_C, prompt_embedding_PCD, and what fit_readout gives.
    """
    arrays = subject.inputs | {name: value.cpu().numpy() for name, value in means.items()}
    arrays |= readout
    # The centroids and which of them were held out, beside the voxels and statistics.
    if subject.split.clusters is not None:
        arrays["centroids_KD"] = subject.split.clusters.centroids_KD
        arrays["heldout_clusters"] = subject.split.clusters.heldout
    split = subject.split
    ids = subject.nsd_id_I
    content = {
        "validation": ids[split.validation_I].tolist(),
        "left_out": ids[split.left_out_I].tolist(),
        "unused": ids[split.unused_I].tolist(),
        "unseen_categories": subject.unseen,
    }
    save_subject(folder, arrays, content)


def _place(finished: Path, run_folder: Path, curve_path: Path) -> None:
    """Publish the run and its curve."""
    curves = {
        file.parent.name: json.loads(file.read_text())
        for file in sorted(finished.glob(f"*/{CURVE}"))
    }
    publish([finished / name for name in curves], run_folder, leave=CURVE)
    with replacing(curve_path) as (part,):
        part.write_text(curve_csv(curves))


def curve_csv(curves: dict[str, list[dict[str, float]]]) -> str:
    """The curves as CSV: subject, then the columns of the rows; 6 significant digits."""
    # Models of a run have one decoder and one Config, so the first row names all columns.
    columns = list(next(iter(curves.values()))[0])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", *columns])
    for name, rows in curves.items():
        for row in rows:
            writer.writerow([name, *(f"{row[column]:.6g}" for column in columns)])
    return text.getvalue()
