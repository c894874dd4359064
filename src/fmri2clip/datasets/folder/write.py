"""Write an exchange folder: tables by name, or whatever a data set answers (interface.py).

Letters: I images, K captions, L rows of labels, N trials, T trials of a session, V voxels.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.datasets.folder import tables
from fmri2clip.datasets.folder.masks import NCSNR, PLACE
from fmri2clip.datasets.folder.stock import IMAGES
from fmri2clip.datasets.interface import GROUP_PREFIX, Groups, Pictures, Recordings

BLOCK = 200  # pictures in memory at a time


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that gets its name when all is written. Raises ValueError if the name is taken."""
    if out.exists():
        raise ValueError(f"{out} exists; name a folder that does not, or remove it")
    part = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_table(path: Path, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
    """A tab-separated table with one line of names; numbers with as many digits as float32 has.

    Nothing is quoted: tabs and line ends in a text become spaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(columns)
    for name in table.select_dtypes(exclude="number"):
        table[name] = [" ".join(str(text).split()) for text in table[name]]
    # Without a character that quotes, one in a text needs no escape.
    table.to_csv(
        path,
        sep="\t",
        index=False,
        float_format="%.9g",
        na_rep="nan",
        quoting=csv.QUOTE_NONE,
        quotechar=None,
    )


def write_description(root: Path, **content: Any) -> None:
    """dataset.json; keys as in tables.Description."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (root / tables.DESCRIPTION).write_text(text, encoding="utf-8")


def export(
    out: Path,
    recordings: Mapping[str, Recordings],
    pictures: Pictures,
    groups: Groups,
    *,
    name: str,
    licence: str,
) -> None:
    """A data set as a folder. recordings: of each subject. groups: those of params.yaml, whose ROIs
    are written, too. Ids of pictures stay as they are: rows of pictures.h5.

    What the format does not have is left out: responses before noise, places of objects.
    """
    with new_folder(out) as root:
        seen = pictures.seen(list(recordings))
        ids = np.sort(np.concatenate(list(seen.values())))
        described = pictures.annotations(ids)
        scale = {one.scale for one in recordings.values()}
        assert len(scale) == 1, "subjects of one data set have one scale"
        write_description(
            root,
            name=name,
            licence=licence,
            test=seen["shared"].tolist(),
            betas_scale=scale.pop(),
            preparation=next(iter(recordings.values())).preparation,
            categories=list(described.category_C),
        )
        write_table(
            root / tables.CAPTIONS,
            {"picture": ids[described.caption_image_K], "caption": described.caption_K},
        )
        row_L, column_L = np.nonzero(described.labels_IC)
        write_table(
            root / tables.LABELS,
            {
                "picture": ids[row_L],
                "label": np.array(described.category_C)[column_L],
                "area": described.area_IC[row_L, column_L],
                "objects": described.n_objects_I[row_L],
            },
        )
        _write_pictures(root / f"{tables.PICTURES}.h5", pictures, ids)
        trials = [_write_subject(root, name, one, groups) for name, one in recordings.items()]
        write_table(root / tables.TRIALS, pd.concat(trials))


def _write_pictures(path: Path, pictures: Pictures, ids: NDArray[np.int64]) -> None:
    """Rows that nobody saw take no space: a chunk is a picture."""
    shape = (*pictures.size(), 3)
    with h5py.File(path, "w") as file:
        n = int(ids[-1]) + 1
        rows = file.create_dataset(IMAGES, (n, *shape), np.uint8, chunks=(1, *shape))
        for position, images in pictures.iterate(ids, BLOCK):
            for nsd_id, image in zip(ids[position : position + len(images)], images, strict=True):
                rows[nsd_id] = image


def _write_subject(
    root: Path, subject: str, recordings: Recordings, groups: Groups
) -> pd.DataFrame:
    """Masks and betas of a subject; returns the rows of trials.tsv."""
    trials = recordings.trials()
    rois = recordings.rois(groups)
    columns: dict[str, NDArray[Any]] = dict(zip(PLACE, rois.ijk_V3.T, strict=True))
    ncsnr_V = recordings.ncsnr(rois)
    if ncsnr_V is not None:
        columns[NCSNR] = ncsnr_V.astype(np.float32)
    for name, member_V in zip(rois.names_G, rois.roi_VG.T, strict=True):
        if not name.startswith(GROUP_PREFIX):
            columns[name] = member_V.astype(int)
    write_table(root / tables.MASKS / f"{subject}.tsv", columns)
    betas = root / tables.BETAS
    betas.mkdir(exist_ok=True)
    labels = [f"{session:02d}" for session in range(1, int(trials.session_N.max()) + 1)]
    for session, label in enumerate(labels, start=1):
        np.save(betas / f"{subject}_{label}.npy", recordings.read(session, rois))
    recordings.close()
    return pd.DataFrame(
        {
            "subject": subject,
            "session": [labels[session - 1] for session in trials.session_N],
            "picture": trials.nsd_id_N,
            "repetition": trials.repetition_N,
        }
    )
