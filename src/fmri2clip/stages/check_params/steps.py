"""What one step of a training takes, from a run of it on torch's meta device.

There tensors have a shape and no memory: the products of the forward pass are counted, and the
bytes that it keeps for the backward pass.

Letters: I images, V voxels, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fmri2clip.decoders.batches import Batch, MixedBatch, TrainingData

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of a gradient training takes."""

    flops: float  # of the forward pass; the backward pass has twice as many
    saved: float  # bytes of activations that the backward pass needs, in float32
    decoding: float  # bytes of the largest activation when one image is decoded


def measure_step(decoder: Any, config: Any, data: Sequence[TrainingData]) -> Step:
    """FLOP and saved bytes of one step, from a forward pass on the meta device.

    With settings of the last epoch, as schedules may change what a step does. A decoder that looks
    into its tensors cannot run without content: its step is estimated.
    """
    estimated = estimate_step(decoder, config, data)
    if decoder is None:
        return estimated
    batch = make_batch(decoder, config, data)
    inputs = [value for d in data for value in (*vars(d).values(), *d.features.values())]
    inputs = [value for value in inputs if isinstance(value, Tensor)]
    epoch = config.max_epochs - 1
    try:
        flops, saved, _ = watch_forward(lambda: decoder.loss(batch, epoch), decoder, inputs)
    except (NotImplementedError, RuntimeError):
        return estimated
    return Step(flops=flops, saved=saved, decoding=measure_decoding(decoder, data[0]))


def estimate_step(decoder: Any, config: Any, data: Sequence[TrainingData]) -> Step:
    """A step by the weights alone: each is used once an image, and as many numbers are kept as
    there are rows of weights, ten times over.
    """
    if decoder is None:
        return Step(flops=0, saved=0, decoding=0)
    matrices = [p for p in decoder.parameters() if p.ndim == 2]
    rows = config.batch_size * sum(len(p) for p in matrices)
    flops = 2.0 * config.batch_size * sum(p.numel() for p in matrices)
    return Step(flops=flops, saved=10.0 * 4 * rows, decoding=0)


def measure_decoding(decoder: Any, data: TrainingData) -> float:
    """Bytes of the largest activation when one image is decoded; 0 where that needs content."""
    betas_1V = torch.empty(1, data.betas_NV.shape[1], device=META)
    try:
        predict = partial(decoder.predict, betas_1V, data.subject)
        return watch_forward(predict, decoder, [betas_1V])[2]
    except (NotImplementedError, RuntimeError):
        return 0.0


def make_batch(decoder: Any, config: Any, data: Sequence[TrainingData]) -> Any:
    """A batch without content: of one subject, or equally many images of each."""
    if decoder.per_subject:
        return _take(data[0], config.batch_size)
    return MixedBatch([_take(d, -(-config.batch_size // len(data))) for d in data])


def _take(data: TrainingData, n: int) -> Batch:
    """The first n images of one subject as a batch."""
    labels_IC = data.labels_IC
    return Batch(
        subject=data.subject,
        betas_BV=data.betas_NV[:n],
        image_embedding_BD=data.image_embedding_ID[:n],
        text_embedding_BD=data.text_embedding_KD[:n],
        image_id_B=data.nsd_id_I[:n],
        text_id_B=data.nsd_id_I[:n],
        features={name: value[:n] for name, value in data.features.items()},
        mean_text_BD=data.image_embedding_ID[:n],
        labels_BC=None if labels_IC is None else labels_IC[:n].float(),
    )


def watch_forward(
    run: Callable[[], Any], module: nn.Module, inputs: Iterable[Tensor]
) -> tuple[float, float, float]:
    """(FLOP, bytes saved for the backward pass, bytes of the largest of these tensors) of a call.

    Products are counted (torch's flop counter); weights, inputs, and the same tensor kept twice,
    are not counted as saved.
    """
    from torch.utils.flop_counter import FlopCounterMode

    known = (*module.parameters(), *module.buffers(), *inputs)
    own = {value.untyped_storage()._cdata for value in known}
    saved: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        key = value.untyped_storage()._cdata
        if key not in own:
            saved[key] = value
        return value

    counter = FlopCounterMode(display=False)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
    with counter, hooks, without_autocast():
        run()
    bytes_saved = [value.untyped_storage().nbytes() for value in saved.values()]
    largest = max(bytes_saved, default=0)
    return float(counter.get_total_flops()), float(sum(bytes_saved)), float(largest)


@contextmanager
def without_autocast() -> Iterator[None]:
    """torch.autocast does nothing: it refuses the meta device, where there is nothing to cast."""
    autocast = torch.autocast
    torch.autocast = lambda *given, **named: nullcontext()  # type: ignore
    try:
        yield
    finally:
        torch.autocast = autocast  # type: ignore
