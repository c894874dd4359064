"""blocked_ridge.py against fits without each picture, by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge

from fmri2clip.solvers import blocked_ridge

N_IMAGES, ALPHAS = 24, (0.5, 4.0, 32.0, 256.0)
BLOCKS = (2, 3)


# More voxels than pictures, and fewer.
@pytest.fixture(params=[30, 10])
def data(rng: np.random.Generator, request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """Pictures with three trials each; the first block can be predicted, the second hardly."""
    n_voxels = request.param
    x_IV = rng.standard_normal((N_IMAGES, n_voxels)) + 2
    trials_NV = np.repeat(x_IV, 3, axis=0) + rng.standard_normal((3 * N_IMAGES, n_voxels))
    y_IQ = x_IV @ rng.standard_normal((n_voxels, 5)) + 5
    y_IQ[:, 2:] += 40 * rng.standard_normal((N_IMAGES, 3))
    return {"x": x_IV, "trials": trials_NV, "y": y_IQ, "image": np.repeat(np.arange(N_IMAGES), 3)}


def fit(data: dict[str, np.ndarray]) -> blocked_ridge.BlockedRidge:
    return blocked_ridge.fit(
        torch.from_numpy(data["x"]), torch.from_numpy(data["y"]), ALPHAS, BLOCKS
    )


def without(data: dict[str, np.ndarray], image: int, alpha: float) -> Ridge:
    rest = np.arange(N_IMAGES) != image
    return Ridge(alpha=alpha).fit(data["x"][rest], data["y"][rest])


def test_left_out_predictions_are_those_of_fits_without_the_picture(
    data: dict[str, np.ndarray],
) -> None:
    found = fit(data)
    trials_NQ = found.leave_out(torch.from_numpy(data["trials"]), torch.from_numpy(data["image"]))
    for q, alpha in enumerate(found.alpha_Q.tolist()):
        for image in range(N_IMAGES):
            model = without(data, image, alpha)
            mean_1Q = model.predict(data["x"][image : image + 1])
            assert found.left_out_IQ[image, q] == pytest.approx(mean_1Q[0, q], abs=1e-8)
            rows = data["image"] == image
            expected_N = model.predict(data["trials"][rows])[:, q]
            np.testing.assert_allclose(trials_NQ[rows, q], expected_N, atol=1e-8)


def test_each_block_has_the_penalty_of_least_left_out_error(data: dict[str, np.ndarray]) -> None:
    found = fit(data)
    for columns in (slice(0, 2), slice(2, 5)):
        errors = []
        for alpha in ALPHAS:
            predicted = [
                without(data, i, alpha).predict(data["x"][i : i + 1])[0] for i in range(N_IMAGES)
            ]
            errors.append(((np.stack(predicted) - data["y"])[:, columns] ** 2).sum())
        best = ALPHAS[int(np.argmin(errors))]
        assert found.alpha_Q[columns].tolist() == pytest.approx(
            [best] * (columns.stop - columns.start)
        )
    assert found.alpha_Q[0] < found.alpha_Q[-1]


def test_weights_are_scikit_learns(data: dict[str, np.ndarray]) -> None:
    found = fit(data)
    for q, alpha in enumerate(found.alpha_Q.tolist()):
        model = Ridge(alpha=alpha).fit(data["x"], data["y"][:, q])
        np.testing.assert_allclose(found.weight_VQ[:, q], model.coef_, atol=1e-8)
        assert found.bias_Q[q] == pytest.approx(model.intercept_, abs=1e-7)


def test_rows_in_parts_are_the_same(
    data: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fit(data)
    given = (torch.from_numpy(data["trials"]), torch.from_numpy(data["image"]))
    whole = found.leave_out(*given)
    monkeypatch.setattr(blocked_ridge, "ROWS", 7)
    torch.testing.assert_close(found.leave_out(*given), whole)


def test_columns_in_parts_are_the_same(
    data: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(data)
    monkeypatch.setattr(blocked_ridge, "COLUMNS", 2)
    torch.testing.assert_close(fit(data).alpha_Q, whole.alpha_Q)


def test_rescaled_errors_are_those_behind_a_regression(data: dict[str, np.ndarray]) -> None:
    """Of the truth on left-out predictions, column by column."""
    kernel = blocked_ridge.Kernel.of(torch.from_numpy(data["x"] - data["x"].mean(0)))
    y_IQ = torch.from_numpy(data["y"] - data["y"].mean(0))
    errors_AQ = blocked_ridge._find_errors(kernel, y_IQ, kernel.score_IR.T @ y_IQ, ALPHAS, True)
    for alpha, error_Q in zip(ALPHAS, errors_AQ, strict=True):
        predicted = np.concatenate(
            [without(data, i, alpha).predict(data["x"][i : i + 1]) for i in range(N_IMAGES)]
        )
        for q in range(5):
            model = LinearRegression().fit(predicted[:, [q]], data["y"][:, q])
            explained = model.score(predicted[:, [q]], data["y"][:, q]) * (model.coef_[0] > 0)
            variance = np.square(data["y"][:, q] - data["y"][:, q].mean()).sum()
            assert error_Q[q] == pytest.approx((1 - explained) * variance)


def test_what_nothing_predicts_may_have_the_largest_penalty(
    rng: np.random.Generator, recwarn: pytest.WarningsRecorder
) -> None:
    """Three columns without any correlation with the five inputs; then one that is an input."""
    both = torch.from_numpy(rng.standard_normal((200, 8)))
    x_IV, y_IQ = torch.linalg.qr(both - both.mean(0)).Q.split([5, 3], dim=1)
    found = blocked_ridge.fit(x_IV, y_IQ, (1.0, 1e3, 1e6), [3])
    assert found.alphas == [1e6] and not recwarn
    with pytest.warns(UserWarning, match="only borders"):
        blocked_ridge.fit(x_IV, x_IV[:, :1] + y_IQ[:, :1], (1e-3, 1e6), [1])


def test_slope_and_share_are_a_regressions(rng: np.random.Generator) -> None:
    predicted = rng.standard_normal((50, 2))
    true = 0.6 * predicted + rng.standard_normal((50, 2)) + 3
    true[:, 1] = -predicted[:, 1]
    slope_Q, explained_Q = blocked_ridge.calibrate(*map(torch.from_numpy, (true, predicted)))
    model = LinearRegression().fit(predicted[:, :1], true[:, 0])
    assert slope_Q[0] == pytest.approx(model.coef_[0])
    assert explained_Q[0] == pytest.approx(model.score(predicted[:, :1], true[:, 0]))
    assert slope_Q[1] == explained_Q[1] == 0, "a prediction of the wrong sign tells nothing"


def test_blocks_must_fit(data: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="blocks have 4 columns together, expected 5"):
        blocked_ridge.fit(*map(torch.from_numpy, (data["x"], data["y"])), ALPHAS, (2, 2))
