"""An open_clip model that turns uint8 pictures and captions into unit-norm embeddings and block
tokens.

One call serves the published models (`ViT-L-14-quickgelu` with the tag `openai`) and the mini CLIP
(a custom JSON and a checkpoint path). Letters: I images or texts, H W C height, width and channels
of a picture, T tokens, W in `_ITW` token width, U text tokens, D embedding width.
"""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from fmri2clip.clip import tokens
from fmri2clip.clip.names import check_names, read_architecture
from fmri2clip.core import params
from fmri2clip.core.files import sha256_file

PRECISIONS = ("fp32", "bf16", "fp16")
# What OpenAI's archives keep beside the weights
SIZES = ("input_resolution", "context_length", "vocab_size")


class Encoder:
    """A frozen CLIP model with its tokenizer and preprocessing.

    image_size: side of the square pictures that the model reads, in pixels; width_D: embedding
    width;
    n_blocks: transformer blocks of the image tower (0 where it is no ViT); weights_sha256: of the
    checkpoint file.
    """

    def __init__(
        self,
        model: Any,
        transform: Any,
        tokenizer: Any,
        clip: params.Clip,
        device: str,
        weights_sha256: str,
    ) -> None:
        # Any: torch's Module knows none of the attributes of open_clip's CLIP.
        self.model: Any = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.clip = clip
        self.weights_sha256 = weights_sha256
        self.device = torch.device(device)
        self.dtype = open_clip.get_input_dtype(clip.precision) or torch.float32
        size = model.visual.image_size
        self.image_size = int(size if isinstance(size, int) else size[0])
        # open_clip's transform works picture by picture. Its resizing is kept as it is; conversion
        # and normalisation, which are arithmetic, are done for a whole batch in `preprocess`.
        *self._resize, to_tensor, normalise = transform.transforms
        assert hasattr(normalise, "mean") and "ToTensor" in type(to_tensor).__name__
        self._mean = torch.tensor(normalise.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(normalise.std, device=self.device).view(1, 3, 1, 1)
        self._resblocks = getattr(getattr(model.visual, "transformer", None), "resblocks", ())
        self.n_blocks = len(self._resblocks)

    def resize(self, images_IHWC: np.ndarray, threads: int = 1) -> np.ndarray:
        """uint8 pictures at the model's size, exactly as open_clip's own transform resizes and
        crops them.

        Pictures that have the size already are returned as they are.
        """
        if images_IHWC.dtype != np.uint8 or images_IHWC.ndim != 4 or images_IHWC.shape[-1] != 3:
            raise ValueError(
                f"pictures must be uint8 (I, H, W, 3), got {images_IHWC.dtype} {images_IHWC.shape}"
            )
        if images_IHWC.shape[1:3] == (self.image_size, self.image_size):
            return images_IHWC
        with ThreadPoolExecutor(max(1, threads)) as pool:
            return np.stack(list(pool.map(self._resize_one, images_IHWC)))

    def _resize_one(self, image_HWC: np.ndarray) -> np.ndarray:
        image = Image.fromarray(image_HWC)
        for step in self._resize:
            image = step(image)
        return np.asarray(image)

    def preprocess(self, images_IHWC: np.ndarray, threads: int = 1) -> torch.Tensor:
        """uint8 (I, H, W, 3) -> normalised float32 (I, 3, size, size) on the device, as open_clip's
        own transform.
        """
        resized_IHWC = np.ascontiguousarray(self.resize(images_IHWC, threads))
        images = torch.from_numpy(resized_IHWC).to(self.device)
        return images.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)

    def features(
        self,
        images_IHWC: np.ndarray,
        blocks: Sequence[int] = (),
        threads: int = 1,
        targets: bool = False,
        low_level: bool = False,
    ) -> dict[str, np.ndarray]:
        """Features of uint8 pictures (I, H, W, 3), float32, under the names that they have in the
        CLIP cache.

        image_embedding_ID, unit norm; block_<b>_ITW for each 1-based block, class token first, not
        normalised; with `targets` the semantic and detail tokens of tokens.py, with `low_level` its
        pooled block 1. One forward pass a batch of pictures serves them all.
        """
        self.check_blocks([*blocks, 1] if low_level else blocks)
        if targets:
            self.check_targets()
        step = self.clip.batch_size
        parts = [
            self._forward(images_IHWC[i : i + step], blocks, threads, targets, low_level)
            for i in range(0, len(images_IHWC), step)
        ]
        if not parts:
            raise ValueError("no pictures to encode; pass at least one")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.inference_mode()
    def _forward(
        self,
        images_IHWC: np.ndarray,
        blocks: Sequence[int],
        threads: int,
        targets: bool,
        low_level: bool,
    ) -> dict[str, np.ndarray]:
        images = self.preprocess(images_IHWC, threads).to(self.dtype)
        found: dict[str, torch.Tensor] = {}
        gather = tokens.ImageTargets(self.model.visual, self.clip) if targets else None

        def take(block: int, tokens_ITW: torch.Tensor) -> None:
            if block in blocks:
                found[f"block_{block}_ITW"] = tokens_ITW
            if block == 1 and low_level:
                found.update(tokens.pool_low_level(tokens_ITW))
            if gather:
                gather.add(block, tokens_ITW)

        tapped = set(blocks)
        if gather:
            tapped |= gather.blocks
        if low_level:
            tapped.add(1)
        with self._tap(tapped, take):
            pooled_ID = self.model.encode_image(images).float()
        found["image_embedding_ID"] = torch.nn.functional.normalize(pooled_ID, dim=-1)
        found |= gather.finish() if gather else {}
        return {name: value.float().cpu().numpy() for name, value in found.items()}

    @contextmanager
    def _tap(
        self, blocks: Iterable[int], take: Callable[[int, torch.Tensor], None]
    ) -> Iterator[None]:
        """Hand the outputs (I, T, W) of chosen blocks to `take` while the model runs; the hooks
        leave afterwards.
        """
        # Some towers of open_clip run with the tokens first; what is handed on never does.
        transformer = getattr(self.model.visual, "transformer", None)
        batch_first = bool(getattr(transformer, "batch_first", True))

        def hand(block: int) -> Any:
            return lambda module, inputs, output: take(
                block, output if batch_first else output.transpose(0, 1)
            )

        hooks = [self._resblocks[b - 1].register_forward_hook(hand(b)) for b in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def images(self, images_IHWC: np.ndarray, threads: int = 1) -> np.ndarray:
        """uint8 (I, H, W, 3) -> unit-norm float32 embedding (I, D)."""
        return self.features(images_IHWC, (), threads)["image_embedding_ID"]

    def blocks(
        self, images_IHWC: np.ndarray, blocks: Sequence[int], threads: int = 1
    ) -> dict[int, np.ndarray]:
        """1-based block -> float32 tokens (I, T, W) after that block, class token first, not
        normalised.
        """
        features = self.features(images_IHWC, blocks, threads)
        return {block: features[f"block_{block}_ITW"] for block in blocks}

    def check_blocks(self, blocks: Sequence[int], key: str = "blocks") -> None:
        """Raise ValueError for a block that the image tower does not have; key: the parameter that
        names it.
        """
        wrong = [b for b in blocks if not 1 <= b <= self.n_blocks]
        if wrong:
            none = f"its image tower is not a ViT, so leave {key} empty"
            has = f"choose from 1 to {self.n_blocks}" if self.n_blocks else none
            raise ValueError(f"{key}: {self.clip.model} has no block {wrong[0]}; {has}")

    def check_targets(self) -> None:
        """Raise ValueError if the model gives no token targets or lacks one of the blocks of
        detail_layers.
        """
        tokens.check_towers(self.model, self.clip.model)
        self.check_blocks(self.clip.detail_layers, "detail_layers")

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-norm float32 embedding (I, D) of each text; the tokenizer cuts texts at the model's
        context length.
        """
        unit = torch.nn.functional.normalize
        return self._encode_texts(
            texts, lambda ids_IU: unit(self.model.encode_text(ids_IU).float(), dim=-1)
        )

    def text_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Text tokens (I, U, D) of tokens.py, float32: the pooled one has norm 1 and is the
        embedding of the text.
        """
        return self._encode_texts(texts, lambda ids_IU: tokens.text_targets(self.model, ids_IU))

    @torch.inference_mode()
    def _encode_texts(
        self, texts: Sequence[str], encode: Callable[[torch.Tensor], torch.Tensor]
    ) -> np.ndarray:
        step = self.clip.batch_size
        batches = [list(texts[i : i + step]) for i in range(0, len(texts), step)]
        if not batches:
            raise ValueError("no texts to encode; pass at least one")
        return np.concatenate(
            [encode(self.tokenizer(batch).to(self.device)).cpu().numpy() for batch in batches]
        )

    @property
    def width_D(self) -> int:
        """Width of the joint embedding."""
        return int(self.texts(["x"]).shape[1])

    def token_shape(self) -> tuple[int, int]:
        """(T, W) of the block tokens: class token plus patches, token width; ValueError if the
        tower is not a ViT.
        """
        self.check_blocks([1])
        T, W = self.model.visual.positional_embedding.shape
        return int(T), int(W)


def load(clip: params.Clip, device: str = "cpu") -> Encoder:
    """The model that `clip` names, ready to encode on `device`.

    Raises ValueError for an unknown model, a missing config or checkpoint, a wrong precision, and
    where OpenAI's weights meet an architecture without QuickGELU: open_clip only warns there, and
    the embeddings come out wrong. A local file is known as OpenAI's by its SHA-256. Of any other
    local file this cannot be known: names and shapes of weights are the same either way.
    """
    if clip.precision not in PRECISIONS:
        raise ValueError(
            f"clip precision {clip.precision!r} is not known; choose from {', '.join(PRECISIONS)}"
        )
    check_names(clip)
    if clip.config:
        open_clip.add_model_config(Path(clip.config))
    # open_clip takes a tag before a file of that name
    tag = open_clip.get_pretrained_cfg(clip.model, clip.pretrained)
    local = None if tag else Path(clip.pretrained)
    if local:
        weights_sha256 = sha256_file(local)
        _check_quick_gelu(clip, weights_sha256)
    script = local if local and _is_torchscript(local) else None
    # The README of open_clip promises QuickGELU for OpenAI's weights, its code warns at most.
    with warnings.catch_warnings(), _quiet(script is not None):
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        try:
            model, _, transform = open_clip.create_model_and_transforms(
                clip.model,
                pretrained=None if script else clip.pretrained,
                precision=clip.precision,
                device=device,
            )
        except UserWarning as mismatch:
            raise ValueError(
                f"{clip.model} with {clip.pretrained}: {mismatch} Name the architecture "
                f"{_twin(clip.model)!r}."
            ) from None
    if script:
        model.load_state_dict(_read_torchscript(script))
    if tag:
        weights_sha256 = sha256_file(Path(open_clip.download_pretrained(tag)))
    tokenizer = open_clip.get_tokenizer(clip.model)
    return Encoder(model, transform, tokenizer, clip, device, weights_sha256)


def _check_quick_gelu(clip: params.Clip, weights_sha256: str) -> None:
    """Raise ValueError for a file of OpenAI's under an architecture without QuickGELU."""
    if read_architecture(clip).get("quick_gelu"):
        return
    for model, tag in open_clip.list_pretrained():
        if tag != "openai" or not model.endswith("-quickgelu"):
            continue
        # The address of OpenAI's file holds its hash.
        if f"/{weights_sha256}/" in open_clip.get_pretrained_url(model, tag):
            raise ValueError(
                f"{clip.pretrained} is OpenAI's file of {model}, but {clip.model} has no "
                "QuickGELU: the embeddings would come out wrong; name the architecture "
                f"{model!r}"
            )


def _is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of a module with its code, as OpenAI's are."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Weights of an archive, which open_clip refuses to open."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
        weights = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: weights[name] for name in weights if name not in SIZES}


@contextmanager
def _quiet(without_weights: bool) -> Iterator[None]:
    """Keep to itself what open_clip logs of a model whose weights come afterwards."""
    logging.disable(logging.WARNING if without_weights else logging.NOTSET)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _twin(model: str) -> str:
    return (
        model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
    )
