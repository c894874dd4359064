"""From the voxels of each ROI to K numbers per ROI, the same K for every subject: what a shared
network reads.

    pca             z = (x - mean) A,  A = principal axes / standard deviation along them
                    (whitened); zeros beyond rank
    clip_aligned    z = (x - mean) A Q,  Q = argmin_Q || Z Q - P ||_F  over Q with orthonormal rows:
                    Q = U V^T of Z^T P
    subject_linear  z = x A + b, both learned with the decoder, from a random start

P holds, for the subject's own training images, the scores of their CLIP image embeddings on K
common axes: the principal axes of the embeddings of all subjects' training images. Principal axes
of two brains differ in sign and rotation, which nothing shared behind them can undo; Q turns them
so that axis k means axis k of CLIP in every brain. Q only rotates: a clip_aligned map holds the
same information as pca, and where K is larger than the number of components, Q spreads these over
all K axes. clip_aligned is ours; that the authors unified voxel numbers by PCA on NSD is known from
a review only.

Fitted on means of repeats of training images; validation images take no part. Axis letters: I
images, V voxels, X voxels of all ROIs one after the other (shared ones repeat), R ROIs, K
components, D embedding width, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import TrainingData

TINY = 1e-10  # of the largest variance: components below it are noise of the arithmetic


class InputMap(nn.Module):
    """The map of one subject: betas (B, V) -> (B, R, K). Buffers, or weights where it is learned.

    n_voxels_R: voxels of each ROI. explained_R: share of the ROI's variance on the training images
    that its components hold; 0 for an empty ROI and where the map is learned.
    """

    rows_X: Tensor
    explained_R: Tensor
    weight_XK: Tensor
    offset_RK: Tensor

    def __init__(self, n_voxels_R: Sequence[int], n_components: int, learned: bool) -> None:
        super().__init__()
        self.n_voxels_R = list(n_voxels_R)
        n_all = sum(n_voxels_R)
        n_rois = len(n_voxels_R)
        self.register_buffer("rows_X", torch.zeros(n_all, dtype=torch.int64))
        self.register_buffer("explained_R", torch.zeros(n_rois))
        weight_XK = torch.zeros(n_all, n_components)
        offset_RK = torch.zeros(n_rois, n_components)
        if learned:
            # A z-score in gives about a z-score out, however many voxels an ROI has.
            for part in weight_XK.split(self.n_voxels_R):
                part.normal_(std=max(len(part), 1) ** -0.5)
            self.weight_XK = nn.Parameter(weight_XK)
            self.offset_RK = nn.Parameter(offset_RK)
        else:
            self.register_buffer("weight_XK", weight_XK)
            self.register_buffer("offset_RK", offset_RK)

    def forward(self, betas_BV: Tensor) -> Tensor:
        """K numbers of each ROI, (B, R, K), from the betas (B, V) of one subject."""
        parts = zip(
            betas_BV[:, self.rows_X].split(self.n_voxels_R, 1),
            self.weight_XK.split(self.n_voxels_R),
            strict=True,
        )
        return torch.stack([x_BX @ weight_XK for x_BX, weight_XK in parts], 1) + self.offset_RK

    @property
    def empty_R(self) -> Tensor:
        """ROIs without a voxel."""
        return torch.tensor([n == 0 for n in self.n_voxels_R], device=self.rows_X.device)

    def n_parameters(self) -> int:
        """Numbers of the map, whether fitted or learned."""
        return self.weight_XK.numel() + self.offset_RK.numel()

    @torch.no_grad()
    def fit(
        self, data: TrainingData, rows: Sequence[Tensor], axes: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Take the voxels of each ROI, and fit the map unless it is learned.

        axes: mean (D,) and directions (D, K) of find_clip_axes, for clip_aligned; None for pca.
        """
        self.rows_X.copy_(torch.cat(list(rows)))
        if isinstance(self.weight_XK, nn.Parameter):
            return
        train_I = ~data.is_validation_I
        x_IV = data.mean_betas_IV[train_I].cpu().double()
        scores_IK = None
        if axes is not None:
            mean_D, axes_DK = axes
            scores_IK = (data.image_embedding_ID[train_I].cpu().double() - mean_D) @ axes_DK
        for r, weight_XK in enumerate(self.weight_XK.split(self.n_voxels_R)):
            if not len(rows[r]):
                continue
            x_IX = x_IV[:, rows[r].cpu()]
            fitted_XK, explained = fit_pca(x_IX, weight_XK.shape[1])
            if scores_IK is not None:
                fitted_XK = fitted_XK @ find_rotation((x_IX - x_IX.mean(0)) @ fitted_XK, scores_IK)
            # (x - mean) A = x A - mean A: stored as weight and offset.
            weight_XK.copy_(fitted_XK)
            self.offset_RK[r].copy_(-x_IX.mean(0) @ fitted_XK)
            self.explained_R[r] = explained


def fit_pca(x_IX: Tensor, n_components: int) -> tuple[Tensor, float]:
    """Whitening principal axes (X, K), float64, zeros beyond the rank, and the share of variance
    that they hold.

    Scores of the given rows have mean 0 and, with I - 1 degrees of freedom, variance 1. The largest
    weight of an axis is positive, so that its sign does not depend on the library.
    """
    centred_IX = x_IX.double() - x_IX.double().mean(0)
    # eigh sorts ascending; axes are wanted by falling variance.
    variance_J, axes_XJ = torch.linalg.eigh(centred_IX.T @ centred_IX / (len(x_IX) - 1))
    variance_J = variance_J.flip(0)
    axes_XJ = axes_XJ.flip(1)
    n = int(min(n_components, (variance_J > TINY * variance_J[0].clamp_min(0)).sum()))
    sign_1J = axes_XJ.gather(0, axes_XJ.abs().argmax(0, keepdim=True)).sign()
    axes_XJ = axes_XJ[:, :n] * sign_1J[:, :n]
    weight_XK = x_IX.new_zeros((x_IX.shape[1], n_components), dtype=torch.float64)
    weight_XK[:, :n] = axes_XJ / variance_J[:n].sqrt()
    return weight_XK, float(variance_J[:n].sum() / variance_J.clamp_min(0).sum().clamp_min(1e-300))


def find_rotation(z_IK: Tensor, scores_IK: Tensor) -> Tensor:
    """Q (K, K) that brings z nearest to the scores: the orthogonal Procrustes solution, where z may
    have zero columns.

    Rows of Q that belong to zero columns are zero; the others are orthonormal.
    """
    # Columns beyond the rank are zero and have no direction to turn.
    used_K = z_IK.abs().amax(0) > 0
    u, _, vh = torch.linalg.svd(z_IK[:, used_K].T @ scores_IK, full_matrices=False)
    rotation_KK = z_IK.new_zeros((z_IK.shape[1], scores_IK.shape[1]))
    rotation_KK[used_K] = u @ vh
    return rotation_KK


def find_clip_axes(data: Sequence[TrainingData], n_components: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and principal directions (D, K) of the image embeddings of all training images,
    float64.

    Raises ValueError if the embedding has fewer than K dimensions to align.
    """
    x_ID = torch.cat([d.image_embedding_ID[~d.is_validation_I].cpu().double() for d in data])
    width = x_ID.shape[1]
    mean_D = x_ID.mean(0)
    if n_components > width:
        raise ValueError(
            f"components is {n_components}, but the CLIP embedding that input_map clip_aligned "
            f"aligns with has {width} dimensions; lower components, or take another input_map"
        )
    centred_ID = x_ID - mean_D
    _, axes_DD = torch.linalg.eigh(centred_ID.T @ centred_ID)
    axes_DD = axes_DD.flip(1)
    signs = axes_DD.gather(0, axes_DD.abs().argmax(0, keepdim=True)).sign()
    return mean_D, (axes_DD * signs)[:, :n_components]
