"""Pictures of an exchange folder and what its tables say of them (datasets/interface.py).

captions.tsv (picture, caption) and labels.tsv (picture, label; area and objects if known) may both
be missing. Letters: I images, K captions, C categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmri2clip.datasets.folder import tables
from fmri2clip.datasets.folder.stock import Stock, open_stock
from fmri2clip.datasets.interface import Annotations, Ints

MAX_CAPTIONS = 5  # of a picture, as NSD has


@dataclass(frozen=True, kw_only=True)
class FolderPictures:
    """What subjects saw, by trials.tsv."""

    root: Path
    description: tables.Description
    stock: Stock

    @classmethod
    def open(cls, root: Path) -> FolderPictures:
        """Read dataset.json; the rest is read when it is asked for."""
        description = tables.read_description(root)
        stock = open_stock(root, description.picture_size)
        return cls(root=root, description=description, stock=stock)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """trials.tsv, trials without a picture left out."""
        table = tables.read_trials(self.root)
        return table[tables.is_filled(table["picture"])]

    @cached_property
    def test_I(self) -> Ints:
        """Ids of the test set, ascending."""
        found = self.stock.find(self.description.test, str(self.root / tables.DESCRIPTION))
        return np.unique(found)

    def seen(self, subjects: Sequence[str]) -> dict[str, Ints]:
        """By trials.tsv and dataset.json."""
        path = self.root / tables.TRIALS
        rows = [tables.subject_rows(self.trials, subject, path) for subject in subjects]
        ids = np.unique(self.stock.find(pd.concat(rows)["picture"], str(path)))
        is_test = np.isin(ids, self.test_I)
        return {"train": ids[~is_test], "shared": ids[is_test]}

    def names(self, nsd_id_I: Ints) -> list[str]:
        """What the tables call these pictures."""
        return [self.stock.name(nsd_id) for nsd_id in nsd_id_I.tolist()]

    def size(self) -> tuple[int, int]:
        """Of every picture."""
        return self.stock.size()

    def iterate(
        self, nsd_id_I: Ints, block_size: int, start: int = 0
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Blocks in the order given."""
        for position in range(start, len(nsd_id_I), block_size):
            yield position, self.stock.read(nsd_id_I[position : position + block_size])

    @cached_property
    def captions(self) -> dict[int, list[str]] | None:
        """Id -> captions, the first five; None without captions.tsv."""
        path = self.root / tables.CAPTIONS
        if not path.is_file():
            return None
        table = tables.read_filled(path, ["picture", "caption"])
        found: dict[int, list[str]] = {}
        for nsd_id, text in zip(
            self.stock.find(table["picture"], str(path)).tolist(), table["caption"], strict=True
        ):
            found.setdefault(nsd_id, []).append(text.strip())
        return {nsd_id: texts[:MAX_CAPTIONS] for nsd_id, texts in found.items()}

    @cached_property
    def labels(self) -> pd.DataFrame | None:
        """labels.tsv: ids, columns of categories, areas, numbers of objects; None without it."""
        path = self.root / tables.LABELS
        if not path.is_file():
            return None
        table = tables.read_filled(path, ["picture", "label"])
        unknown = sorted(set(table["label"]) - set(self.categories))
        if unknown:
            raise ValueError(
                f"{path}: label {unknown[0]!r} is not among categories of {tables.DESCRIPTION}; "
                "add it there, or leave categories out"
            )
        column = {name: c for c, name in enumerate(self.categories)}
        ids = self.stock.find(table["picture"], str(path))
        # Without these columns, a row is an object, and labels share the picture evenly.
        n_rows = pd.Series(ids).groupby(ids).transform("size").to_numpy()
        objects = np.array(tables.read_numbers(table, "objects", path, np.nan))
        areas = np.array(tables.read_numbers(table, "area", path, np.nan))
        return pd.DataFrame(
            {
                "id": ids,
                "column": [column[label] for label in table["label"]],
                "area": np.where(np.isnan(areas), 1 / n_rows, areas),
                "objects": np.where(np.isnan(objects), n_rows, objects),
            }
        )

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Names of labels, as dataset.json orders them, else sorted; () without labels.tsv."""
        path = self.root / tables.LABELS
        if not path.is_file():
            return ()
        named = tables.read_filled(path, ["picture", "label"])["label"]
        return self.description.categories or tuple(sorted(set(named)))

    def annotations(self, nsd_id_I: Ints) -> Annotations:
        """Captions and labels of the tables. A picture without a caption, where others have one,
        raises ValueError.
        """
        ids = nsd_id_I.tolist()
        texts = [(self.captions or {}).get(nsd_id, []) for nsd_id in ids]
        if self.captions is not None and not all(texts):
            missing = [nsd_id for nsd_id, own in zip(ids, texts, strict=True) if not own]
            raise ValueError(
                f"{self.root / tables.CAPTIONS} has no caption of {len(missing)} pictures that "
                f"were shown, the first is {self.stock.name(missing[0])}; add them, or leave the "
                "file out"
            )
        labels_IC = np.zeros((len(ids), len(self.categories)), dtype=bool)
        area_IC = np.zeros(labels_IC.shape)
        n_objects_I = np.zeros(len(ids), dtype=np.int16)
        if self.labels is not None and ids:
            row_of = {nsd_id: row for row, nsd_id in enumerate(ids)}
            own = self.labels[self.labels["id"].isin(row_of)]
            row_L = own["id"].map(row_of).to_numpy()
            labels_IC[row_L, own["column"]] = True
            np.add.at(area_IC, (row_L, own["column"].to_numpy()), own["area"].to_numpy())
            n_objects_I[row_L] = own["objects"]
        caption_image_K = np.repeat(np.arange(len(texts)), [len(own) for own in texts])
        return Annotations(
            nsd_id_I=np.asarray(nsd_id_I, dtype=np.int64),
            caption_K=[text for own in texts for text in own],
            caption_image_K=caption_image_K.astype(np.int32),
            labels_IC=labels_IC,
            area_IC=np.minimum(area_IC, 1).astype(np.float32),
            n_objects_I=n_objects_I,
            category_C=self.categories,
        )

    def largest(self, nsd_id_I: Ints) -> NDArray[np.float32]:
        """Unknown: the tables have no places."""
        return np.full((len(nsd_id_I), 3), np.nan, dtype=np.float32)
