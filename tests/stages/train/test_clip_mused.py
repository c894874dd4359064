"""Training of one model for several subjects: mixed batches, resume, order of subjects, a subject
that comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.optim import Optimizer

from fmri2clip.core.params import Compute
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.clip_mused.decoder import Config, Decoder
from fmri2clip.stages.train import trainer
from fmri2clip.stages.train.batches import MixedBatches
from fmri2clip.stages.train.run import fit_decoder
from fmri2clip.stages.train.validation import mean_average_precision, validation_scores
from tests.decoders.settings import make_config

CPU = Compute(device="cpu")
SMALL: dict[str, Any] = {
    "areas": "V1, V2, floc-faces, rest",
    "components": 4,
    "width": 8,
    "layers": 1,
    "heads": 2,
    "input_map": "pca",
    "feedforward": 4,
    "w_high": 1e-3,
    "w_low": 1e-1,
    "warmup_epochs": 2.0,
}
SMALL |= {"batch_size": 16, "max_epochs": 5, "patience": 5, "lr": 1e-2, "new_lr": 2e-2}


class Killed(RuntimeError):
    pass


def kill_in(epoch: int) -> trainer.OnStep:
    """Ends the training after the first step of an epoch, counted from 0."""

    def kill(now: int, loss: Tensor, optimizer: Optimizer) -> None:
        if now == epoch:
            raise Killed

    return kill


@pytest.fixture
def subjects(tiny: TrainingData) -> list[TrainingData]:
    """Three subjects; the second reads 26 voxels and has 30 images, the third mixes its voxels in
    another order.
    """
    keep = tiny.image_N < 30
    few = replace(
        tiny,
        subject="subj02",
        betas_NV=tiny.betas_NV[keep][:, :26],
        image_N=tiny.image_N[keep],
        nsd_id_I=tiny.nsd_id_I[:30] + 1,
        image_embedding_ID=tiny.image_embedding_ID[:30],
        text_embedding_KD=tiny.text_embedding_KD[:60],
        caption_image_K=tiny.caption_image_K[:60],
        caption_K=tiny.caption_K[:60],
        is_validation_I=tiny.is_validation_I[:30],
        features={name: value[:30] for name, value in tiny.features.items()},
        rois={name: member[:26] for name, member in tiny.rois.items()},
        groups={name: member[:26] for name, member in tiny.groups.items()},
        labels_IC=None if tiny.labels_IC is None else tiny.labels_IC[:30],
    )
    other = replace(
        tiny, subject="subj05", betas_NV=tiny.betas_NV.flip(1), nsd_id_I=tiny.nsd_id_I + 2
    )
    return [tiny, few, other]


def train(
    data: Sequence[TrainingData], folder: Path, *kills: int, **settings: Any
) -> tuple[Decoder, bytes, Any]:
    config = make_config("clip_mused", **SMALL | settings)
    for kill in kills:
        torch.manual_seed(kill)
        decoder = Decoder.from_data(config, data, 0)
        with pytest.raises(Killed):
            fit(decoder, data, config, folder, kill_in(kill))
    decoder = Decoder.from_data(config, data, 0)
    rows = fit(decoder, data, config, folder)
    return decoder, save(dict(decoder.state_dict())), rows


def fit(
    decoder: Any,
    data: Sequence[TrainingData],
    config: Config,
    folder: Path,
    on_step: trainer.OnStep | None = None,
) -> Any:
    return trainer.fit(
        decoder,
        data,
        config,
        seed=0,
        device="cpu",
        resume_dir=folder,
        on_step=on_step,
        checkpoint_every_s=0.0,
        progress=None,
    )


def test_batches_are_balanced_mixed_and_complete(subjects: list[TrainingData]) -> None:
    batches = MixedBatches(subjects, 16, 0)
    steps, n_most = list(batches), int((~subjects[0].is_validation_I).sum())
    assert len(steps) == len(batches) == -(-3 * n_most // 16)
    for step in steps:
        sizes = [len(part.betas_BV) for part in step.parts]
        assert [part.subject for part in step.parts] == ["subj01", "subj02", "subj05"]
        assert max(sizes) - min(sizes) <= 1 and sum(sizes) <= 16 + 2
    for s, d in enumerate(subjects):
        seen = torch.cat([step.parts[s].image_id_B for step in steps])
        counts = np.unique(seen, return_counts=True)
        assert set(counts[0]) == set(d.nsd_id_I[~d.is_validation_I].tolist())
        assert counts[1].max() - counts[1].min() <= 1 and len(seen) == n_most
    part = steps[0].parts[1]
    row_B = [subjects[1].nsd_id_I.tolist().index(i) for i in part.image_id_B.tolist()]
    assert part.labels_BC is not None and subjects[1].labels_IC is not None
    assert torch.equal(part.labels_BC, subjects[1].labels_IC[row_B].float())
    assert torch.equal(part.mean_text_BD, subjects[1].mean_text_ID[row_B])


def test_batches_depend_on_seed_and_epoch_and_not_on_the_order_of_subjects(
    subjects: list[TrainingData],
) -> None:
    def ids(data: Sequence[TrainingData], seed: int, epoch: int) -> list[int]:
        return [
            i
            for step in MixedBatches(data, 16, seed, epoch)
            for p in step.parts
            for i in p.image_id_B.tolist()
        ]

    assert ids(subjects, 0, 2) == ids(subjects[::-1], 0, 2)
    assert ids(subjects, 0, 2) != ids(subjects, 0, 3) and ids(subjects, 0, 2) != ids(subjects, 1, 2)
    with pytest.raises(
        ValueError, match="batch_size is 2, expected at least one image of each of 3 subjects"
    ):
        MixedBatches(subjects, 2, 0)


def test_killed_training_ends_with_the_same_bytes(
    subjects: list[TrainingData], tmp_path: Path
) -> None:
    _, expected, rows = train(subjects, tmp_path / "whole")
    _, found, again = train(subjects, tmp_path / "killed", 3, 4)
    assert found == expected and again == rows and len(rows) == 5
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_order_of_subjects_changes_neither_weights_nor_scores(
    subjects: list[TrainingData], tmp_path: Path
) -> None:
    _, expected, rows = train(subjects, tmp_path / "a")
    _, found, again = train([subjects[2], subjects[0], subjects[1]], tmp_path / "b")
    assert found == expected and again == rows


def test_training_beats_the_class_frequencies(subjects: list[TrainingData], tmp_path: Path) -> None:
    decoder, _, rows = train(subjects, tmp_path, max_epochs=30, patience=30)
    label_IC = torch.cat(
        [d.labels_IC[~d.is_validation_I] for d in subjects if d.labels_IC is not None]
    ).double()
    p_C = label_IC.mean(0)[:3]
    entropy = float(-(p_C * p_C.log() + (1 - p_C) * (1 - p_C).log()).sum()) / label_IC.shape[1]
    assert rows[0]["label_loss"] < 1.3 * entropy and rows[-1]["label_loss"] < 0.85 * entropy
    scores = [validation_scores(decoder, d)["val_map"] for d in subjects]
    assert rows[-1]["val_map"] == rows[-1]["val_mean"] and np.mean(scores) > p_C.mean()


def test_validation_score_is_scikit_learns_without_the_undefined_class(
    rng: np.random.Generator,
) -> None:
    label_IC, logits_IC = rng.random((20, 5)) < 0.4, rng.standard_normal((20, 5)).astype(np.float32)
    label_IC[:, 2], label_IC[:, 4] = False, True
    expected = np.mean(
        [average_precision_score(label_IC[:, c], logits_IC[:, c]) for c in (0, 1, 3)]
    )
    found = mean_average_precision(torch.from_numpy(label_IC), torch.from_numpy(logits_IC))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found == mean_average_precision(
        torch.from_numpy(label_IC[:, [0, 1, 3]]), torch.from_numpy(logits_IC[:, [0, 1, 3]])
    )
    assert mean_average_precision(torch.zeros(4, 2, dtype=torch.bool), torch.zeros(4, 2)) == 0.0


def own_state(decoder: Decoder, subject: str) -> dict[str, torch.Tensor]:
    return {
        n: v
        for n, v in decoder.state_dict().items()
        if subject in n.split(".") or n.startswith("new_projection.")
    }


@pytest.mark.parametrize("new_fit", ["tokens", "tokens_projection"])
def test_a_new_subject_changes_nothing_shared(
    new_fit: str, subjects: list[TrainingData], tmp_path: Path
) -> None:
    config = make_config("clip_mused", **SMALL | {"new_subject": "subj05", "new_fit": new_fit})
    decoder = Decoder.from_data(config, subjects, 0)
    rows = fit_decoder(decoder, subjects, 0, CPU, tmp_path / "new")
    assert [row["epoch"] for row in rows] == list(range(10))
    without, _, _ = train(subjects[:2], tmp_path / "without")
    new = own_state(decoder, "subj05")
    assert ("new_projection.weight" in new) is (new_fit == "tokens_projection")
    for name, value in without.state_dict().items():
        if name != "cosines_S2":
            assert torch.equal(value, decoder.state_dict()[name]), name
    start = (decoder.identity["subj01"] + decoder.identity["subj02"]) / 2
    assert not torch.equal(decoder.identity["subj05"], start)
    if new_fit == "tokens_projection":
        assert not torch.equal(decoder.new_projection.weight, decoder.projection.weight)


def test_what_is_fitted_for_a_new_subject_is_in_training_mode(
    subjects: list[TrainingData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Components are dropped as in the shared phase; the frozen network drops nothing."""
    config = make_config("clip_mused", **SMALL | {"new_subject": "subj05", "max_epochs": 1})
    decoder = Decoder.from_data(config, subjects, 0)
    seen: list[tuple[bool, bool]] = []
    plain = trainer.fit

    def watched(*args: Any, **kwargs: Any) -> Any:
        def look(epoch: int, loss: Tensor, optimizer: Optimizer) -> None:
            seen.append((decoder.training, decoder.network.training))

        return plain(*args, **kwargs, on_step=look)

    monkeypatch.setattr(trainer, "fit", watched)
    fit_decoder(decoder, subjects, 0, CPU, tmp_path)
    assert seen[0] == (True, True) and seen[-1] == (True, False)


def test_killed_fit_of_a_new_subject_ends_with_the_same_bytes(
    subjects: list[TrainingData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("clip_mused", **SMALL | {"new_subject": "subj05", "max_epochs": 3})
    # The second training, that of the new subject, is killed.
    kills = iter([None, kill_in(2), None, None])
    plain = trainer.fit

    def fit_killed(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs, on_step=next(kills), checkpoint_every_s=0.0)

    states = []
    for folder, patched in (("whole", False), ("killed", True)):
        if patched:
            monkeypatch.setattr(trainer, "fit", fit_killed)
            with pytest.raises(Killed):
                fit_decoder(
                    Decoder.from_data(config, subjects, 0),
                    subjects,
                    0,
                    CPU,
                    tmp_path / folder,
                )
        decoder = Decoder.from_data(config, subjects, 0)
        rows = fit_decoder(decoder, subjects, 0, CPU, tmp_path / folder)
        states.append((save(dict(decoder.state_dict())), rows))
    assert states[0] == states[1]


def test_maps_of_the_others_do_not_know_the_new_subject(subjects: list[TrainingData]) -> None:
    config = make_config(
        "clip_mused", **SMALL | {"new_subject": "subj05", "input_map": "clip_aligned"}
    )
    moved = replace(subjects[2], image_embedding_ID=subjects[2].image_embedding_ID.flip(1))
    one, two = (Decoder.from_data(config, [*subjects[:2], d], 0) for d in (subjects[2], moved))
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]) is not (
            name in ("maps.subj05.weight_XK", "maps.subj05.offset_RK", "cosines_S2")
        ), name
