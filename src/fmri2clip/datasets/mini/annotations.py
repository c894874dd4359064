"""Tables around the simulated experiment: COCO annotation files, behaviour, label names.

Formats: COCO (Lin et al. 2014; Chen et al. 2015 for captions), NSD manual (Behavioral data, ROIs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fmri2clip.datasets.mini.design import BLOCK, Design
from fmri2clip.datasets.mini.pictures.scene import Scene
from fmri2clip.datasets.nsd import layout
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES

DAYS_BETWEEN_SESSIONS = 7
RUN_SECONDS = 300
SLOT_SECONDS = 4
# old pictures seen within the last session's worth of trials; all others
P_CORRECT_RECENT = 0.88
P_CORRECT = 0.72
P_NO_BUTTON = 0.005
P_MISSING = 0.002
_LICENCE = {"id": 1, "name": "simulated", "url": ""}


class CocoFiles:
    """Collects scenes and gives the four annotation files (instances and captions of both
    splits).
    """

    def __init__(self) -> None:
        self._images: dict[str, list[Any]] = {split: [] for split in layout.COCO_SPLITS}
        self._instances: dict[str, list[Any]] = {split: [] for split in layout.COCO_SPLITS}
        self._captions: dict[str, list[Any]] = {split: [] for split in layout.COCO_SPLITS}

    def add(self, scene: Scene, coco_id: int, split: str) -> None:
        """Adds one picture; annotation ids are 10 times the COCO id plus a running number."""
        self._images[split].append(
            {
                "id": coco_id,
                "width": scene.width,
                "height": scene.height,
                "license": 1,
                "file_name": f"{coco_id:012d}.jpg",
                "coco_url": f"simulated://{split}/{coco_id:012d}.jpg",
            }
        )
        for k, instance in enumerate(scene.instances):
            self._instances[split].append(
                {
                    "id": coco_id * 10 + k,
                    "image_id": coco_id,
                    "category_id": int(instance.category_id),
                    "iscrowd": 0,
                    "bbox": [float(v) for v in instance.bbox],
                    "area": float(instance.area),
                    "segmentation": instance.segmentation,
                }
            )
        for k, caption in enumerate(scene.captions):
            self._captions[split].append(
                {"id": coco_id * 10 + k, "image_id": coco_id, "caption": caption}
            )

    def instances(self, split: str) -> bytes:
        """The COCO instance file of a split: boxes of objects with their categories, as JSON."""
        categories = [category._asdict() for category in COCO_CATEGORIES]
        return self._file(split, {"annotations": self._instances[split], "categories": categories})

    def captions(self, split: str) -> bytes:
        """The COCO caption file of a split, as JSON."""
        return self._file(split, {"annotations": self._captions[split]})

    def _file(self, split: str, content: Mapping[str, object]) -> bytes:
        head = {"info": {"description": f"simulated scenes, {split}"}, "licenses": [_LICENCE]}
        return json.dumps(
            head | {"images": self._images[split]} | dict(content), separators=(",", ":")
        ).encode()


def responses(design: Design, subject: str, seed: tuple[int, ...]) -> pd.DataFrame:
    """responses.tsv of a subject that came to every session: one row a trial,
    `layout.RESPONSE_COLUMNS`.
    """
    rng = np.random.default_rng(seed)
    session, run, slot = np.nonzero(design.stimpattern)
    table = pd.DataFrame(
        {"SUBJECT": layout.subject_number(subject), "SESSION": session + 1, "RUN": run + 1}
    )
    table["TRIAL"] = table.groupby(["SESSION", "RUN"]).cumcount() + 1
    table["73KID"] = design.nsd_id_N(subject) + 1
    table["10KID"] = design.masterordering_N.astype(int)
    table["TIME"] = (
        session * DAYS_BETWEEN_SESSIONS + (run * RUN_SECONDS + slot * SLOT_SECONDS) / 86400
    )
    return _add_answers(table, rng)[list(layout.RESPONSE_COLUMNS)]


def _add_answers(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Memory columns from the order of trials, and a fallible answer to 'have you seen this picture
    before?'.
    """
    n = len(table)
    trial = pd.Series(np.arange(n))
    previous = trial.groupby(table["10KID"]).shift(1)
    first = trial.groupby(table["10KID"]).transform("min")
    old = previous.notna().to_numpy()
    old_now = old & (previous.fillna(0) // BLOCK == trial // BLOCK).to_numpy()
    missing = rng.random(n) < P_MISSING
    silent = missing | (rng.random(n) < P_NO_BUTTON)
    recent = trial - previous - 1
    says_old = old == (rng.random(n) < np.where(recent < BLOCK, P_CORRECT_RECENT, P_CORRECT))
    answers = {
        "ISOLD": old.astype(int),
        "MEMORYRECENT": recent,
        "MEMORYFIRST": (trial - first - 1).where(old),
        "ISOLDCURRENT": old_now.astype(int),
        "MISSINGDATA": missing.astype(int),
        "ISCORRECT": np.where(silent, np.nan, says_old == old),
        "ISCORRECTCURRENT": np.where(silent, np.nan, says_old == old_now),
        "RT": np.where(silent, np.nan, rng.lognormal(6.8, 0.3, n).round(2)),
        "CHANGEMIND": np.where(missing, np.nan, rng.random(n) < 0.02),
        "TOTAL1": np.where(missing, np.nan, ~silent & ~says_old),
        "TOTAL2": np.where(missing, np.nan, ~silent & says_old),
        "BUTTON": np.where(silent, np.nan, 1 + says_old),
    }
    return table.assign(**answers)


def ctab(roi: str) -> str:
    """Label names of an ROI volume, one 'id name' pair a line."""
    return "".join(f"{k} {name}\n" for k, name in enumerate(("Unknown", *layout.roi_labels(roi))))
