"""Frozen numbers of all 32 pairs, the whole evaluation with stand-ins, the bootstrap, and what is
reported missing.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fmri2clip.metrics.pictures import evaluator, image_scores
from fmri2clip.metrics.pictures.brain_correlation import (
    BrainCorrelation,
    Config,
    Measured,
    fit_encoding,
)
from fmri2clip.metrics.pictures.evaluator import Evaluator, SubjectEvaluation
from fmri2clip.metrics.pictures.networks import Network
from fmri2clip.metrics.pictures.protocols import DIRECTIONS, PROTOCOLS, SLOTS
from fmri2clip.metrics.pictures.resizing import PictureSet, prepare
from fmri2clip.metrics.statistics import paired_difference
from fmri2clip.metrics.summary import summarise
from tests import frozen_pairs
from tests.metrics.pictures.conftest import from_function, make_info, make_network

GOLDEN = json.loads(Path(__file__).with_name("golden_reconstruction.json").read_text())
IDS = np.arange(32) * 7 + 3
MINDEYE = PROTOCOLS["mindeye-2023"]


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    return frozen_pairs.make_pairs()


def make_small(n: int = 8, side: int = 64) -> tuple[PictureSet, PictureSet]:
    """Pictures of the simulated world's size."""
    seen, made = frozen_pairs.make_pairs(n, side)
    return PictureSet(nsd_id_I=IDS[:n], images_IHWC=seen), PictureSet(
        nsd_id_I=IDS[:n], images_IHWC=made
    )


@pytest.fixture(scope="module")
def small(networks: dict[str, Network]) -> SubjectEvaluation:
    seen, made = make_small()
    return Evaluator("strict-v1", seen, networks).score(made)


@pytest.mark.parametrize(("kind", "rows"), [("float", slice(None)), ("8-bit", slice(0, 32, 3))])
def test_pixels_equal_frozen_numbers(
    kind: str, rows: slice, pairs: tuple[np.ndarray, np.ndarray]
) -> None:
    """Frozen from the oracles."""
    given = [frozen_pairs.to_8bit(x[rows]) if kind == "8-bit" else x[rows] for x in pairs]
    seen, made = (PictureSet(nsd_id_I=IDS[rows], images_IHWC=x) for x in given)
    score = Evaluator(MINDEYE, seen, {}).score(made).score
    for metric in ("pixcorr", "ssim"):
        expected_I = np.array(GOLDEN[kind][metric], dtype=float)[rows]  # null: undefined
        np.testing.assert_allclose(score[metric], expected_I, atol=1e-6)


def test_special_pairs_of_the_frozen_numbers() -> None:
    """The constant has no correlation, the copy is perfect, in both forms of the pictures."""
    for kind in ("float", "8-bit"):
        pixcorr = GOLDEN[kind]["pixcorr"]
        assert [row for row, r in enumerate(pixcorr) if r is None] == [frozen_pairs.CONSTANT]
        assert pixcorr[frozen_pairs.COPY] == GOLDEN[kind]["ssim"][frozen_pairs.COPY] == 1.0


def test_frozen_numbers_are_those_of_the_oracles(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    for row in (0, 9, 22):
        seen, made = (frozen_pairs.resize_oracle(x[row], 425, False) for x in pairs)
        assert frozen_pairs.pearson_oracle(seen, made) == pytest.approx(
            GOLDEN["float"]["pixcorr"][row], abs=1e-9
        )
        assert frozen_pairs.ssim_oracle(made, seen) == pytest.approx(
            GOLDEN["float"]["ssim"][row], abs=1e-9
        )


def test_columns_equal_frozen_numbers(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    seen, made = (prepare(x[:8], MINDEYE, MINDEYE.pixels) for x in pairs)
    found_I = image_scores.score_ssim(made, seen, columns=True)
    np.testing.assert_allclose(found_I, GOLDEN["float"]["ssim_columns"], atol=1e-6)


def test_features_equal_frozen_counts_and_distances() -> None:
    seen_IF, made_IF = frozen_pairs.make_features()
    r_II = image_scores.correlate_all(seen_IF, made_IF)
    for direction in DIRECTIONS:
        assert (
            image_scores.count_two_way(r_II, direction, 9).won_I.tolist()
            == GOLDEN["features"][direction]
        )
    distance_I = 1 - image_scores.correlate_rows(seen_IF, made_IF)
    np.testing.assert_allclose(distance_I, GOLDEN["features"]["distance"], atol=1e-6)


def test_every_metric_of_every_protocol_has_a_value(networks: dict[str, Network]) -> None:
    seen, made = make_small(3)
    for name, protocol in PROTOCOLS.items():
        found = Evaluator(name, seen, networks).score(made)
        metrics = list(
            dict.fromkeys(metric.partition(".")[0] for metric in (*found.score, *found.missing))
        )
        assert metrics == protocol.metrics()
        assert set(found.missing) == ({"brain_correlation"} if protocol.brain else set())
        assert {metric for metric in found.score if metric.startswith("clip")} == {
            f"clip.{direction}" for direction in protocol.directions
        }


def test_evaluation_equals_the_parts(
    small: SubjectEvaluation, networks: dict[str, Network]
) -> None:
    """AlexNet(5) and SwAV by hand: resize, network, definition."""
    seen, made = make_small()
    strict = PROTOCOLS["strict-v1"]
    rows = {row.slot: row for row in strict.networks}

    def encode(pictures: PictureSet, slot: str, layer: str) -> np.ndarray:
        images = prepare(pictures.images_IHWC, strict, rows[slot].resize)
        return networks[slot].maps(images, [layer])[layer].reshape(8, -1)

    a, b = (encode(x, "alexnet", "features.11") for x in (seen, made))
    for direction, fixed in zip(DIRECTIONS, (True, False), strict=True):
        assert small.two_way[f"alexnet5.{direction}"].won_I.tolist() == frozen_pairs.two_way_oracle(
            a, b, fixed
        )
    a, b = (encode(x, "swav", "avgpool") for x in (seen, made))
    expected_I = [1 - frozen_pairs.pearson_oracle(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(small.score["swav"], expected_I, atol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_kept_and_threads_change_nothing(
    protocol: str, networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory to keep pictures in, every metric takes the common steps itself."""
    seen, made = make_small(20)
    kept = Evaluator(protocol, seen, networks, threads=2).score(made)
    monkeypatch.setattr(evaluator, "KEPT_BYTES", 0)
    again = Evaluator(protocol, seen, networks).score(made)
    assert kept.score.keys() == again.score.keys()
    for name, score_I in kept.score.items():
        np.testing.assert_array_equal(again.score[name], score_I)


def test_a_perfect_reconstruction_is_perfect(networks: dict[str, Network]) -> None:
    seen, _ = make_small(3)
    for name in PROTOCOLS:
        for metric, value in Evaluator(name, seen, networks).score(seen).values().items():
            assert value == pytest.approx(0.0 if metric in ("effnet", "swav") else 1.0, abs=1e-6), (
                name,
                metric,
            )


def test_pairs_are_matched_by_id(small: SubjectEvaluation, networks: dict[str, Network]) -> None:
    seen, made = make_small()
    order = np.random.default_rng(0).permutation(8)
    shuffled = Evaluator("strict-v1", seen.select(IDS[order], "x"), networks).score(
        made.select(IDS[order[::-1]], "x")
    )
    np.testing.assert_array_equal(shuffled.nsd_id_I, IDS[:8])
    for metric, score_I in small.score.items():
        np.testing.assert_allclose(shuffled.score[metric], score_I, atol=1e-6)


def test_stimuli_are_encoded_once() -> None:
    n_seen = []

    def look(images_IHWC: np.ndarray) -> np.ndarray:
        n_seen.append(len(images_IHWC))
        return images_IHWC[:, ::16, ::16].reshape(len(images_IHWC), -1)

    seen, made = make_small(4)
    evaluator = Evaluator(MINDEYE, seen, {"clip": from_function(look, make_info(kind="clip"))})
    first, second = evaluator.score(made), evaluator.score(made)
    assert sum(n_seen) == 3 * 4
    assert first.values() == second.values()


def test_bootstrap_takes_the_scores(small: SubjectEvaluation) -> None:
    tree = summarise({"subj01": small.scores()}, 50, 0)
    assert tree["pixcorr_ci95_low"] < tree["pixcorr"] < tree["pixcorr_ci95_high"]
    assert tree["alexnet2"]["reconstruction_given_image"] == pytest.approx(
        small.values()["alexnet2.reconstruction_given_image"], abs=1e-6
    )


def test_a_smaller_distance_is_better(networks: dict[str, Network]) -> None:
    seen, made = make_small(4)
    evaluator = Evaluator(MINDEYE, seen, networks)
    good, bad = ({"subj01": evaluator.score(x).scores()} for x in (seen, made))
    for metric in ("effnet", "swav"):
        found = paired_difference([(good, bad)], metric, 50)
        assert found.n_positive == found.n_subjects


def test_missing_networks_are_reported(networks: dict[str, Network]) -> None:
    seen, made = make_small(3)
    found = Evaluator(
        MINDEYE, seen, {"clip": networks["clip"]}, {"alexnet": "no connection"}
    ).score(made)
    assert found.missing["alexnet2"] == found.missing["alexnet5"] == "no connection"
    assert found.missing["swav"] == "no network was given for swav (swav_800ep_pretrain)"
    assert set(found.values()) == {"pixcorr", "ssim", "clip.image_given_reconstruction"}
    assert found.record()["missing"] == dict(found.missing)


def test_record_names_protocol_weights_and_stand_ins(small: SubjectEvaluation) -> None:
    record = json.loads(json.dumps(small.record()))
    assert record["protocol"] == "strict-v1" and record["n_images"] == 8
    assert record["stand_ins"] == list(SLOTS)
    assert record["networks"]["alexnet"]["sha256"] == "0" * 64
    assert {"torchvision", "scikit-image", "scipy"} <= set(record["versions"])


def test_a_stand_in_sees_pictures_of_its_own_size() -> None:
    sizes = []

    def look(images_IHWC: np.ndarray) -> np.ndarray:
        sizes.append(images_IHWC.shape[1:3])
        return images_IHWC.reshape(len(images_IHWC), -1)

    seen, made = make_small(3)
    Evaluator(
        "braindiffuser-2023", seen, {"clip": from_function(look, make_info(), size=48)}
    ).score(made)
    assert set(sizes) == {(48, 48)}


def test_brain_correlation_is_the_last_metric(networks: dict[str, Network]) -> None:
    seen, made = make_small(6)
    training = PictureSet(
        nsd_id_I=np.arange(1000, 1030), images_IHWC=frozen_pairs.make_pairs(30, 64, 5)[0]
    )
    rng = np.random.default_rng(0)
    config = Config(n_alphas=1, log10_alpha_min=0, log10_alpha_max=0)
    model = fit_encoding(make_network(size=64), training, rng.standard_normal((30, 9)), config)
    measured = Measured(nsd_id_I=seen.nsd_id_I, betas_IV=rng.standard_normal((6, 9)))
    brain = BrainCorrelation(model=model, measured=measured)
    found = Evaluator("strict-v1", seen, {}, brain=brain).score(made)
    assert (
        list(found.score)[-1] == "brain_correlation.all"
        and "brain_correlation" not in found.missing
    )
    assert found.record()["networks"]["brain"]["n_training_images"] == 30
    assert (
        "brain_correlation.all" not in Evaluator(MINDEYE, seen, {}, brain=brain).score(made).score
    )


def test_networks_that_are_not_the_protocols_are_refused() -> None:
    seen, _ = make_small(3)
    v1 = make_network(stand_in=False, weights="EfficientNet_B1_Weights.IMAGENET1K_V1")
    with pytest.raises(
        ValueError, match=r"wants EfficientNet_B1_Weights.IMAGENET1K_V2 as efficientnet, got .*_V1"
    ):
        Evaluator(MINDEYE, seen, {"efficientnet": v1})
    large = make_network(size=336, stand_in=False, weights="ViT-L-14-quickgelu/openai")
    with pytest.raises(ValueError, match="gives clip 224 pixels, but small network takes 336"):
        Evaluator(MINDEYE, seen, {"clip": large})
    with pytest.raises(ValueError, match="strict-v1 computes in fp32, but small network is fp16"):
        Evaluator("strict-v1", seen, {"clip": make_network(precision="fp16")})
    with pytest.raises(
        ValueError, match="no protocol asks for a network 'vgg'; the slots are alexnet"
    ):
        Evaluator(MINDEYE, seen, {"vgg": v1})


def test_pictures_that_cannot_be_measured_are_refused() -> None:
    seen, made = make_small(3)
    with pytest.raises(
        ValueError, match=r"the set of reconstructions lacks 1 of 3 images \(first NSD id 3\)"
    ):
        Evaluator(MINDEYE, seen, {}).score(made.select(IDS[1:3], "x"))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        Evaluator(MINDEYE, seen.select(IDS[:1], "x"), {})
    with pytest.raises(ValueError, match="3 pictures came with 3 NSD ids, 1 of them different"):
        replace(seen, nsd_id_I=np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="reach 255; divide by 255"):
        replace(seen, images_IHWC=np.full((3, 4, 4, 3), 255.0))
    with pytest.raises(ValueError, match=r"shape \(I, H, W, 3\), got float32 \(3, 3, 64, 64\)"):
        replace(seen, images_IHWC=seen.images_IHWC.transpose(0, 3, 1, 2))
    broken = seen.images_IHWC.copy()
    broken[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"1 pictures are not finite \(first row 1\)"):
        replace(seen, images_IHWC=broken)
