"""What training does on a GPU, shown on a CPU: bfloat16, device of the process, memory."""

from __future__ import annotations

import gc
import weakref
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fmri2clip import decoders
from fmri2clip.core.params import load
from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.brainclip.decoder import contrastive
from fmri2clip.stages.count_parameters.settings import nsd_config
from fmri2clip.stages.train import trainer
from fmri2clip.stages.train.batches import EpochBatches
from tests.tiny_subject import make_tiny

ROOT = Path(__file__).parents[3]
# Widths alone: clipping, weight decay, schedule and losses are those of presets/nsd.yaml.
NARROW = {
    "aligned": {"components": 4, "n_alphas": 3, "hidden": 16, "batch_size": 16},
    "brainclip": {"hidden": 16, "batch_size": 16},
    "brainmclip": {"hidden": 16, "blocks": 1, "token_rank": 3, "batch_size": 16},
    "brainmclip_plus": {"hidden": 16, "blocks": 1, "batch_size": 16},
    "clip_mused": {
        "areas": "V1, V2, floc-faces, rest",
        "components": 4,
        "width": 8,
        "heads": 2,
        "layers": 1,
        "hidden": 16,
        "batch_size": 16,
    },
    "mindeye": {"hidden": 16, "blocks": 1, "projector": 12, "batch_size": 16},
}
GRADIENT = [n for n in decoders.names() if not decoders.load_decoder(n).Decoder.closed_form]


def make_config(name: str, **changes: Any) -> Any:
    module = decoders.load_decoder(name)
    config = nsd_config(load(ROOT / "params.yaml"), name, module.Config, ROOT / "presets/nsd.yaml")
    return replace(config, **NARROW[name], **changes)


def fit(
    name: str, data: list[TrainingData], folder: Path, **options: Any
) -> list[dict[str, float]]:
    config = make_config(name, max_epochs=2, patience=2)
    decoder = decoders.load_decoder(name).Decoder.from_data(config, data, 0)
    settings: dict[str, Any] = {"seed": 0, "device": "cpu", "precision": "bf16", "progress": None}
    rows = trainer.fit(decoder, data, config, resume_dir=folder, **settings | options)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in decoder.parameters())
    return rows


@pytest.mark.parametrize("name", GRADIENT)
def test_every_decoder_trains_in_bfloat16(name: str, tmp_path: Path) -> None:
    """Two subjects one after the other (together, for a decoder that serves all)."""
    subjects = [make_tiny("subj01"), make_tiny("subj02", 1)]
    parts = [[s] for s in subjects]
    if not decoders.load_decoder(name).Decoder.per_subject:
        parts = [subjects]
    for k, part in enumerate(parts):
        half = fit(name, part, tmp_path / f"half{k}")
        whole = fit(name, part, tmp_path / f"whole{k}", precision="fp32")
        # bfloat16 has 8 bits: three digits of the first losses agree.
        assert half[0]["loss"] == pytest.approx(whole[0]["loss"], rel=2e-2)
        assert half != whole


@pytest.mark.parametrize("name", GRADIENT)
def test_losses_are_computed_in_float32(name: str) -> None:
    """Under autocast: no term may have been rounded on its way."""
    data = [make_tiny("subj01")]
    decoder = decoders.load_decoder(name).Decoder.from_data(make_config(name), data, 0)
    with torch.autocast("cpu", torch.bfloat16):
        batch = next(iter(trainer.make_batches(decoder, data, decoder.config, 0)))
        terms = decoder.loss(batch, 0.0)
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_logits_of_the_contrast_are_not_rounded() -> None:
    """Logits reach 100 at tau 0.01, where bfloat16 has steps of 0.5."""
    generator = torch.Generator().manual_seed(0)
    f, y = (
        torch.nn.functional.normalize(torch.randn(40, 64, generator=generator) + 1) for _ in "ab"
    )
    same = torch.eye(40, dtype=torch.bool)
    exact = contrastive(f.double(), y.double(), 0.01, same)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(contrastive(f, y, torch.tensor(0.01), same)) == pytest.approx(
            float(exact), rel=1e-5
        )


@pytest.mark.parametrize(
    ("device", "wanted", "expected"),
    [("cpu", "auto", "fp32"), ("cpu", "bf16", "bf16"), ("cuda:1", "fp32", "fp32")],
)
def test_precision_is_chosen_in_one_place(device: str, wanted: str, expected: str) -> None:
    assert trainer.choose_precision(torch.device(device), wanted) == expected


def test_data_and_weights_go_to_the_gpu_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two: torch's meta device stands for cuda:1, which Fabric reports there."""
    seen: list[torch.device] = []

    class Stopped(Exception):
        pass

    class OnSecondGpu:
        device = torch.device("meta")

        def setup(self, decoder: Any, optimizer: Any) -> Any:
            seen.extend(p.device for p in decoder.parameters())
            raise Stopped

    place = TrainingData.to

    def watch(self: TrainingData, device: Any, **options: Any) -> TrainingData:
        moved = place(self, device, **options)
        seen.extend([moved.betas_NV.device, moved.features["semantic_tokens_ITD"].device])
        return self

    monkeypatch.setattr(trainer, "_launch", lambda *_: OnSecondGpu())
    monkeypatch.setattr(TrainingData, "to", watch)
    with pytest.raises(Stopped):
        fit("brainmclip", [make_tiny()], tmp_path)
    assert len(seen) > 5 and set(seen) == {torch.device("meta")}


def test_a_subject_is_forgotten_when_its_training_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for Python's collector: at real size 10 GB of a GPU hang on it."""
    kept: list[Any] = []
    place = TrainingData.to

    def copy(self: TrainingData, device: Any, **options: Any) -> TrainingData:
        moved = replace(place(self, device, **options), betas_NV=self.betas_NV.clone())
        kept.append(weakref.ref(moved.betas_NV))
        return moved

    def remember(epoch: int, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        kept.append(weakref.ref(optimizer))
        kept.append(weakref.ref(next(iter(optimizer.state.values()))["exp_avg"]))

    monkeypatch.setattr(TrainingData, "to", copy)
    gc.collect()
    gc.disable()
    try:
        fit("brainmclip", [make_tiny()], tmp_path, on_step=remember)
        assert len(kept) > 2 and all(reference() is None for reference in kept)
    finally:
        gc.enable()


def test_batches_that_stream_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features stay where they are and come batch by batch, one batch ahead; same numbers."""
    inside = fit("brainmclip", [make_tiny()], tmp_path / "inside")
    assert not EpochBatches(make_tiny(), 16, 0).streams
    monkeypatch.setattr(EpochBatches, "streams", True)
    monkeypatch.setattr(trainer, "fits", lambda n_bytes, device: False)
    assert fit("brainmclip", [make_tiny()], tmp_path / "streamed") == inside


def test_features_that_stay_behind_reach_the_device_of_the_batch() -> None:
    tiny = make_tiny()
    moved = tiny.to("meta", features=False)
    moved.__dict__["mean_text_ID"] = tiny.mean_text_ID.to("meta")  # it counts, which meta cannot
    assert moved.betas_NV.device.type == "meta"
    assert moved.features["semantic_tokens_ITD"].device.type == "cpu"
    batches = EpochBatches(tiny, 16, 0)
    batches.data = [moved]
    batches.text_ids = [ids.to("meta") for ids in batches.text_ids]
    assert batches.streams
    batch = next(iter(batches))
    assert batch.features["semantic_tokens_ITD"].device.type == "meta"


def test_features_move_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * 2**30, 24 * 2**30))
    gpu = torch.device("cuda:0")
    assert trainer.fits(8 * 2**30, gpu) and not trainer.fits(9 * 2**30, gpu)
    assert trainer.fits(2**50, torch.device("cpu"))


def test_time_between_checkpoints_grows_with_the_time_one_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now[0])
    clock = trainer._Clock(30.0)
    now[0] = 31.0
    assert clock.is_due()
    with clock.saving():
        now[0] += 10.0
    now[0] += 199.0
    assert not clock.is_due()
    now[0] += 1.0
    assert clock.is_due()


def test_a_checkpoint_holds_the_best_weights_once(tmp_path: Path, monkeypatch: Any) -> None:
    """Where the best epoch is the last one, its weights are those of the model."""
    sizes = {}
    scores: list[float] = []
    monkeypatch.setattr(
        trainer, "validation_scores", lambda decoder, data: {"val_mean": scores.pop()}
    )
    for name, values in (("rising", [2.0, 1.0]), ("falling", [1.0, 2.0])):
        scores[:] = values
        fit("brainmclip", [make_tiny()], tmp_path / name, checkpoint_every_s=0.0)
        state = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
        sizes[name] = len(state["best_state"])
    assert sizes["rising"] == 0 < sizes["falling"]


def test_config_is_that_of_the_preset() -> None:
    narrow = make_config("brainmclip")
    assert narrow.gradient_clip > 0 and narrow.weight_decay > 0 and narrow.warmup_epochs > 0
    assert set(NARROW) == set(GRADIENT)
    assert asdict(narrow)["hidden"] == 16
