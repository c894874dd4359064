"""Ridge regression with the penalty of least leave-one-out error, as scikit-learn's RidgeCV,
decomposed only once.

With centred features x and targets y, the error on image i of a ridge that was fitted without it is
    e_i = (y_i - yhat_i) / (1 - 1/I - h_i),  yhat = H y,  h = diag H,  H = x (x'x + alpha)^-1 x',
so all penalties and all targets need one eigendecomposition, of x x' or x'x, whichever is smaller.
RidgeCV makes one for each call and, where images are more than features, a product of the size of x
x'x for each penalty.

Letters: I images, J other images, F features, M targets, A penalties.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class LeaveOneOutRidge:
    """Features (I, F) of the images to fit on, decomposed for the penalties (A)."""

    def __init__(self, feature_IF: Floats, alpha_A: Floats) -> None:
        feature_IF = np.asarray(feature_IF, dtype=np.float64)
        n_images, n_features = feature_IF.shape
        self.mean_F = feature_IF.mean(axis=0)
        self.x_IF = feature_IF - self.mean_F
        self.is_wide = n_images <= n_features
        # x x' and x'x share their nonzero eigenvalues: take the smaller of the two.
        product = self.x_IF @ self.x_IF.T if self.is_wide else self.x_IF.T @ self.x_IF
        value, self.vector = np.linalg.eigh(product)
        self.inverse_A = [1.0 / (value + alpha) for alpha in alpha_A]  # of the eigenvalues
        if self.is_wide:
            # Both sides of e_i are divided by alpha: (y - yhat) / alpha = (x x' + alpha)^-1 y.
            # The mean is taken out of the targets as well, which is the - 1/I.
            square_II = self.vector**2
            sum_I = self.vector.T @ np.ones(n_images)
            self.left_AI = [
                (inverse * square_II).sum(axis=1) - self.vector @ (inverse * sum_I) / n_images
                for inverse in self.inverse_A
            ]
        else:
            self.axis_IF = self.x_IF @ self.vector
            square_IF = self.axis_IF**2
            self.left_AI = [
                1.0 - square_IF @ inverse - 1.0 / n_images for inverse in self.inverse_A
            ]

    def predict(self, target_IM: Floats, feature_JF: Floats, each: bool = False) -> Floats:
        """Prediction (J, M) of the targets for other images; one penalty for all M, by their mean
        squared error, or one for each.
        """
        mean_M = np.mean(target_IM, axis=0, dtype=np.float64)
        y_IM = target_IM - mean_M
        fit = self._fit_wide if self.is_wide else self._fit_narrow
        weight_FM = fit(y_IM, each)
        predicted_JM: Floats = feature_JF @ weight_FM + (mean_M - self.mean_F @ weight_FM)
        return predicted_JM

    def _fit_wide(self, y_IM: Floats, each: bool) -> Floats:
        y_on_axes = self.vector.T @ y_IM
        errors = []
        for inverse, left in zip(self.inverse_A, self.left_AI, strict=True):
            dual_IM = self.vector @ (inverse[:, None] * y_on_axes)
            errors.append(((dual_IM / left[:, None]) ** 2).mean(axis=0))
        scale = self._choose(errors, each)
        weight_FM: Floats = self.x_IF.T @ (self.vector @ (scale * y_on_axes))
        return weight_FM

    def _fit_narrow(self, y_IM: Floats, each: bool) -> Floats:
        product_FM = self.axis_IF.T @ y_IM
        errors = []
        for inverse, left in zip(self.inverse_A, self.left_AI, strict=True):
            residual_IM = y_IM - self.axis_IF @ (inverse[:, None] * product_FM)
            errors.append(((residual_IM / left[:, None]) ** 2).mean(axis=0))
        weight_FM: Floats = self.vector @ (self._choose(errors, each) * product_FM)
        return weight_FM

    def _choose(self, errors: list[Floats], each: bool) -> Floats:
        """1 / (eigenvalue + alpha) of the best alpha: one column for each target, or one for
        all.
        """
        error_AM = np.stack(errors)
        if not each:
            error_AM = error_AM.mean(axis=1, keepdims=True)
        return np.stack(self.inverse_A)[error_AM.argmin(axis=0)].T
