"""CLIP guidance of two tokens by representational similarity: the losses of CLIP-MUSED (Zhou et
al., ICLR 2024).

    D(A)_ij = 1 - <a_i, a_j> / (|a_i| |a_j| + 1e-6)
    guide   = 1/B^2 || D(F) - D(Z) ||_F^2    F: CLIP features, Z: token outputs, of the same B rows
    orth F  = 1/B^2 || Zh Zl^T ||_F^2        inner products of every pair of rows
    orth L1 = mean_i | <zh_i, zl_i> |,   orth L2 = mean_i <zh_i, zl_i>^2
    centred = 1 - corr_{i<j}( D(F - mean F)_ij, D(Z - mean Z)_ij )     ours, in the place of guide

Features are clipped to [-1.5, 1.5] and then divided by their norm. Read in the authors' code
(`losses.py`, `dataloader_HCP.py`, commit 99d153d); the norm is squared there, though not in the
paper that was reviewed. Here only the features of the first block are clipped: the embeddings of
pictures and captions are cached with norm 1, where no number is beyond 1. The diagonal is part of
both matrices. CLIP's features lie in a narrow cone: their cosines hardly differ, and guide asks a
token to be nearly the same for every picture. So `guidance: centred` takes out the means of the
batch, leaves out the diagonal, and asks for the order of similarities and not for their size. All
of it runs in float32, also under autocast. `guide_tokens` says which CLIP features guide which
token. Axis letters: B rows of a batch (of any subjects), I images, D embedding width, T tokens, E
token width, F width of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmri2clip.decoders.batches import MixedBatch, TrainingData
from fmri2clip.decoders.clip_mused.config import LOW_TARGETS, Config, HighMode, Orthogonality

TINY = 1e-6  # the authors' guard of the norms
ROWS = 64  # images whose features are looked at at a time


def guide_tokens(c: Config, batch: MixedBatch, token_BTE: Tensor) -> dict[str, Tensor]:
    """Unweighted guidance and orthogonality of one batch; a single token gets both guidances."""
    compare = guide if c.guidance == "paper_like" else guide_centred
    # With one token, first and last are the same.
    high_BE = token_BTE[:, 0]
    low_BE = token_BTE[:, -1]
    image_BD = torch.cat([part.image_embedding_BD for part in batch.parts])
    text_BD = torch.cat(
        [part.mean_text_BD for part in batch.parts if part.mean_text_BD is not None]
    )
    high_BF = clip_features(high_features(image_BD, text_BD, c.high_mode), c.clip_threshold)
    terms = {"high_loss": compare(high_BF, high_BE)}
    if c.w_low:
        name = LOW_TARGETS[c.low_pool]
        # float32 before they are joined: autocast on a CPU refuses to join float16.
        low_BF = torch.cat([part.features[name].float() for part in batch.parts])
        terms["low_loss"] = compare(clip_features(low_BF, c.clip_threshold), low_BE)
    if c.n_tokens == 2:
        terms["orthogonal_loss"] = orthogonality(high_BE, low_BE, c.orthogonality)
    return terms


def measure_features(c: Config, data: TrainingData) -> tuple[float, float]:
    """Mean off-diagonal cosine of the high- and of the low-level features of the training images; 0
    where none.
    """
    train_I = ~data.is_validation_I
    high_IF = high_features(
        data.image_embedding_ID[train_I], data.mean_text_ID[train_I], c.high_mode
    )
    high = mean_cosine(high_IF, c.clip_threshold)
    low_IF = data.features.get(LOW_TARGETS[c.low_pool])
    if low_IF is None:
        return high, 0.0
    return high, mean_cosine(low_IF[train_I], c.clip_threshold)


def clip_features(x_BF: Tensor, threshold: float) -> Tensor:
    """Rows of norm 1 after every number was limited to [-threshold, threshold]; float32."""
    return normalize(x_BF.float().flatten(1).clamp(-threshold, threshold), dim=1)


def high_features(image_BD: Tensor, text_BD: Tensor, mode: HighMode) -> Tensor:
    """Final-layer features of picture and captions, both of norm 1: (B, D), or (B, 2 D) for concat.

    text_BD: the mean of the five captions' embeddings; average and concat weigh picture and text
    alike.
    """
    if mode == "concat":
        return torch.cat([image_BD, text_BD], 1)
    return {"image": image_BD, "text": text_BD, "average": (image_BD + text_BD) / 2}[mode]


def dissimilarity(x_BE: Tensor) -> Tensor:
    """D (B, B) of the rows, see the head of this file."""
    # D is 1 minus a number near 1: bfloat16, with its 8 bits, would leave little of it.
    with torch.autocast(x_BE.device.type, enabled=False):
        x_BE = x_BE.float()
        norm_B = torch.linalg.vector_norm(x_BE, dim=1)
        return 1 - x_BE @ x_BE.T / (norm_B[:, None] * norm_B + TINY)


def guide(feature_BF: Tensor, token_BE: Tensor) -> Tensor:
    """Mean squared difference of the two dissimilarity matrices, diagonal included."""
    return (dissimilarity(feature_BF) - dissimilarity(token_BE)).square().mean()


def guide_centred(feature_BF: Tensor, token_BE: Tensor) -> Tensor:
    """1 - correlation of the similarities of different rows, each side centred by the mean of the
    batch; 1 where a side has only one similarity.
    """
    pairs = torch.triu_indices(len(feature_BF), len(feature_BF), 1, device=feature_BF.device)
    sides = []
    for x in (feature_BF, token_BE):
        x = x.float()
        value_P = dissimilarity(x - x.mean(0))[pairs[0], pairs[1]]
        sides.append(normalize(value_P - value_P.mean(), dim=0))
    return 1 - (sides[0] * sides[1]).sum()


def orthogonality(high_BE: Tensor, low_BE: Tensor, kind: Orthogonality) -> Tensor:
    """Penalty of inner products between high and low token outputs: of all pairs (F), or of the
    same row (L1, L2).
    """
    with torch.autocast(high_BE.device.type, enabled=False):
        high_BE = high_BE.float()
        low_BE = low_BE.float()
        if kind == "F":
            return (high_BE @ low_BE.T).square().mean()
        inner_B = (high_BE * low_BE).sum(1)
        return inner_B.abs().mean() if kind == "L1" else inner_B.square().mean()


def mean_cosine(feature_IF: Tensor, threshold: float) -> float:
    """Mean off-diagonal cosine of clipped rows: near 1, the similarity matrix tells images hardly
    apart.

    From norms of sums, so that thousands of rows need no matrix: sum_ij u_i u_j = |sum_i u_i|^2;
    and block by block, as all tokens of all images in float64 are 40 GB at real size.
    """
    n = len(feature_IF)
    sum_F = torch.zeros(feature_IF[0].numel(), dtype=torch.float64, device=feature_IF.device)
    squares = 0.0
    for part_BF in feature_IF.split(ROWS):
        unit_BF = normalize(clip_features(part_BF, threshold).double(), dim=1)
        sum_F += unit_BF.sum(0)
        squares += float(unit_BF.square().sum())
    return (float(sum_F.square().sum()) - squares) / max(n * (n - 1), 1)
