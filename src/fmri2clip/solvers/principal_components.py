"""Principal components of a matrix with far more columns than rows, a block of columns at a time.

With the centred rows Y (I, X), X much larger than I, the Gram matrix G = Y Y^T = U L U^T gives

    scores S = U L^(1/2)  (I, P),   components C = L^(-1/2) U^T Y  (P, X, orthonormal rows)

for the P largest eigenvalues, so Y is nearest to S C of all matrices of rank P (Eckart and Young
1936). Y may be float16 and lie in a file; in memory are G and one block in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 8192  # columns in memory at a time: 0.3 GB in float32 for 9,000 rows
TINY = 1e-6  # of the largest eigenvalue: smaller ones are rounding


@dataclass(frozen=True, kw_only=True)
class Components:
    """mean_X, scores_IP with mean 0, and components_PX with orthonormal rows; float32."""

    mean_X: Tensor
    scores_IP: Tensor
    components_PX: Tensor


def find_components(y_IX: Tensor, rows_I: Tensor, n: int) -> Components:
    """The n largest components of some rows of y, fewer where the rows have no more.

    rows_I: bool, which rows. The largest score of a component is positive.
    """
    n_rows = int(rows_I.sum())
    gram_II = torch.zeros(n_rows, n_rows, device=y_IX.device)
    for _, block_IX, _ in _centred_blocks(y_IX, rows_I):
        gram_II += block_IX @ block_IX.T
    value_J, vector_IJ = torch.linalg.eigh(gram_II)  # ascending
    value_J = value_J.flip(0)
    n = min(n, int((value_J > TINY * value_J[0]).sum()))
    scale_P = value_J[:n].sqrt()
    vector_IP = vector_IJ.flip(1)[:, :n]
    sign_1P = vector_IP.gather(0, vector_IP.abs().argmax(0, keepdim=True)).sign()
    vector_IP = vector_IP * sign_1P
    mean_X = torch.zeros(y_IX.shape[1], device=y_IX.device)
    components_PX = torch.zeros(n, y_IX.shape[1], device=y_IX.device)
    for place, block_IX, block_mean_X in _centred_blocks(y_IX, rows_I):
        mean_X[place] = block_mean_X
        components_PX[:, place] = (vector_IP / scale_P).T @ block_IX
    return Components(mean_X=mean_X, scores_IP=vector_IP * scale_P, components_PX=components_PX)


def _centred_blocks(y_IX: Tensor, rows_I: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Columns of a block, its rows in float32 about their mean, and that mean."""
    for start in range(0, y_IX.shape[1], BLOCK):
        place = slice(start, start + BLOCK)
        block_IX = y_IX[:, place][rows_I].float()
        mean_X = block_IX.mean(0)
        yield place, block_IX - mean_X, mean_X
