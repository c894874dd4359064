"""Hostile input: files as other people, broken disks and attackers leave them, for every reader.

A Target is a file that a reader takes, and the reader. Hypothesis damages the file: bytes are
changed, cut out, put in or doubled, more often at its beginning, where headers are; of YAML and
JSON values and keys are exchanged as well, of tables cells. Whatever comes of it, the reader
returns, or raises ValueError or OSError, which end in one line (core/stage.py). A few examples of
each run with the tests, thousands in benchmarks/campaign_inputs.py.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fmri2clip.artefacts import gallery as gallery_files
from fmri2clip.artefacts import trials as trial_files
from fmri2clip.core import params
from fmri2clip.datasets.nsd import design, layout, manifest
from fmri2clip.datasets.nsd.pictures import coco, stimuli
from fmri2clip.datasets.nsd.voxels import betas, roi_groups, rois
from fmri2clip.stages.check_data import check_subject
from fmri2clip.stages.check_params import validate
from fmri2clip.studies import plan
from fmri2clip.use.betas import read_trials
from fmri2clip.use.gallery import open_gallery
from fmri2clip.use.model import Model, load
from pipeline import mend
from tests import model_folder
from tests.nsd_world import PREPARATION, SUBJECT, write_tree

HEAD = 2048  # bytes that most damage goes to
BAIT = "hostile_input_ran_code"  # a file that appears if anything that was read is executed
LEAVES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *("", " ", "x", "../../../../etc/passwd", "/etc/passwd", "file:../../x", "a\x00b", "\ud7ff"),
    *("${HOME}", "'", "a" * 5000, f"!!python/object/apply:os.system ['touch {BAIT}']", "0o17"),
    *("(" * 3000, "not " * 3000, "a or " * 3000 + "a", [["("] * 9]),
    *([], {}, [[]], [None], {"": 1}, {"__class__": "x"}, ["subj01", "subj01"], [1e999]),
)


@dataclass(frozen=True)
class Target:
    """A file below `folder`, how it is damaged besides its bytes, and what reads it there."""

    file: str
    read: Callable[[Path], object]
    kind: str = ""  # yaml, json or table


def damage(draw: Callable[[st.SearchStrategy[Any]], Any], content: bytes, kind: str) -> bytes:
    """The content, damaged; draw: of Hypothesis."""
    if kind and draw(st.booleans()):
        return TREES[kind](draw, content)
    for _ in range(draw(st.integers(1, 4))):
        content = damage_bytes(draw, content)
    return content


def damage_bytes(draw: Callable[[st.SearchStrategy[Any]], Any], content: bytes) -> bytes:
    """One place of the file is changed, cut out, put in, doubled; or the file ends there."""
    within = len(content) if draw(st.integers(0, 3)) == 0 else min(HEAD, len(content))
    start = draw(st.integers(0, within))
    stop = min(len(content), start + draw(st.sampled_from((1, 2, 4, 8, 64))))
    kinds = ("change", "change", "extreme", "cut", "put", "double", "end")
    match draw(st.sampled_from(kinds)):
        case "change":
            new = draw(st.binary(min_size=stop - start, max_size=stop - start))
        case "extreme":
            new = draw(st.sampled_from((b"\x00", b"\xff", b"\x7f"))) * (stop - start)
        case "cut":
            new = b""
        case "put":
            new = draw(st.binary(min_size=1, max_size=16)) + content[start:stop]
        case "double":
            new = content[start:stop] * 2
        case _:
            return content[:start]
    return content[:start] + new + content[stop:]


def damage_tree(draw: Callable[[st.SearchStrategy[Any]], Any], tree: Any) -> Any:
    """A value is exchanged, or a key removed or renamed."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return draw(st.sampled_from(LEAVES))
    node, key = places[draw(st.integers(0, len(places) - 1))]
    how = draw(st.sampled_from(("leaf", "leaf", "leaf", "drop", "rename")))
    if how == "leaf" or isinstance(node, list):
        node[key] = copy.deepcopy(draw(st.sampled_from(LEAVES)))
    else:
        value = node.pop(key)
        if how == "rename":
            node[str(draw(st.sampled_from((f"{key}_", "../x", "", "x y", "é"))))] = value
    return tree


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    items = enumerate(node) if isinstance(node, list) else node.items()
    for key, child in list(items):
        yield node, key
        if isinstance(child, list | dict):
            yield from _places(child)


def _damage_yaml(draw: Any, content: bytes) -> bytes:
    tree = YAML(typ="safe").load(content.decode())
    for _ in range(draw(st.integers(1, 2))):
        tree = damage_tree(draw, tree)
    stream = StringIO()
    yaml = YAML(typ="safe")
    yaml.dump(tree, stream)
    return stream.getvalue().encode("utf-8", errors="surrogatepass")


def _damage_json(draw: Any, content: bytes) -> bytes:
    tree = damage_tree(draw, json.loads(content))
    return json.dumps(tree).encode()


def _damage_table(draw: Any, content: bytes) -> bytes:
    """A cell of a CSV or TSV file."""
    cells = list(re.finditer(rb"[^,\t\n]+", content[: 4 * HEAD]))
    cell = cells[draw(st.integers(0, len(cells) - 1))]
    value = str(draw(st.sampled_from(LEAVES))).encode("utf-8", errors="surrogatepass")
    return content[: cell.start()] + value + content[cell.end() :]


TREES = {"yaml": _damage_yaml, "json": _damage_json, "table": _damage_table}


# The files, and their readers


def write_files(folder: Path, root: Path) -> None:
    """Sound files for all targets; root: of the project."""
    (folder / "assets").symlink_to(root / "assets")  # which params.yaml names
    for name in ("params.yaml", "studies/judge.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((root / name).read_bytes())
    (folder / "dvc.lock").write_bytes((root / "dvc.lock").read_bytes()[:20_000])
    (folder / "rwlock").write_text('{"write": {"a": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}')
    (folder / "roi.txt").write_text("file:my-roi and not (streams/5 or lh.floc-faces)")
    write_tree(folder / "nsd")
    stimuli_folders = layout.stimuli_folders(folder / "nsd")
    manifest.record(layout.stimuli_manifest_path(folder / "nsd"), folder / "nsd", stimuli_folders)
    model_folder.write_ridge(folder / "models/ridge/subj01")
    _write_trials(folder / "trials")
    width = model_folder.WIDTH
    arrays = {
        "name_I": ["a.png", "b.png"],
        "image_embedding_ID": np.ones((2, width), np.float32),
        "caption_K": ["a", "b"],
        "caption_image_K": np.arange(2),
        "text_embedding_KD": np.ones((2, width), np.float32),
    }
    clip = {"clip": "mini", "weights_sha256": model_folder.CLIP_SHA256}
    gallery_files.write_gallery(folder / "gallery.h5", arrays, [b"x", b"y"], clip)


def _write_trials(folder: Path) -> None:
    """Six trials in each format that `fmri2clip decode` reads, for the model of write_ridge."""
    folder.mkdir()
    values_NV = np.random.default_rng(0).standard_normal((6, model_folder.N_VOXELS))
    np.save(folder / "betas.npy", values_NV)
    table = pd.DataFrame(values_NV, columns=[f"v{k}" for k in range(values_NV.shape[1])])
    table.insert(0, "session", 1)
    table.to_csv(folder / "betas.csv", index=False)
    arrays = {
        "betas_NV": np.zeros((6, model_folder.N_VOXELS + 1), np.float16),
        "nsd_id_N": np.arange(6),
        "session_N": np.ones(6, np.int16),
        "trial_N": np.arange(6, dtype=np.int32),
        "repetition_N": np.ones(6, np.int8),
    }
    trial_files.write_betas(folder / "betas.h5", arrays, {"subject": "subj01"})
    volume = np.zeros((*model_folder.GRID, 3), np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1.0])), folder / "betas.nii.gz")
    with h5py.File(folder / "betas.hdf5", "w") as file:
        file["betas"] = volume.transpose()


def _load_params(folder: Path) -> None:
    validate.validate(params.load(folder / "params.yaml"))


def _plan_study(folder: Path) -> None:
    plan.plan(plan.load(folder / "studies/judge.yaml"), folder / "params.yaml")


def _read_manifest(folder: Path) -> None:
    root = folder / "nsd"
    for entry in manifest.read(layout.stimuli_manifest_path(root)):
        assert manifest.local_path(root, entry).resolve().is_relative_to(root.resolve())


def _parse_roi(folder: Path) -> None:
    text = (folder / "roi.txt").read_text(encoding="utf-8", errors="replace")
    roi_groups.parse_groups({"low": [text]})


@functools.cache
def _list_pictures(folder: Path) -> list[int]:
    return design.list_pictures(folder / "nsd", [SUBJECT], "released")["train"][:20].tolist()


def _annotate(folder: Path) -> None:
    coco.load_annotations(folder / "nsd", _list_pictures(folder), min_area=0.005)


def _read_session(folder: Path, suffix: str) -> None:
    mask = rois.read_volume(layout.brainmask_path(folder / "nsd", SUBJECT)) > 0
    betas.read_session(layout.betas_path(folder / "nsd", SUBJECT, PREPARATION, 1, suffix), mask)


def _decode(folder: Path) -> None:
    model = load(folder / "models/ridge/subj01")
    z_IV = np.random.default_rng(0).standard_normal((9, model_folder.N_VOXELS), np.float32)
    model.decode(z_IV)


@functools.cache
def _model(folder: Path) -> Model:
    return load(folder / "models/ridge/subj01")


def _read_trials(folder: Path, name: str) -> None:
    read_trials(folder / "trials" / name, _model(folder))


def _path(function: Callable[..., Path], *arguments: object) -> str:
    return str(function(Path("nsd"), *arguments))


TARGETS: Mapping[str, Target] = {
    "params": Target("params.yaml", _load_params, "yaml"),
    "study": Target("studies/judge.yaml", _plan_study, "yaml"),
    "dvc.lock": Target("dvc.lock", lambda f: mend.mend_lockfile(f / "dvc.lock", f / "cut")),
    "rwlock": Target("rwlock", lambda f: mend.mend_rwlock(f / "rwlock"), "json"),
    "manifest": Target(_path(layout.stimuli_manifest_path), _read_manifest, "json"),
    "ROI expression": Target("roi.txt", _parse_roi),
    "design": Target(_path(layout.expdesign_path), lambda f: design.load_design(f / "nsd")),
    "stimulus table": Target(_path(layout.stim_info_path), _annotate, "table"),
    "COCO instances": Target(_path(layout.instances_path, "train2017"), _annotate, "json"),
    "COCO captions": Target(_path(layout.captions_path, "train2017"), _annotate, "json"),
    "pictures": Target(
        _path(layout.stimuli_path), lambda f: stimuli.read_images(f / "nsd", [0, 3])
    ),
    "responses": Target(
        _path(layout.responses_path, SUBJECT),
        lambda f: check_subject._read_responses(layout.responses_path(f / "nsd", SUBJECT)),
        "table",
    ),
    "ROI": Target(
        _path(layout.roi_path, SUBJECT, "prf-visualrois"),
        lambda f: rois.read_roi(f / "nsd", SUBJECT, "prf-visualrois"),
    ),
    "betas, HDF5": Target(
        _path(layout.betas_path, SUBJECT, PREPARATION, 1, ".hdf5"),
        lambda f: _read_session(f, ".hdf5"),
    ),
    "betas, NIfTI": Target(
        _path(layout.betas_path, SUBJECT, PREPARATION, 1, ".nii.gz"),
        lambda f: _read_session(f, ".nii.gz"),
    ),
    "model, config": Target("models/ridge/subj01/config.yaml", _decode, "yaml"),
    "model, weights": Target("models/ridge/subj01/weights.safetensors", _decode),
    "model, inputs": Target("models/ridge/subj01/inputs.safetensors", _decode),
    "model, CLIP": Target("models/ridge/subj01/clip.json", _decode, "json"),
    **{
        f"decode {name}": Target(
            f"trials/{name}",
            functools.partial(_read_trials, name=name),
            "table" if name.endswith(".csv") else "",
        )
        for name in ("betas.npy", "betas.csv", "betas.h5", "betas.hdf5", "betas.nii.gz")
    },
    "gallery": Target("gallery.h5", lambda f: open_gallery(f / "gallery.h5", _model(f))),
}


class Broken(AssertionError):
    """A reader ended in another way than it may."""


def try_target(folder: Path, target: Target, content: bytes) -> bool:
    """Whether the reader takes the content; Broken where it does not refuse it as it should."""
    path = folder / target.file
    sound = path.read_bytes()
    path.write_bytes(content)
    try:
        target.read(folder)
    except (ValueError, OSError):
        return False
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound)
        if Path(BAIT).exists():
            raise Broken("what was read has been executed")
    return True
