"""What the models of a run are trained on: its subjects, as the split leaves them.

Letters: C categories, P prompts, D embedding width, J images of the judge, T tokens, W token width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmri2clip.artefacts.clip_cache import read_clip, read_together
from fmri2clip.artefacts.components import STREAMS, read_basis
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.params import Run, Split
from fmri2clip.core.store import Arrays
from fmri2clip.decoders import Decoder
from fmri2clip.decoders.batches import Basis
from fmri2clip.stages.train.data import (
    TOKEN_SCORES,
    JudgeImages,
    Subject,
    load_judge,
    load_subject,
)
from fmri2clip.stages.train.split import fit_clusters

Array = NDArray[Any]
PROMPTS = ("category_C", "prompt_P", "prompt_embedding_PCD")


class Inputs:
    """Data of a run's subjects, read when a model's turn comes."""

    def __init__(
        self,
        run: Run,
        paths: Paths,
        split: Split,
        decoder: type[Decoder],
        config: Any,
        libraries: Mapping[str, Sequence[Path]] | None = None,
    ) -> None:
        self.libraries = libraries or {}
        self.run = run
        self.paths = paths
        self.split = split
        self.decoder = decoder
        self.config = config
        # Once for the run, from its own subjects: a category is unseen, and a cluster held out, for
        # all of them or for none.
        files = [paths.clip_train(run.clip, s) for s in run.subjects]
        clip = read_together(files, ["image_embedding_ID", "present_C", *PROMPTS])
        self.present_C = clip["present_C"]
        self.prompts = {name: clip[name] for name in ("present_C", "prompt_embedding_PCD")}
        names = {name: clip[name].tolist() for name in ("category_C", "prompt_P")}
        self.clip_facts = {**clip.attrs, **names}
        self.targets = decoder.select_targets(config)
        self.bases = self._read_bases()
        self.clusters = None
        if split.holdout_clusters:
            self.clusters = fit_clusters(clip["image_embedding_ID"], split)

    def load(self, subjects: Sequence[str], hide_judge: bool = False) -> list[Subject]:
        """The data of a model's subjects, with or without the judge's images.

        None trains on an image that another of them validates on, or is judged on where the judge's
        images are left out: what they share would have seen it.
        """
        found = [self._load(subject, hide_judge) for subject in subjects]
        held = [_held_out(subject, hide_judge) for subject in found]
        for k, subject in enumerate(found):
            others = [ids for place, ids in enumerate(held) if place != k]
            held_elsewhere = np.concatenate([np.empty(0, np.int64), *others])
            trained = subject.nsd_id_I[subject.split.train_I]
            # Read again only where they do, as no two subjects of NSD share training images.
            if np.isin(trained, held_elsewhere).any():
                found[k] = self._load(subjects[k], hide_judge, held_elsewhere)
        return found

    def read_token_basis(self) -> dict[str, Any] | None:
        """Components of the clip's tokens; None where it caches none."""
        arrays = read_basis(self.paths.clip_basis(self.run.clip))
        return arrays if f"{STREAMS[0]}_components_PTW" in arrays else None

    def judge(self, subject: str, with_tokens: bool) -> JudgeImages:
        """The images that the judge is fitted on; with_tokens: with the scores of their tokens."""
        targets = [TOKEN_SCORES] if with_tokens else []
        return load_judge(*self._gather(subject, targets), clusters=self.clusters)

    def _read_bases(self) -> dict[str, Basis]:
        """What the scores among the targets are scores on."""
        wanted = [stream for stream in STREAMS if f"{stream}_components_IP" in self.targets]
        if not wanted:
            return {}
        arrays = read_basis(self.paths.clip_basis(self.run.clip))
        return {
            stream: Basis(
                torch.from_numpy(arrays[f"{stream}_mean_TW"]),
                torch.from_numpy(arrays[f"{stream}_components_PTW"]),
            )
            for stream in wanted
        }

    def _gather(
        self, subject: str, targets: Sequence[str]
    ) -> tuple[str, Path, Path, Arrays, str, Split]:
        """What load_subject and load_judge begin with."""
        clip = read_clip(
            self.paths.clip_train(self.run.clip, subject),
            targets,
            self.paths.clip_components(self.run.clip, subject),
        )
        clip["present_C"] = self.present_C
        betas = self.paths.train_betas(subject)
        own = subject_split(self.split, self.decoder, self.config, subject)
        return subject, betas, self.paths.voxels(subject), clip, self.run.voxels, own

    def _load(
        self, subject: str, hide_judge: bool, held_elsewhere: Sequence[int] | Array = ()
    ) -> Subject:
        return load_subject(
            *self._gather(subject, self.targets),
            clusters=self.clusters,
            targets=self.targets,
            bases=self.bases,
            hide_judge=hide_judge,
            library=self.libraries.get(subject, ()),
            held_elsewhere=held_elsewhere,
        )


def _held_out(subject: Subject, hide_judge: bool) -> Array:
    """Ids that no other subject of the model may train on."""
    held_I = subject.split.validation_I
    if hide_judge:
        held_I = held_I | subject.split.judge_I
    return np.asarray(subject.nsd_id_I[held_I])


def subject_split(split: Split, decoder: type[Decoder], config: Any, subject: str) -> Split:
    """The split of one subject: a decoder's settings may leave it its first sessions only."""
    n_sessions = decoder.first_sessions(config, subject)
    return replace(split, n_sessions=n_sessions) if n_sessions else split
