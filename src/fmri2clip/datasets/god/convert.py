"""Generic Object Decoding as an exchange folder (docs/own_data.md).

SOURCE holds Subject1.h5 ... (as many as there are), below it the pictures under their ImageNet
names (n01443537_22563.JPEG), and categories.tsv, which names the categories: columns `synset`
(n01443537) and `name` (goldfish). GOD's code z-scores voxels with mean and standard deviation (ddof
1) of the training trials of all runs: so training and test trials become one session here.

Captions are BrainCLIP's template with the name of the category, "a photo of a goldfish", as GOD has
none. Letters: N trials, V voxels.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.datasets.folder import tables
from fmri2clip.datasets.folder.masks import PLACE
from fmri2clip.datasets.folder.stock import SUFFIXES
from fmri2clip.datasets.folder.write import new_folder, write_description, write_table
from fmri2clip.datasets.god.bdata import BData, read_bdata

TRAIN, TEST = 1, 2  # values of DataType; 3 is imagery
SESSION = "all"
CATEGORIES = "categories.tsv"
CAPTION = "a photo of a {name}."
PICTURE_SIZE = 256  # pixels of a side; ImageNet's pictures have any size and shape
LICENCE = "ask its authors: fMRI data on figshare, pictures on request"


def name_picture(stimulus_id: float) -> str:
    """ImageNet's name of a stimulus: 1443537.022563 is n01443537_22563."""
    # Six decimals always: as text, 122 of the 1,200 ids lose zeros at their end.
    synset, image = f"{stimulus_id:.6f}".split(".")
    return f"n{int(synset):08d}_{int(image)}"


def convert(source: Path, out: Path) -> dict[str, int]:
    """Write the folder; returns numbers of what is in it. Raises ValueError for files of GOD that
    are missing or of another layout.
    """
    files = sorted(source.glob("Subject*.h5"), key=_number)
    if not files:
        raise ValueError(f"{source} has no Subject1.h5 ...; put GOD's files there")
    names = _read_categories(source / CATEGORIES)
    with new_folder(out) as root:
        trials = pd.concat([_write_subject(root, path) for path in files])
        shown = trials.drop_duplicates("picture")
        synset = shown["picture"].str.split("_").str[0]
        unnamed = sorted(set(synset) - set(names))
        if unnamed:
            raise ValueError(
                f"{source / CATEGORIES} does not name {len(unnamed)} categories, the first is "
                f"{unnamed[0]}; add them"
            )
        file_of = _copy_pictures(source, root, shown["picture"].tolist())
        label = [names[one] for one in synset]
        picture = [file_of[name] for name in shown["picture"]]
        is_test = (shown["type"] == TEST).to_numpy()
        _check_apart(shown, is_test, synset)
        write_description(
            root,
            name="Generic Object Decoding (GOD)",
            licence=LICENCE,
            test=sorted(np.array(picture)[is_test].tolist()),
            preparation="GOD",
            picture_size=PICTURE_SIZE,
        )
        write_table(root / tables.LABELS, {"picture": picture, "label": label})
        captions = [CAPTION.format(name=name) for name in label]
        write_table(root / tables.CAPTIONS, {"picture": picture, "caption": captions})
        trials["picture"] = [file_of[name] for name in trials["picture"]]
        columns = ["subject", "session", "run", "picture"]
        write_table(root / tables.TRIALS, {name: trials[name] for name in columns})
    return {
        "subjects": len(files),
        "trials": len(trials),
        "training pictures": int((~is_test).sum()),
        "training categories": synset[~is_test].nunique(),
        "test pictures": int(is_test.sum()),
        "test categories": synset[is_test].nunique(),
    }


def _number(path: Path) -> int:
    return int(re.sub(r"\D", "", path.stem) or 0)


def _read_categories(path: Path) -> dict[str, str]:
    """Synset -> name. Two synsets of one name would be one category."""
    table = tables.read_table(path, ["synset", "name"])
    twice = table["name"][table["name"].duplicated()]
    if len(twice):
        raise ValueError(f"{path} has the name {twice.iloc[0]!r} twice; tell the categories apart")
    return dict(zip(table["synset"], table["name"].str.strip(), strict=True))


def _check_apart(shown: pd.DataFrame, is_test: NDArray[np.bool_], synset: pd.Series) -> None:
    """Raise ValueError where a test category is one of training: the task would be another."""
    both = set(synset[is_test]) & set(synset[~is_test])
    if both:
        raise ValueError(
            f"{len(both)} test categories have training pictures, the first is {min(both)}; GOD "
            "has none of them: are these its files?"
        )


def _write_subject(root: Path, path: Path) -> pd.DataFrame:
    """Masks and betas of a subject; returns its trials with type and name of the picture."""
    data = read_bdata(path)
    subject = f"sub-{_number(path):02d}"
    type_N = data.label("DataType")
    kept_N = np.isin(type_N, (TRAIN, TEST))
    if not (type_N == TRAIN).any() or not (type_N == TEST).any():
        raise ValueError(f"{path}: DataType has no {TRAIN} (training) or no {TEST} (test)")
    rois = data.rois
    if not rois:
        raise ValueError(f"{path} has no ROI_...; is it a file of responses?")
    used = np.logical_or.reduce(list(rois.values()))
    columns: dict[str, Any] = _find_places(data, used)
    columns |= {name: member[used].astype(int) for name, member in rois.items()}
    write_table(root / tables.MASKS / f"{subject}.tsv", columns)
    betas = root / tables.BETAS / f"{subject}_{SESSION}.npy"
    betas.parent.mkdir(exist_ok=True)
    np.save(betas, data.matrix[kept_N][:, used].astype(np.float32))
    stimulus_N = data.label("stimulus_id", "Label")[kept_N]
    return pd.DataFrame(
        {
            "subject": subject,
            "session": SESSION,
            "run": data.label("Run")[kept_N].astype(int),
            "picture": [name_picture(float(one)) for one in stimulus_N],
            "type": type_N[kept_N].astype(int),
        }
    )


def _find_places(data: BData, used: NDArray[np.bool_]) -> dict[str, Any]:
    """x, y, z of the voxels: their rank among the coordinates on each axis, which is the place on
    the smallest grid that holds them; nothing where the file has none, or two voxels share one.
    """
    rows = [data.flags.get(f"voxel_{axis}") for axis in PLACE]
    if any(row is None or not np.isfinite(row[used]).all() for row in rows):
        return {}
    ranks = [np.unique(row[used], return_inverse=True)[1] for row in rows if row is not None]
    if len(np.unique(np.stack(ranks), axis=1).T) < used.sum():
        return {}
    return dict(zip(PLACE, ranks, strict=True))


def _copy_pictures(source: Path, root: Path, names: list[str]) -> dict[str, str]:
    """Picture -> its file's name in the folder; one that is missing raises ValueError."""
    there = {p.stem: p for p in sorted(source.rglob("n*_*")) if p.suffix.lower() in SUFFIXES}
    missing = [name for name in names if name not in there]
    if missing:
        raise ValueError(
            f"{source} lacks {len(missing)} of {len(names)} pictures, the first is "
            f"{missing[0]}.JPEG; the authors send them on request"
        )
    folder = root / tables.PICTURES
    folder.mkdir()
    for name in names:
        shutil.copyfile(there[name], folder / there[name].name)
    return {name: there[name].name for name in names}
