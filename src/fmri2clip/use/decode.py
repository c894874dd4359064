"""What `fmri2clip decode` does: a file of betas in, a folder of results out, whole or not at all.

    embeddings.npy, text_embeddings.npy     one row a picture, as the decoder gives them
    categories.tsv                          probability of each category for each picture
    top.tsv                                 what of the gallery is most similar
    pictures/                               what a generator made of each embedding
    index.html                              all of it to look at
    decode.json                             what was done

Letters: N trials, I pictures, V voxels, C categories, R ranks.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.artefacts.trials import average_repeats
from fmri2clip.core import store
from fmri2clip.core.files import sha256_file, write_json
from fmri2clip.use.betas import Trials, add_pictures, read_trials
from fmri2clip.use.gallery import open_gallery, search
from fmri2clip.use.model import LABELS, PROMPTS, Decoding, Model, load
from fmri2clip.use.normalise import NONE, SESSION, STORED
from fmri2clip.use.page import write_page
from fmri2clip.use.paint import Painter, find_painter, paint, write_pictures

Array = NDArray[Any]
SURE = "They are as sure as validation images allowed that were seen as often."
MEANING = {
    LABELS: f"Percentages say how likely the picture shows a category, each by itself. {SURE}",
    PROMPTS: f"Percentages say how likely a category of the picture is this one. {SURE}",
    "": "",
}
PACKAGES = ("fmri2clip", "torch", "numpy")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a call of the command asks for.

    session: its label, for norm `stored`, empty where the file says it; trials_per_picture: rows
    that follow each other and show one picture, 0 for what the file says of pictures; pictures: a
    table that says it, see betas.add_pictures; top: how much of the gallery is shown; generator:
    see paint.find_painter, '' for none.
    """

    model: str
    betas: Path
    out: Path
    norm: str
    session: str = ""
    trials_per_picture: int = 0
    pictures: Path | None = None
    gallery: Path | None = None
    top: int = 5
    generator: str = ""
    params: Path = Path("params.yaml")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was decoded of each picture.

    found: see gallery.search; empty without a gallery. painted_IHWC: None without a generator.
    """

    picture_I: Array
    n_trials_I: Array
    decoding: Decoding
    gallery: store.Arrays | None
    found: Mapping[str, tuple[Array, Array]]
    painted_IHWC: Array | None = None


def decode_file(request: Request) -> list[str]:
    """Decode a file of betas into a new folder; returns lines that say what happened.

    Raises ValueError if the folder exists, and for whatever does not fit the model.
    """
    if request.out.exists():
        raise ValueError(f"{request.out} exists already; name a new folder, or delete it")
    painter = find_painter(request.generator, request.params) if request.generator else None
    model = load(request.model)
    trials = read_trials(request.betas, model)
    if request.pictures is not None:
        trials = _add_pictures(trials, request.pictures, request.trials_per_picture)
    z_NV = _normalise(model, trials, request)
    betas_IV, picture_I, n_trials_I = _average(z_NV, trials, request)
    gallery = None
    doubts: list[str] = []
    if request.gallery is not None:
        gallery, doubts = open_gallery(request.gallery, model)
    decoding = _decode(model, betas_IV, n_trials_I)
    notes = [*_make_notes(request, decoding), *doubts]
    result = Result(
        picture_I=picture_I,
        n_trials_I=n_trials_I,
        decoding=decoding,
        gallery=gallery,
        found=search(model, decoding, gallery, request.top) if gallery is not None else {},
        painted_IHWC=paint(model, decoding, painter) if painter else None,
    )
    done = _describe(model, request, len(z_NV), result, painter, notes)
    _write(request.out, result, done)
    counts = f"{len(z_NV)} trials of {len(picture_I)} pictures"
    return [*notes, f"decoded {counts}; look at {request.out / 'index.html'}"]


def _add_pictures(trials: Trials, path: Path, trials_per_picture: int) -> Trials:
    if trials_per_picture:
        raise ValueError(
            f"{path.name} says what trials show, so {trials_per_picture} trials for each picture "
            "mean nothing; leave one of the two out"
        )
    return add_pictures(trials, path)


def _normalise(model: Model, trials: Trials, request: Request) -> Array:
    if trials.is_z and request.norm != NONE:
        raise ValueError(
            f"{request.betas.name} holds z-scores already; use norm {NONE!r} in place of "
            f"{request.norm!r}"
        )
    if request.session and request.norm != STORED:
        raise ValueError(
            f"session {request.session} means nothing with norm {request.norm!r}; leave it out, or "
            f"use norm {STORED!r}"
        )
    session_N: Array | str = request.session
    if trials.session_N is not None and not request.session:
        session_N = trials.session_N
    return model.normalise(trials.betas_NV, request.norm, session_N)


def _average(z_NV: Array, trials: Trials, request: Request) -> tuple[Array, Array, Array]:
    """Mean of each picture's trials, the pictures, and their numbers of trials."""
    n = request.trials_per_picture
    if n == 0 and trials.picture_N is not None:
        picture_N = trials.picture_N
    elif len(z_NV) % max(n, 1):
        raise ValueError(
            f"{request.betas.name} has {len(z_NV)} trials, which are not {n} for each picture; "
            "give a table with a column of pictures instead"
        )
    else:
        picture_N = 1 + np.arange(len(z_NV)) // max(n, 1)
    mean_IV, picture_I = average_repeats(z_NV, picture_N)
    _, n_trials_I = np.unique(picture_N, return_counts=True)
    return mean_IV, picture_I, n_trials_I


def _decode(model: Model, betas_IV: Array, n_trials_I: Array) -> Decoding:
    """All pictures, those of equally many trials together."""
    found: dict[str, Any] = {}
    for n in np.unique(n_trials_I):
        rows_I = n_trials_I == n
        part = model.decode(betas_IV[rows_I], int(n))
        found["named_by"] = part.named_by
        found["categories"] = part.categories
        for name in ("embedding", "text_embedding", "probabilities"):
            array = getattr(part, name)
            if array is not None:
                found.setdefault(name, np.zeros((len(betas_IV), array.shape[1]), array.dtype))
                found[name][rows_I] = array
    return Decoding(**found)


def _make_notes(request: Request, decoding: Decoding) -> list[str]:
    """One line for each thing that a reader of the results should know."""
    notes = []
    if request.norm == SESSION:
        notes.append(
            "transductive: mean and spread of each voxel come from the given trials, so what a "
            "trial decodes to depends on the others"
        )
    if decoding.probabilities is None:
        notes.append(
            "no categories: the model folder keeps nothing that says how sure they are (it was "
            "trained before that was kept); train it again to have them"
        )
    elif not decoding.categories:
        notes.append(
            "categories have numbers, no names: the model folder keeps none (it was trained before "
            "they were kept)"
        )
    if request.generator:
        notes.append(
            "painted pictures are what a generator makes of an embedding: most of what is in them "
            "is the generator's"
        )
    if request.gallery is None and not request.generator:
        notes.append(
            "no gallery was given, so no pictures are looked up: embeddings and categories only "
            "(make one with `fmri2clip gallery`)"
        )
    if request.gallery is not None and decoding.embedding is None:
        notes.append(
            "the decoder gives categories and no embedding, so the gallery is not searched"
        )
    return notes


def _describe(
    model: Model,
    request: Request,
    n_trials: int,
    result: Result,
    painter: Painter | None,
    notes: list[str],
) -> dict[str, Any]:
    """Content of decode.json: names of files, no folders, so that it can be passed on."""
    described: dict[str, Any] = {
        "model": {
            **{name: model.description[name] for name in ("run", "decoder", "clip")},
            "subject": model.subject,
            "weights_sha256": model.weights_sha256,
            "address": model.address,
        },
        "betas": {
            "file": request.betas.name,
            "sha256": sha256_file(request.betas),
            "norm": request.norm,
            "session": request.session,
            "trials_per_picture": request.trials_per_picture,
        },
        "pictures": _name_file(request.pictures),
        "n_trials": n_trials,
        "n_pictures": len(result.picture_I),
        "n_voxels": len(model.ijk_V3),
    }
    described["gallery"] = None
    if request.gallery is not None and result.gallery is not None:
        described["gallery"] = {
            "file": request.gallery.name,
            "sha256": sha256_file(request.gallery),
            "clip": result.gallery.attrs["clip"],
            "n_pictures": len(result.gallery["name_I"]),
        }
    described["generator"] = painter.describe() if painter else None
    described["probabilities"] = MEANING[result.decoding.named_by]
    return {**described, "notes": notes, "versions": {name: _version(name) for name in PACKAGES}}


def _name_file(path: Path | None) -> dict[str, str] | None:
    return None if path is None else {"file": path.name, "sha256": sha256_file(path)}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "a checkout"


def _write(out: Path, result: Result, done: dict[str, Any]) -> None:
    """Write the folder under another name, and rename it when it is complete."""
    part = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        decoding = result.decoding
        if decoding.embedding is not None:
            np.save(part / "embeddings.npy", decoding.embedding)
        if decoding.text_embedding is not None:
            np.save(part / "text_embeddings.npy", decoding.text_embedding)
        pictures = pd.DataFrame({"picture": result.picture_I, "trials": result.n_trials_I})
        categories = name_columns(decoding)
        if decoding.probabilities is not None:
            table = pd.DataFrame(decoding.probabilities, columns=categories)
            pictures = pd.concat([pictures, table], axis=1)
        _write_table(part / "categories.tsv", pictures)
        if result.gallery is not None and result.found:
            _write_table(part / "top.tsv", _list_found(result, result.gallery))
        if result.painted_IHWC is not None:
            write_pictures(part / "pictures", result.painted_IHWC)
        write_json(part / "decode.json", done)
        write_page(part / "index.html", result, categories, done)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, sep="\t", index=False, float_format="%.6g")


def name_columns(decoding: Decoding) -> list[str]:
    """Names of the categories; their numbers, from 1, where the model keeps none."""
    if decoding.probabilities is None or decoding.categories:
        return list(decoding.categories)
    return [f"category {c + 1}" for c in range(decoding.probabilities.shape[1])]


def _list_found(result: Result, gallery: store.Arrays) -> pd.DataFrame:
    """One row for each picture, kind and rank."""
    rows = []
    for kind, (row_IR, cosine_IR) in result.found.items():
        names = gallery["name_I" if kind == "picture" else "caption_K"]
        for i, picture in enumerate(result.picture_I):
            for rank, (row, cosine) in enumerate(zip(row_IR[i], cosine_IR[i], strict=True)):
                rows.append((picture, kind, rank + 1, names[row], cosine))
    return pd.DataFrame(rows, columns=["picture", "kind", "rank", "found", "cosine"])
