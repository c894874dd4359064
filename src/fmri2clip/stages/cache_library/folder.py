"""Pictures of a folder as a library: encoded by CLIP, with captions and labels of COCO where its
files lie beside the pictures.

    <folder>/**/*.{png,jpg,jpeg,webp}
    <folder>/captions*.json, instances*.json    COCO's files: images (id, file_name, height, width),
                                                annotations (image_id and caption, or category_id
                                                and area), categories (id, name)

A category counts as visible where its objects take at least labels.min_area of the whole picture
(of NSD's pictures it is the crop). Files are matched by name, folders left out.

NSD's pictures are cut from COCO's photographs. Those behind the test set are known by their COCO
id, in the name (000000123456.jpg) or in the notes; renamed and without notes they are not found.

Letters: J pictures, K captions, C categories, D embedding width, P components of tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from fmri2clip.artefacts.components import read_basis, score_streams
from fmri2clip.artefacts.paths import Paths
from fmri2clip.clip import encoder
from fmri2clip.core import resume
from fmri2clip.core.closure import code_digest
from fmri2clip.core.files import replacing, sha256_file
from fmri2clip.core.params import Clip, Labels, Library
from fmri2clip.stages.cache_library.guard import Guard

Array = NDArray[Any]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
BLOCK = 256  # pictures between two saves
COCO_ID = re.compile(r"(?<!\d)\d{12}(?!\d)|^\d+$")  # in a file's name without suffix
PHOTOGRAPH = "test_photograph"  # a reason beside those of guard.py


def encode_folder(
    paths: Paths,
    library: Library,
    clip: Clip,
    labels: Labels,
    guard: Guard,
    device: str,
    threads: int,
    resume_root: Path,
    categories: Sequence[str],
    photographs: Collection[int] = (),
) -> Mapping[str, Any]:
    """The accepted pictures of a folder. categories: names of the columns of labels, as in the CLIP
    cache; photographs: COCO ids of those behind NSD's test pictures.

    Raises ValueError for a folder without pictures, and for a picture that cannot be read.
    """
    torch.set_num_threads(threads)
    folder = Path(library.pictures)
    # Names that begin with a dot are other programs' notes.
    pictures = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES)
    noted = _read_ids(folder) if photographs else {}
    files = [path for path in pictures if _list_ids(path, noted).isdisjoint(photographs)]
    n_cut = len(pictures) - len(files)
    if not files:
        more = f"; {n_cut} were refused as photographs behind test pictures" if n_cut else ""
        raise ValueError(f"{folder} holds no picture; {', '.join(SUFFIXES)} are read{more}")
    model = encoder.load(clip, device)
    basis_path = paths.clip_basis(library.clip)
    basis = read_basis(basis_path) if clip.tokens else {}
    known: list[Any] = [resume.fingerprint(files), sha256_file(basis_path) if basis else ""]
    known += [guard.nsd_id_I.tolist(), sorted(guard.pixels), guard.keep]
    key = (library, model.weights_sha256, code_digest(__name__), threads, device, *known)
    work = resume.resume_dir(f"cache_library/{folder.name}", *key, root=resume_root)
    blocks = []
    for start in tqdm(range(0, len(files), BLOCK), desc=str(folder), unit="block"):
        path = work / f"{start}.npz"
        if not path.is_file():
            found = _encode_block(files[start : start + BLOCK], start, model, basis, guard, threads)
            with replacing(path) as (part,), part.open("wb") as file:
                np.savez(file, **found)
        with np.load(path) as arrays:
            blocks.append(dict(arrays))
    guard.refused = {
        reason: int(sum(block[f"n_{reason}"] for block in blocks)) for reason in guard.refused
    }
    guard.refused |= {PHOTOGRAPH: n_cut} if photographs else {}
    arrays = {
        name: np.concatenate([block[name] for block in blocks])
        for name in blocks[0]
        if name.endswith(("_J", "_JD", "_JP"))
    }
    names = [files[row].relative_to(folder).as_posix() for row in arrays.pop("row_J")]
    arrays |= {"name_J": np.array(names, dtype=object), "nsd_id_J": -1 - np.arange(len(names))}
    arrays |= _read_captions(folder, names, model)
    arrays |= _read_labels(folder, names, categories, labels.min_area)
    resume.remove(work, root=resume_root)
    return arrays


def _read_ids(folder: Path) -> dict[str, set[int]]:
    """Name of a picture -> its COCO ids in the folder's notes."""
    noted: dict[str, set[int]] = {}
    for kind in ("captions", "instances"):
        for coco_id, image in _iterate_images(folder, kind):
            noted.setdefault(Path(image["file_name"]).name, set()).add(coco_id)
    return noted


def _list_ids(path: Path, noted: Mapping[str, set[int]]) -> set[int]:
    """Every COCO id that a picture may have."""
    return {int(number) for number in COCO_ID.findall(path.stem)} | noted.get(path.name, set())


def _encode_block(
    files: Sequence[Path],
    first: int,
    model: encoder.Encoder,
    basis: Mapping[str, Array],
    guard: Guard,
    threads: int,
) -> dict[str, Any]:
    """Features of the accepted ones, their rows among all files, and what was refused here."""
    before = dict(guard.refused)
    accepted = []
    resized = []
    # Photographs are large: of each only the resized one is kept.
    for path in files:
        image_1HWC = _read_picture(path)[None]
        accepted.append(guard.accept(np.array([-1]), image_1HWC))
        resized.append(model.resize(image_1HWC))
    accepted_J = np.concatenate(accepted)
    found: dict[str, Any] = {f"n_{name}": n - before[name] for name, n in guard.refused.items()}
    found["row_J"] = first + np.flatnonzero(accepted_J)
    features = model.features(np.concatenate(resized), threads=threads, targets=bool(basis))
    found["image_embedding_JD"] = features["image_embedding_ID"][accepted_J].astype(np.float16)
    if basis:
        # Rounded as the CLIP cache keeps tokens.
        tokens = {
            name: array[accepted_J].astype(np.float16)
            for name, array in features.items()
            if "_tokens_" in name
        }
        scores = score_streams(tokens, basis)
        found |= {name.replace("_IP", "_JP"): array for name, array in scores.items()}
    return found


def _read_picture(path: Path) -> NDArray[np.uint8]:
    try:
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); remove it") from None
    return np.asarray(picture)


def _read_captions(folder: Path, names: Sequence[str], model: encoder.Encoder) -> dict[str, Any]:
    captions, picture_K = [], []
    for row, note in _iterate_notes(folder, "captions", names):
        captions.append(str(note["caption"]))
        picture_K.append(row)
    empty_KD = np.zeros((0, model.width_D), np.float16)
    return {
        "caption_K": np.array(captions, dtype=object),
        "caption_picture_K": np.array(picture_K, np.int32),
        "text_embedding_KD": model.texts(captions).astype(np.float16) if captions else empty_KD,
    }


def _read_labels(
    folder: Path, names: Sequence[str], categories: Sequence[str], min_area: float
) -> dict[str, Any]:
    """Of pictures that a file of instances lists; others are not labelled."""
    area_JC = np.zeros((len(names), len(categories)))
    column = {name: c for c, name in enumerate(categories)}
    for row, note in _iterate_notes(folder, "instances", names):
        if note["category"] in column:
            area_JC[row, column[note["category"]]] += note["area"] / note["n_pixels"]
    listed = {Path(image["file_name"]).name for _, image in _iterate_images(folder, "instances")}
    is_labelled_J = np.array([Path(name).name in listed for name in names])
    # min_area 0 still asks for an area above 0.
    labels_JC = (area_JC > 0) & (area_JC >= min_area)
    return {"labels_JC": labels_JC, "is_labelled_J": is_labelled_J}


def _iterate_images(folder: Path, kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    for path in sorted(folder.glob(f"{kind}*.json")):
        for image in json.loads(path.read_text(encoding="utf-8"))["images"]:
            yield image["id"], image


def _iterate_notes(
    folder: Path, kind: str, names: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row of a picture and what is noted of it; with the name of its category and the size of the
    picture where these are given.
    """
    row_of = {Path(name).name: row for row, name in enumerate(names)}
    for path in sorted(folder.glob(f"{kind}*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        # Ids are a file's own: two that were exported apart may both begin at 1.
        images = {image["id"]: image for image in content["images"]}
        category = {entry["id"]: entry["name"] for entry in content.get("categories", [])}
        for note in content["annotations"]:
            image = images[note["image_id"]]
            row = row_of.get(Path(image["file_name"]).name)
            if row is not None:
                n_pixels = image.get("height", 1) * image.get("width", 1)
                named = {"category": category.get(note.get("category_id")), "n_pixels": n_pixels}
                yield row, {**note, **named}
