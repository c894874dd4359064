"""Where every file of the pipeline lies, below one root.

The root is the working directory, or a copy of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCORE_PICTURES = "score_pictures"  # stage that scores reconstructions
PICTURES = "pictures/"  # prefix of their names among the scores of a study


@dataclass(frozen=True)
class Paths:
    """Paths of inputs and outputs; dvc.yaml names the same ones."""

    root: Path = Path()
    nsd: Path | None = None  # a tree that lies elsewhere

    @property
    def raw(self) -> Path:
        """Tree of the Natural Scenes Dataset, real or simulated."""
        return self.nsd or self.root / "data/raw/nsd"

    @property
    def rois(self) -> Path:
        """Folder of the ROI files."""
        return self.root / "data/rois"

    def train_betas(self, subject: str) -> Path:
        """Trials of training images."""
        return self.rois / "train" / f"{subject}.h5"

    def test_betas(self, subject: str) -> Path:
        """Trials of test images."""
        return self.rois / "test" / f"{subject}.h5"

    def voxels(self, subject: str) -> Path:
        """Coordinates, ROIs and noise ceiling of the voxels."""
        return self.rois / "voxels" / f"{subject}.h5"

    def noise_free(self, subject: str) -> Path:
        """Responses of the simulated cortex before noise; without pictures where data are real."""
        return self.rois / "noise_free" / f"{subject}.h5"

    def roi_report(self, subject: str) -> Path:
        """Counts of trials and voxels."""
        return self.root / "data/roi_counts" / f"{subject}.json"

    def stimuli(self, part: str) -> Path:
        """Pictures, captions and labels; part: train or test."""
        return self.root / "data/stimuli" / f"{part}.h5"

    @property
    def clip(self) -> Path:
        """Folder of the CLIP caches."""
        return self.root / "data/clip"

    def clip_train(self, clip: str, subject: str) -> Path:
        """CLIP cache of the training images of one subject."""
        return self.clip / clip / "train" / f"{subject}.h5"

    def clip_shared(self, clip: str) -> Path:
        """CLIP cache of the test images."""
        return self.clip / clip / "shared.h5"

    def clip_basis(self, clip: str) -> Path:
        """Leading components of the tokens of a CLIP model."""
        return self.clip / clip / "components" / "basis.safetensors"

    def clip_components(self, clip: str, subject: str) -> Path:
        """Scores of the training images of one subject on these components."""
        return self.clip / clip / "components" / f"{subject}.h5"

    def library(self, name: str, part: str) -> Path:
        """Accepted pictures of a library; part: a subject, or PICTURES of a folder."""
        return self.root / "data/libraries" / name / f"{part}.h5"

    def selected(self, run: str) -> Path:
        """Digests of the files that a run is trained on."""
        return self.root / "data/selected" / f"{run}.json"

    @property
    def models(self) -> Path:
        """Folder of all runs."""
        return self.root / "models"

    def model(self, run: str) -> Path:
        """Folder of one run."""
        return self.models / run

    @property
    def predictions_folder(self) -> Path:
        """Folder of predictions and of the scores of single images."""
        return self.root / "data/predictions"

    def predictions(self, run: str) -> Path:
        """Predictions of one run for the test images."""
        return self.predictions_folder / f"{run}.h5"

    def reference_scores(self, clip: str) -> Path:
        """Scores of single images of baselines and references."""
        return self.predictions_folder / f"reference_{clip}.h5"

    @property
    def aside(self) -> Path:
        """Folder of what was in the way and is kept."""
        return self.root / "data/aside"

    @property
    def reconstructions_folder(self) -> Path:
        """Folder of the reconstructed pictures."""
        return self.root / "data/reconstructions"

    def reconstructions(self, name: str) -> Path:
        """Pictures of one entry of reconstructions."""
        return self.reconstructions_folder / f"{name}.h5"

    @property
    def picture_scores_folder(self) -> Path:
        """Folder of the scores of single pictures."""
        return self.root / "data/picture_scores"

    def picture_scores(self, name: str) -> Path:
        """Scores of single pictures of one reconstruction."""
        return self.picture_scores_folder / f"{name}.h5"

    def picture_metrics(self, name: str) -> Path:
        """Scores of one reconstruction, over its pictures."""
        return self.picture_scores_folder / f"{name}.json"

    def curve(self, run: str) -> Path:
        """Curve of a run's training."""
        return self.root / "data/curves" / f"{run}.csv"

    def metrics(self, run: str) -> Path:
        """Scores of a run."""
        return self.root / "data/scores" / f"{run}.json"

    def cards(self, run: str) -> Path:
        """Folder of the model cards of a run, with test scores."""
        return self.reports / "cards" / run

    def card(self, run: str, subject: str) -> Path:
        """Model card of one subject, with test scores."""
        return self.cards(run) / f"{subject}.md"

    def reference_metrics(self, clip: str) -> Path:
        """Scores of baselines and references."""
        return self.root / "data/scores" / f"reference_{clip}.json"

    def hierarchy(self, clip: str) -> Path:
        """Which blocks of a CLIP model resemble which areas; the figure lies beside it."""
        return self.root / "data/hierarchy" / f"{clip}.json"

    @property
    def tokens(self) -> Path:
        """What subject tokens do."""
        return self.root / "data/tokens.json"

    @property
    def parameters(self) -> Path:
        """Counts of weights at real size."""
        return self.root / "data/parameters.json"

    @property
    def world(self) -> Path:
        """Figures of the data before any decoder."""
        return self.root / "data/world.json"

    @property
    def reports(self) -> Path:
        """Folder of what a visitor can read; the numbers in it are copies, written by `report`."""
        return self.root / "reports"


def locate(name: str, content: Mapping[str, Any]) -> tuple[str, str, str]:
    """Paths of the numbers (JSON), of single images' scores and of the test images' CLIP cache.

    name: of a run, or pictures/<reconstruction>; content: of params.yaml.
    """
    paths = Paths()
    if name.startswith(PICTURES):
        clip = content["pictures"]["clip"] or next(iter(content["clips"]))
        key = name.removeprefix(PICTURES)
        found = paths.picture_metrics(key), paths.picture_scores(key), paths.clip_shared(clip)
    else:
        clip = content["runs"][name]["clip"]
        found = paths.metrics(name), paths.predictions(name), paths.clip_shared(clip)
    return found[0].as_posix(), found[1].as_posix(), found[2].as_posix()
