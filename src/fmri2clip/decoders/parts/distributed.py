"""One global batch, decoded by several processes: each takes a share of the rows, all get the rows
of all.

A contrastive or a similarity loss needs all pairs of the batch. Every process therefore draws the
same global batch, runs the network on its share, gathers the outputs with their gradients and
computes the whole loss. The gradient that reaches a share through the gather is the sum over
processes of equal losses; DistributedDataParallel's mean over processes divides that by their
number, so each step is the one that a single process would take on the same batch. Dropout draws
other numbers in each process. Batch norm would see a share only: no decoder's default has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def same(x: Tensor) -> Tensor:
    """x as the first process has it, in all of them: what each has drawn for the global batch."""
    if world_size() == 1:
        return x
    x = x.contiguous().clone()
    dist.broadcast(x, 0)
    return x


class Shares:
    """Which rows of the parts of a global batch this process decodes, and how the outputs of all
    come together.

    Shares of a part have equal size; the last ones repeat its last row where it cannot be divided,
    and the copies are dropped when the rows are gathered.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.n_ranks = world_size()
        self.sizes = sizes

    def take(self, part: int, x_BV: Tensor) -> Tensor:
        """The rows of one part that this process decodes; all of them in a single process."""
        if self.n_ranks == 1:
            return x_BV
        return x_BV[self._rows(part, dist.get_rank()).to(x_BV.device)]

    def gather(self, x: Tensor) -> Tensor:
        """Outputs for this process' rows of all parts, one part after the other -> those for all
        rows, in order.
        """
        if self.n_ranks == 1:
            return x
        # Gathered rows come rank by rank; the global batch has them part by part. `order` holds the
        # global number of each gathered row, `place` turns that round. Copies that fill up a share
        # have the number of the row they repeat, so one of the two is taken and the other dropped.
        starts = [sum(self.sizes[:part]) for part in range(len(self.sizes))]
        order = [
            start + self._rows(p, rank)
            for rank in range(self.n_ranks)
            for p, start in enumerate(starts)
        ]
        place = torch.empty(sum(self.sizes), dtype=torch.int64)
        rows = torch.cat(order)
        place[rows] = torch.arange(len(rows))
        return all_gather(x)[place.to(x.device)]

    def _rows(self, part: int, rank: int) -> Tensor:
        n = self.sizes[part]
        share = -(-n // self.n_ranks)  # rounded up
        return (torch.arange(share) + rank * share).clamp(max=n - 1)


def all_gather(x: Tensor) -> Tensor:
    """Rows of all processes in order of their ranks; the gradient of a process' rows is the sum
    over processes.
    """
    gathered: Tensor = _AllGather.apply(x)
    return gathered


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process computed the whole loss: the sum is what the head of this file speaks of.
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world_size())[dist.get_rank()]
