"""What is planned (Case), and what one stage of it takes (Need)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fmri2clip.core.params import Params
from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.check_params import sizes
from fmri2clip.stages.check_params.machine import GB, Device
from fmri2clip.stages.check_params.sizes import ClipShape, Subject
from fmri2clip.stages.check_params.training import Model, find_models

MB = 1e6
# Python with imports alone; measured.
PLAIN = 0.06 * GB  # NumPy, h5py, pandas
WITH_TORCH = 0.45 * GB  # torch and scikit-learn
WITH_CLIP = 0.65 * GB  # open_clip, too


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one stage, or one item of it, takes."""

    stage: str
    item: str = ""  # of foreach
    download: float = 0.0  # bytes fetched
    disk: float = 0.0  # bytes of outputs
    cached: float | None = None  # of these, bytes that DVC keeps in its cache; None: all
    scratch: float = 0.0  # bytes on disk beside the outputs while the stage runs
    ram: float = PLAIN  # bytes, at the peak
    pages: float = 0.0  # bytes of mapped files that the stage reads again and again
    gpu: float = 0.0  # bytes, at the peak
    weights: int | None = 0  # that are trained; None: unknown
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """As DVC names it."""
        return f"{self.stage}@{self.item}" if self.item else self.stage

    @property
    def copied(self) -> float:
        """Bytes that are on disk twice where DVC's cache cannot link."""
        return self.disk if self.cached is None else self.cached


@dataclass(frozen=True)
class Case:
    """What is planned: parameters, and the device whose declared speed counts.

    quick: without a look at what a step of a training keeps in memory, which takes seconds.
    """

    params: Params
    device: Device
    quick: bool = False

    @cached_property
    def subjects(self) -> dict[str, Subject]:
        """Subjects by name."""
        return sizes.find_subjects(self.params)

    @cached_property
    def clips(self) -> dict[str, ClipShape]:
        """CLIP models by name."""
        return {name: sizes.find_clip(clip) for name, clip in self.params.clips.items()}

    @cached_property
    def models(self) -> Mapping[str, list[Model]]:
        """Models of each run."""
        return {
            name: find_models(self.params, name, self.subjects, self.clips, self.quick)
            for name in self.params.runs
        }

    @property
    def source(self) -> str:
        """simulated, s3 or folder."""
        return self.params.dataset.source

    @property
    def is_real(self) -> bool:
        """Whether the data are fetched."""
        return self.source == "s3"

    @property
    def has_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return bool(self.device.gpu_memory)

    @property
    def side(self) -> int:
        """Pixels of a side of the pictures."""
        if self.source == "folder":
            from fmri2clip.datasets.folder.pictures import FolderPictures

            return max(FolderPictures.open(Path(self.params.dataset.folder)).size())
        return layout.IMAGE_SIZE if self.is_real else self.params.world.image_size

    @property
    def n_train_images(self) -> int:
        """Training pictures of all subjects, each seen by one of them."""
        return sum(subject.n_train_images for subject in self.subjects.values())

    @property
    def n_test_images(self) -> int:
        """Test pictures that any subject saw."""
        return max(subject.n_test_images for subject in self.subjects.values())

    @property
    def n_images(self) -> int:
        """All pictures of the subjects."""
        return self.n_train_images + self.n_test_images
