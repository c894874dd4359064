"""readout.py against a plain scikit-learn loop and planted maps; picture_maps.py against loops over
pixels, boxes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from fmri2clip.metrics.statistics import Scores, mean_score, paired_difference
from fmri2clip.stages.evaluate import picture_maps, readout
from tests.stimuli_files import write_pictures


def plain_scores(feature_IF: np.ndarray, map_IM: np.ndarray, seed: int) -> np.ndarray:
    """The same number without rotation or shared code."""
    x = StandardScaler().fit_transform(feature_IF)
    error, spread = np.zeros(len(x)), np.zeros(len(x))
    for train, test in KFold(5, shuffle=True, random_state=seed).split(x):
        target = StandardScaler().fit(map_IM[train])
        total = ((x[train] - x[train].mean(axis=0)) ** 2).sum() / len(train)
        model = RidgeCV(alphas=[total * 10.0**k for k in range(-4, 5)])
        model.fit(x[train], target.transform(map_IM[train]))
        truth = target.transform(map_IM[test])
        for row, found in zip(test, model.predict(x[test]), strict=True):
            error[row] = np.mean((truth[list(test).index(row)] - found) ** 2)
            spread[row] = np.mean(truth[list(test).index(row)] ** 2)
    return 1 - error / spread.mean()


@pytest.mark.parametrize("n_features", [12, 150])  # fewer and more than images
def test_equals_a_plain_loop(
    n_features: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readout, "BLOCK", 7)
    feature_IF = rng.standard_normal((60, n_features)) * rng.uniform(0.1, 30, n_features) + 5
    map_IM = feature_IF[:, :4] @ rng.standard_normal((4, 3)) + rng.standard_normal((60, 3))
    score_I, weight_I = readout.score_readout(feature_IF, {"colour": map_IM}, seed=3)[
        "readout.colour"
    ]
    np.testing.assert_allclose(score_I, plain_scores(feature_IF, map_IM, 3), atol=1e-6)
    np.testing.assert_array_equal(weight_I, 1)


def test_planted_maps_are_recovered(rng: np.random.Generator) -> None:
    feature_IF = rng.standard_normal((200, 20))
    clean_IM = feature_IF @ rng.standard_normal((20, 6))
    noisy_IM = clean_IM + clean_IM.std() * rng.standard_normal((200, 6))
    scores = readout.score_readout(feature_IF, {"clean": clean_IM, "noisy": noisy_IM})
    assert scores["readout.clean"][0].mean() > 0.99
    assert scores["readout.noisy"][0].mean() == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("n_features", [10, 300])
def test_features_without_information_score_nothing(n_features: int) -> None:
    """Never above 0 on average, although the penalty is chosen from the data; 0 for constant
    features.
    """
    means = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        feature_IF, map_IM = rng.standard_normal((60, n_features)), rng.standard_normal((60, 4)) + 2
        means.append(
            readout.score_readout(feature_IF, {"size": map_IM}, seed=seed)["readout.size"][0].mean()
        )
    assert -0.15 < np.mean(means) < 0.005
    assert np.max(means) < 0.1
    constant = readout.score_readout(np.ones((60, 5)), {"size": map_IM})["readout.size"][0]
    assert constant.mean() == pytest.approx(0, abs=1e-9)


def test_images_without_an_object_are_left_out(rng: np.random.Generator) -> None:
    feature_IF, map_IM = rng.standard_normal((80, 6)), rng.standard_normal((80, 2))
    gap_IM = map_IM.copy()
    gap_IM[::5, 0] = np.nan
    score_I, weight_I = readout.score_readout(feature_IF, {"position": gap_IM})["readout.position"]
    asked = np.arange(80) % 5 > 0
    np.testing.assert_array_equal(weight_I, asked)
    np.testing.assert_array_equal(np.isfinite(score_I), asked)
    alone_I, _ = readout.score_readout(
        feature_IF, {"position": np.where(np.isnan(gap_IM[:, :1]), np.nan, map_IM)}
    )["readout.position"]
    np.testing.assert_array_equal(alone_I, score_I)
    few = np.full((80, 1), np.nan)
    few[:9] = 1.0
    assert np.isnan(readout.score_readout(feature_IF, {"size": few})["readout.size"][0]).all()


def test_scores_enter_the_paired_bootstrap(rng: np.random.Generator) -> None:
    feature_IF = rng.standard_normal((100, 8))
    maps = {"edges": feature_IF @ rng.standard_normal((8, 5)) + rng.standard_normal((100, 5))}
    runs = [
        {"subj01": Scores(nsd_id_I=np.arange(100), per_image=readout.score_readout(x, maps))}
        for x in (feature_IF, feature_IF[:, :3])
    ]
    value = mean_score([runs[0]], "readout.edges", n_bootstrap=50)
    assert value.low < value.value < value.high
    assert value.value == pytest.approx(runs[0]["subj01"].per_image["readout.edges"][0].mean())
    difference = paired_difference([(runs[0], runs[1])], "readout.edges", n_bootstrap=200)
    assert difference.estimate.low > 0


def test_wrong_features_are_named(rng: np.random.Generator) -> None:
    feature_IF = rng.standard_normal((30, 4))
    with pytest.raises(ValueError, match="map 'size' is of 20 images, the features of 30"):
        readout.score_readout(feature_IF, {"size": np.ones((20, 1))})
    feature_IF[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        readout.score_readout(feature_IF, {"size": np.ones((30, 1))})


def place_of(pixel: int, side: int) -> int:
    """Which of the places holds a row or column: the last whose first pixel is not behind it."""
    return max(k for k in range(picture_maps.SIDE) if int(k * side / picture_maps.SIDE) <= pixel)


def test_maps_equal_a_loop_over_pixels(rng: np.random.Generator) -> None:
    height, width = 9, 14  # no multiples of the grid
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = picture_maps.map_pictures(image[None])
    sums: dict[str, np.ndarray] = {name: np.zeros((4, 4)) for name in ("rg", "by", "luma", "edges")}
    count = np.zeros((4, 4))
    luma = [[0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in row] for row in image / 255]

    def slope(values: list[float], at: int) -> float:
        before, after = max(at - 1, 0), min(at + 1, len(values) - 1)
        return (values[after] - values[before]) / (after - before)

    for y in range(height):
        for x in range(width):
            place = place_of(y, height), place_of(x, width)
            r, g, b = image[y, x] / 255
            count[place] += 1
            sums["rg"][place] += r - g
            sums["by"][place] += b - (r + g) / 2
            sums["luma"][place] += luma[y][x]
            down, right = slope([row[x] for row in luma], y), slope(luma[y], x)
            sums["edges"][place] += (down**2 + right**2) ** 0.5
    expected = {name: (total / count).ravel() for name, total in sums.items()}
    colour = np.concatenate([expected["rg"], expected["by"]])
    np.testing.assert_allclose(found["colour"][0], colour, atol=1e-5)
    np.testing.assert_allclose(found["luminance"][0], expected["luma"], atol=1e-5)
    np.testing.assert_allclose(found["edges"][0], expected["edges"], atol=1e-5)
    with pytest.raises(ValueError, match="pictures are 3 x 9 pixels"):
        picture_maps.map_pictures(np.zeros((1, 3, 9, 3), np.uint8))


def test_all_maps_in_the_order_of_the_ids(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "test.h5"
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    largest_I3 = np.array([[0.2, 0.3, 0.16], [np.nan] * 3, [0.5, 0.5, 1.0]], dtype=np.float32)
    write_pictures(path, np.array([4, 7, 9]), images, largest_I3=largest_I3)
    known = picture_maps.load_maps(path, np.array([7, 4]))
    assert {name: value.shape for name, value in known.maps.items()} == {
        "colour": (2, 32),
        "luminance": (2, 16),
        "edges": (2, 16),
        "position": (2, 2),
        "size": (2, 1),
    }
    assert known.maps["size"][1, 0] == pytest.approx(0.4)
    np.testing.assert_allclose(known.maps["position"][1], [0.2, 0.3])
    assert np.isnan(known.maps["size"][0, 0])
    edges = picture_maps.map_pictures(images[[1, 0]])["edges"]
    np.testing.assert_array_equal(known.maps["edges"], edges)
    np.testing.assert_array_equal(known.select(np.array([4]))["edges"], edges[1:])
    with pytest.raises(ValueError, match="lacks 1 of 1 images"):
        picture_maps.load_maps(path, np.array([5]))
