"""The batches of an epoch, drawn from training data in memory.

Letters: I images, V voxels, K captions, C categories, R repeats, P captions of one image, B images
of a batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmri2clip.decoders.batches import Batch, MixedBatch, TrainingData

Array = NDArray[Any]


def text_ids(captions: Sequence[str]) -> Array:
    """Equal numbers for equal captions, case and spacing aside: CLIP's tokenizer drops them."""
    plain = [" ".join(text.lower().split()) for text in captions]
    return np.unique(plain, return_inverse=True)[1]


class EpochBatches:
    """Batches of one epoch; a pure function of (seed, epoch). Set `epoch`, then iterate.

    Each training image of each subject occurs once, in steps of nearly equal size, at most
    batch_size. An image shows a random convex combination of its repeats (weights uniform on the
    simplex; share `convex`), their mean (share `mean`) or a single repeat (the rest), and one of
    its captions. Steps of several subjects come in random order.
    """

    def __init__(
        self,
        data: TrainingData | Sequence[TrainingData],
        batch_size: int,
        seed: int,
        epoch: int = 0,
        convex: float = 0.5,
        mean: float = 0.3,
    ) -> None:
        self.data = [data] if isinstance(data, TrainingData) else list(data)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.convex = convex
        self.mean = mean
        # Which rows belong to which image is the same in every epoch, so it is found once.
        self.train = [np.flatnonzero((~d.is_validation_I).cpu().numpy()) for d in self.data]
        self.trials = [members(d.image_N.cpu().numpy(), len(d.nsd_id_I)) for d in self.data]
        self.captions = [
            members(d.caption_image_K.cpu().numpy(), len(d.nsd_id_I)) for d in self.data
        ]
        self.text_ids = [
            torch.from_numpy(text_ids(d.caption_K)).to(d.image_N.device) for d in self.data
        ]

    @property
    def streams(self) -> bool:
        """Whether features come batch by batch, from another device than the betas are on."""
        return any(
            value.device != d.betas_NV.device for d in self.data for value in d.features.values()
        )

    def __len__(self) -> int:
        return sum(-(-len(rows) // self.batch_size) for rows in self.train)

    def __iter__(self) -> Iterator[Batch]:
        # From (seed, epoch) alone: a training that was killed and goes on at this epoch draws what
        # it would have drawn.
        rng = np.random.default_rng([self.seed, self.epoch])
        steps = []
        for s, rows in enumerate(self.train):
            chunks = np.array_split(rng.permutation(rows), -(-len(rows) // self.batch_size))
            steps += [(s, chunk) for chunk in chunks]
        # The steps of one subject are in random order already.
        order = rng.permutation(len(steps)) if len(self.data) > 1 else range(len(steps))
        for index in order:
            yield self._batch(*steps[index], rng)

    def _batch(self, s: int, rows_B: Array, rng: np.random.Generator) -> Batch:
        data = self.data[s]
        device = data.betas_NV.device
        trial_BR = self.trials[s][rows_B]
        caption_BP = self.captions[s][rows_B]
        weights = repeat_weights(trial_BR >= 0, self.convex, self.mean, rng)
        weight_BR = torch.from_numpy(weights).to(device)
        # -1 stands for no repeat: trial 0 is read in its place, with weight 0.
        betas_BRV = data.betas_NV[torch.from_numpy(trial_BR.clip(min=0)).to(device)]
        # A caption of each image, all of its own equally likely.
        pick_B = (rng.random(len(rows_B)) * (caption_BP >= 0).sum(1)).astype(np.int64)
        caption_B = torch.from_numpy(caption_BP[np.arange(len(rows_B)), pick_B]).to(device)
        rows = torch.from_numpy(rows_B)
        image_B = rows.to(device)
        return Batch(
            subject=data.subject,
            betas_BV=torch.einsum("brv,br->bv", betas_BRV, weight_BR),
            image_embedding_BD=data.image_embedding_ID[image_B],
            text_embedding_BD=data.text_embedding_KD[caption_B],
            image_id_B=data.nsd_id_I[image_B],
            text_id_B=self.text_ids[s][caption_B],
            features={name: _take(value, rows, image_B) for name, value in data.features.items()},
            mean_text_BD=data.mean_text_ID[image_B],
            labels_BC=None if data.labels_IC is None else data.labels_IC[image_B].float(),
        )


def _take(value_IX: Tensor, rows_B: Tensor, image_B: Tensor) -> Tensor:
    """Rows of a feature on the device of image_B, which may not be that of the feature.

    From pinned memory: then neither reading it nor the copy to a GPU holds up the thread that
    computes (on the GPU, the copy waits for the step before).
    """
    if value_IX.device == image_B.device:
        return value_IX[image_B]
    taken = value_IX[rows_B]
    if image_B.device.type == "cuda":
        taken = taken.pin_memory()
    return taken.to(image_B.device, non_blocking=True)


class MixedBatches(EpochBatches):
    """Batches of one epoch that mix subjects: equally many images (to one) of each in every step.

    An epoch shows each image of the subject with most images once; another subject starts over when
    all its images have been shown. Subjects stand in order of their names and draw from generators
    of their own, so the order in which they are given changes nothing, and the batches are a pure
    function of (seed, epoch).
    """

    def __init__(
        self, data: Sequence[TrainingData], batch_size: int, seed: int, *rest: Any
    ) -> None:
        super().__init__(sorted(data, key=lambda d: d.subject), batch_size, seed, *rest)
        if batch_size < len(self.data):
            raise ValueError(
                f"batch_size is {batch_size}, "
                f"expected at least one image of each of {len(data)} subjects"
            )

    def __len__(self) -> int:
        return -(-max(map(len, self.train)) * len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[MixedBatch]:  # type: ignore[override]
        # A generator for each name: a subject's draws do not depend on who else is there.
        rngs = [
            np.random.default_rng([self.seed, self.epoch, zlib.crc32(d.subject.encode())])
            for d in self.data
        ]
        steps = [np.array_split(self._order(s, rng), len(self)) for s, rng in enumerate(rngs)]
        for chunks in zip(*steps, strict=True):
            yield MixedBatch([self._batch(s, rows_B, rngs[s]) for s, rows_B in enumerate(chunks)])

    def _order(self, s: int, rng: np.random.Generator) -> Array:
        """Images of one subject, as many as the largest subject has, in shuffle after shuffle."""
        rows = self.train[s]
        n = max(map(len, self.train))
        n_shuffles = -(-n // len(rows))  # rounded up
        return np.concatenate([rng.permutation(rows) for _ in range(n_shuffles)])[:n]


def members(group: Array, n: int) -> Array:
    """Indices of the members of each of n groups, one group a row, filled up with -1."""
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=n)
    column = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((n, counts.max()), -1, dtype=np.int64)
    table[group[order], column] = order
    return table


def repeat_weights(valid_BR: Array, convex: float, mean: float, rng: np.random.Generator) -> Array:
    """Weights of the repeats of each image, float32; rows sum to 1, 0 where there is no repeat."""
    # Normalised exponentials are uniform on the simplex, and the largest of them is a uniform
    # choice.
    draws_BR = rng.exponential(size=valid_BR.shape) * valid_BR
    single_BR = np.arange(valid_BR.shape[1]) == draws_BR.argmax(1)[:, None]
    # All three kinds are weights; one number an image says which of them it gets.
    kind_B1 = rng.random((len(valid_BR), 1))
    chosen_BR = np.where(
        kind_B1 < convex, draws_BR, np.where(kind_B1 < convex + mean, valid_BR, single_BR)
    )
    return (chosen_BR / chosen_BR.sum(1, keepdims=True)).astype(np.float32)
