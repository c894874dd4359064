from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.brainclip.decoder import Config, Decoder
from fmri2clip.decoders.brainmclip import decoder as brainmclip
from fmri2clip.stages.train import trainer
from fmri2clip.stages.train.batches import EpochBatches
from tests.decoders.settings import make_config

CONFIG = make_config(
    "brainclip",
    network="vae",
    hidden=16,
    batch_size=16,
    max_epochs=8,
    patience=8,
    lr=1e-2,
    kl_warmup=3,
)


class Killed(RuntimeError):
    pass


class Kill:
    """Ends the process, as far as the training can tell, after a step of an epoch.

    After step 0 of an epoch, the checkpoint of the epoch before is the last one.
    """

    def __init__(self, epoch: int, step: int = 0) -> None:
        self.epoch = epoch
        self.left = step

    def __call__(self, epoch: int, loss: Tensor, optimizer: Optimizer) -> None:
        if epoch == self.epoch:
            self.left -= 1
            if self.left < 0:
                raise Killed


def train(
    data: TrainingData,
    folder: Path,
    config: Config = CONFIG,
    on_step: trainer.OnStep | None = None,
    every_s: float = 0.0,
) -> tuple[bytes, list[dict[str, float]]]:
    decoder = Decoder(config, 30, 8, 0)
    rows = trainer.fit(
        decoder,
        data,
        config,
        seed=0,
        device="cpu",
        resume_dir=folder,
        on_step=on_step,
        checkpoint_every_s=every_s,
        progress=None,
    )
    return save(dict(decoder.state_dict())), rows


@pytest.mark.parametrize(
    "kills", [[(0, 0)], [(1, 0)], [(5, 0)], [(3, 1), (6, 0)], [(7, 2), (7, 2)]]
)
def test_killed_training_ends_with_the_same_bytes(
    kills: list[tuple[int, int]], tiny: TrainingData, tmp_path: Path
) -> None:
    expected = train(tiny, tmp_path / "whole")
    for kill in kills:
        torch.manual_seed(len(kills))  # whatever state the process is in
        with pytest.raises(Killed):
            train(tiny, tmp_path / "killed", CONFIG, Kill(*kill))
    assert train(tiny, tmp_path / "killed") == expected
    assert train(tiny, tmp_path / "killed") == expected, "from the checkpoint of the last epoch"
    assert len(expected[1]) == 8


def train_brainmclip(
    data: TrainingData, folder: Path, on_step: trainer.OnStep | None = None
) -> tuple[bytes, list[dict[str, float]]]:
    config = make_config(
        "brainmclip",
        warmup_epochs=2.0,
        hidden=16,
        blocks=1,
        token_rank=3,
        batch_size=16,
        max_epochs=6,
        patience=6,
        lr=1e-2,
    )
    decoder = brainmclip.Decoder.from_data(config, [data], 0)
    rows = trainer.fit(
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
    return save(dict(decoder.state_dict())), rows


@pytest.mark.parametrize("kills", [[(2, 0)], [(0, 2), (3, 1)]])
def test_killed_brainmclip_ends_with_the_same_bytes(
    kills: list[tuple[int, int]], tiny: TrainingData, tmp_path: Path
) -> None:
    """Its random numbers (mixtures, tokens, dropout), warm-up and gradient clip all survive a
    resume.
    """
    expected = train_brainmclip(tiny, tmp_path / "whole")
    for kill in kills:
        torch.manual_seed(7)
        with pytest.raises(Killed):
            train_brainmclip(tiny, tmp_path / "killed", Kill(*kill))
    assert train_brainmclip(tiny, tmp_path / "killed") == expected
    assert len(expected[1]) == 6 and expected[1][0]["loss"] > expected[1][-1]["loss"]


def test_learning_rate_warms_up_stays_and_falls_over_the_last_fifth(
    tiny: TrainingData, tmp_path: Path
) -> None:
    rates: list[float] = []

    def watch(epoch: int, loss: Tensor, optimizer: Optimizer) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    train_brainmclip(tiny, tmp_path, watch)
    n_rise, n_all = 2 * 3, 6 * 3  # two epochs of three steps
    rise = [1e-2 * (step + 1) / (n_rise + 1) for step in range(n_rise)]
    n_fall = 0.2 * n_all
    rest = [1e-2 * min(1.0, (n_all - step) / n_fall) for step in range(n_rise, n_all)]
    assert rates == pytest.approx(rise + rest)
    assert rates.count(1e-2) == 9 and min(rates[-3:]) < 4e-3


@pytest.mark.parametrize(("limit", "clipped"), [(1e-3, True), (0.0, False)])
def test_gradient_clip_limits_the_norm(
    limit: float, clipped: bool, tiny: TrainingData, tmp_path: Path
) -> None:
    norms: list[float] = []

    def watch(epoch: int, loss: Tensor, optimizer: Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        grads = [p.grad for p in parameters if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))

    config = make_config(
        "brainmclip",
        hidden=16,
        blocks=1,
        token_rank=3,
        batch_size=16,
        max_epochs=2,
        patience=2,
        gradient_clip=limit,
    )
    decoder = brainmclip.Decoder.from_data(config, [tiny], 0)
    trainer.fit(
        decoder,
        tiny,
        config,
        seed=0,
        device="cpu",
        resume_dir=tmp_path,
        on_step=watch,
        progress=None,
    )
    assert len(norms) == 2 * 3 and (max(norms) < 1.01e-3) is clipped


def test_resume_trains_only_the_missing_epochs(tiny: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny, tmp_path, CONFIG, Kill(5))
    seen: list[int] = []

    def count(epoch: int, loss: Tensor, optimizer: Optimizer) -> None:
        seen.append(epoch)

    for _ in range(2):  # the second has nothing left to do
        train(tiny, tmp_path, CONFIG, count)
        assert seen == [5, 5, 5, 6, 6, 6, 7, 7, 7]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_checkpoint_costs_time_only(
    tiny: TrainingData, tmp_path: Path, share: float
) -> None:
    expected = train(tiny, tmp_path / "whole")
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", CONFIG, Kill(5))
    path = tmp_path / "killed/last.ckpt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged .* starts anew"):
        assert train(tiny, tmp_path / "killed") == expected


def test_early_stopping_survives_a_resume(tiny: TrainingData, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=40, patience=3)
    expected = train(tiny, tmp_path / "whole", config)
    assert len(expected[1]) < 40
    assert train(tiny, tmp_path / "whole", config) == expected
    with pytest.raises(Killed):
        train(tiny, tmp_path / "killed", config, Kill(3))
    assert train(tiny, tmp_path / "killed", config) == expected


def test_weights_equal_those_of_a_bare_loop(
    tiny: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = iter(range(100))
    monkeypatch.setattr(
        trainer, "validation_scores", lambda decoder, data: {"val_mean": next(rising)}
    )
    config = replace(CONFIG, network="mlp", dropout_in=0.0, dropout_block=0.0)
    found, rows = train(tiny, tmp_path, config)
    decoder = Decoder(config, 30, 8, 0).train()
    decay = [p for p in decoder.parameters() if p.ndim > 1]
    rest = [p for p in decoder.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay}, {"params": rest, "weight_decay": 0.0}], weight_decay=1e-2
    )
    n_steps, losses = 3, []
    for step in range(8 * n_steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (8 * n_steps - step) / (0.2 * 8 * n_steps))
        batch = list(EpochBatches(tiny, 16, 0, step // n_steps, 0.5, 0.3))[step % n_steps]
        loss = sum(decoder.loss(batch, step / n_steps).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row["loss"] for row in rows] == pytest.approx(
        np.reshape(losses, (8, 3)).mean(1), rel=1e-4
    )
    # The loss of validation images: the mean of their repeats, without dropout.
    others = replace(tiny, is_validation_I=~tiny.is_validation_I)
    (batch,) = EpochBatches(others, 16, 0, 0, 0.0, 1.0)
    rows_B = batch.image_id_B // 7
    assert tiny.is_validation_I[rows_B].all() and len(rows_B) == 12
    torch.testing.assert_close(batch.betas_BV, tiny.mean_betas_IV[rows_B])
    with torch.no_grad():
        val_loss = float(sum(decoder.eval().loss(batch, 8.0).values()))
    assert rows[-1]["val_loss"] == pytest.approx(val_loss, rel=1e-3)
    trained = Decoder(config, 30, 8, 0)
    from safetensors.torch import load

    trained.load_state_dict(load(found))
    for name, value in decoder.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("scores", "patience", "n_epochs", "best"),
    [
        ([0.1, 0.5, 0.6, 0.2, 0.1, 0.1, 0.1, 0.1], 3, 7, 3),  # means .1 .3 .4 .433 .3 .133 .1
        ([0.2] * 8, 3, 4, 0),  # of equals the earliest
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 2, 8, 7),
    ],
)
def test_best_epoch_by_the_mean_of_three_scores(
    scores: list[float], patience: int, n_epochs: int, best: int, tiny, tmp_path: Path, monkeypatch
) -> None:
    values, snapshots = iter(scores), []

    def scripted(decoder: Any, data: TrainingData) -> dict[str, float]:
        snapshots.append(save(dict(decoder.state_dict())))
        return {"val_mean": next(values)}

    monkeypatch.setattr(trainer, "validation_scores", scripted)
    found, rows = train(tiny, tmp_path, replace(CONFIG, patience=patience))
    assert len(rows) == n_epochs and found == snapshots[best]


def test_the_best_epoch_is_remembered_across_a_resume(
    tiny: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores fall from the first epoch on; those after the resume must not count as better."""
    falling = iter(range(100, 0, -1))
    snapshots: list[bytes] = []

    def scripted(decoder: Any, data: TrainingData) -> dict[str, float]:
        snapshots.append(save(dict(decoder.state_dict())))
        return {"val_mean": float(next(falling))}

    monkeypatch.setattr(trainer, "validation_scores", scripted)
    with pytest.raises(Killed):
        train(tiny, tmp_path, replace(CONFIG, patience=6), Kill(4))
    found, rows = train(tiny, tmp_path, replace(CONFIG, patience=6))
    assert len(rows) == 7 and found == snapshots[0]


def test_training_learns_and_leaves_nothing_but_a_checkpoint(
    tiny, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    _, rows = train(
        tiny, tmp_path / "resume", replace(CONFIG, network="linear", max_epochs=30, patience=30)
    )
    assert rows[-1]["val_mean"] > 0.4 > 3 / 12 and rows[-1]["loss"] < rows[0]["loss"]
    assert [row["epoch"] for row in rows] == list(range(30))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["last.ckpt"]
    assert torch.equal(before, torch.random.get_rng_state())
    assert capfd.readouterr() == ("", "")


def test_short_epochs_share_a_checkpoint(tiny: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny, tmp_path, CONFIG, Kill(5), every_s=1e6)
    assert not (tmp_path / "last.ckpt").exists()
    train(tiny, tmp_path, every_s=1e6)
    assert (tmp_path / "last.ckpt").exists()


def test_two_subjects_train_one_decoder(tiny: TrainingData, tmp_path: Path) -> None:
    decoder = Decoder(CONFIG, 30, 8, 0)
    both = [tiny, replace(tiny, subject="subj02")]
    rows = trainer.fit(
        decoder, both, CONFIG, seed=0, device="cpu", resume_dir=tmp_path, progress=None
    )
    assert len(rows) == 8 and not decoder.training


def test_a_loss_that_is_not_finite_stops_with_advice(tiny: TrainingData, tmp_path: Path) -> None:
    broken = replace(tiny, betas_NV=tiny.betas_NV * float("inf"))
    with pytest.raises(ValueError, match=r"the loss became nan in epoch 0.*lower lr"):
        train(broken, tmp_path)


def test_the_advice_comes_where_gradients_are_clipped_too(
    tiny: TrainingData, tmp_path: Path
) -> None:
    broken = replace(tiny, betas_NV=tiny.betas_NV * float("inf"))
    with pytest.raises(ValueError, match=r"the loss became nan in epoch 0.*lower lr"):
        train_brainmclip(broken, tmp_path)


def test_a_full_disk_is_said_and_leaves_nothing(tiny: TrainingData, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: torch takes both for the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(OSError, match=r"last.ckpt cannot be written .* is the disk full\?"):
            train(tiny, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
