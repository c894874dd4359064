"""A trained model: the only writer and reader of everything in models/<run>.

    models/<run>/<subject>/
        weights.safetensors, config.yaml    the decoder (folder `shared` if one serves all)
        inputs.safetensors                  voxels, session statistics, means for centring, clusters
        split.json                          ids of validation and left-out images, unseen categories
        clip.json                           the CLIP that is decoded into, names of its categories
        README.md                           the model card (card.py), without test scores
    models/<run>/judge/<subject>/           where split.n_judge is set: the same of a second fit,
                                            which did not see so many training images
        heldout.safetensors                 what it predicts for them

`publish` moves a run under its name when all its models are complete. Decoding is here too, so that
every stage decodes in the same way.

Letters: I images, V voxels, D embedding width, T tokens, W token width, C categories, S sessions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmri2clip.artefacts.trials import read_voxels
from fmri2clip.clip.targets import TOKEN_TARGETS
from fmri2clip.core import watch
from fmri2clip.core.files import flatten, sha256_file
from fmri2clip.core.params import read_yaml
from fmri2clip.core.strict import build

if TYPE_CHECKING:
    from torch import Tensor

    from fmri2clip.decoders import Decoder

Array = NDArray[Any]
WEIGHTS = "weights.safetensors"
CONFIG = "config.yaml"
INPUTS = "inputs.safetensors"
SPLIT = "split.json"
CLIP = "clip.json"
HELDOUT = "heldout.safetensors"
JUDGE = "judge"  # folder of the second fits
SHARED = "shared"  # folder of a decoder that serves all subjects
# Of config.yaml: what every reader of a model needs.
DESCRIBED: Mapping[str, type | tuple[type, ...]] = {
    "run": str,
    "decoder": str,
    "clip": str,
    "config": dict,
    "digests": dict,
    "n_voxels": (int, dict),
    "width_D": int,
    "seed": int,
}
COPY_AGAIN = "copy the folder again, or train the model again"
# Fields of Decoded; tokens are asked for separately.
OFFERED = ("embedding_ID", "text_embedding_ID", "logits_IC")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained decoder with what inputs.safetensors and split.json say about one subject.

    description: content of config.yaml; clip: of clip.json, empty in folders that were written
    without it.
    """

    decoder: Decoder
    description: Mapping[str, Any]
    inputs: Mapping[str, Array]
    split: Mapping[str, Any]
    heldout: Mapping[str, Array] | None = None  # of a second fit: see save_heldout
    clip: Mapping[str, Any] = field(default_factory=dict)


# Writing


def save(folder: Path, decoder: Decoder, config: Mapping[str, Any]) -> None:
    """Write weights.safetensors and config.yaml into a folder that has not its final name yet.

    `config` must hold decoder (name), n_voxels, width_D, seed and config (the resolved Config as a
    mapping); the `sizes` of a decoder that has them are added.
    """
    from ruamel.yaml import YAML
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().cpu().contiguous() for name, value in decoder.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)
    if decoder.sizes is not None:
        config = {**config, "sizes": dict(decoder.sizes)}
    yaml = YAML()
    yaml.default_flow_style = False
    with (folder / CONFIG).open("w") as file:
        yaml.dump(dict(config), file)


def save_subject(folder: Path, inputs: Mapping[str, Array], split: Mapping[str, Any]) -> None:
    """Write inputs.safetensors and split.json of a subject, with or without weights beside."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(array) for name, array in inputs.items()}, folder / INPUTS
    )
    (folder / SPLIT).write_text(json.dumps(split) + "\n")


def save_clip(folder: Path, clip: Mapping[str, Any]) -> None:
    """Write clip.json of a subject: attributes of the CLIP cache, category_C and prompt_P."""
    folder.mkdir(parents=True, exist_ok=True)
    # Sorted: attributes come in no order of their own.
    (folder / CLIP).write_text(json.dumps(clip, indent=1, sort_keys=True) + "\n")


def save_heldout(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Write heldout.safetensors of a subject.

    nsd_id_J; image_JD, text_JD: targets; of OFFERED what the decoder offers, for means of 1, 2 and
    3 trials, (3, J, ...). Of a decoder that predicts semantic tokens: tokens_JX, targets as
    components.express_tokens has them, and <stream>_tokens_RJX, predictions.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, folder / HELDOUT)


def read_heldout(folder: Path) -> dict[str, Array] | None:
    """Arrays of heldout.safetensors; None for a model that saw all training images."""
    return _read_arrays(folder / HELDOUT) if (folder / HELDOUT).is_file() else None


def publish(finished: Sequence[Path], run_folder: Path, leave: str) -> None:
    """Copy complete models to models/<run>, all at once.

    finished: one folder a model. leave: name of a file in the finished folders that is no part of
    the model.
    """
    temporary = run_folder.with_name(f".{run_folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for folder in finished:
        shutil.copytree(folder, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(leave))
    watch.check()
    # Of an earlier run by hand: DVC removes outputs itself.
    shutil.rmtree(run_folder, ignore_errors=True)
    os.replace(temporary, run_folder)


# Reading


def list_models(run_folder: Path) -> list[Path]:
    """Folders of a run that hold weights, sorted: one a subject, or `shared`."""
    return sorted(path.parent for path in run_folder.glob(f"*/{WEIGHTS}"))


def has_weights(folder: Path) -> bool:
    """Whether a decoder lies in this folder; a subject of a shared model has none of its own."""
    return (folder / WEIGHTS).is_file()


def find_weights(run_folder: Path, subject: str) -> Path:
    """The folder that holds the weights of a subject's model: its own, or `shared`."""
    own = run_folder / subject
    return own if has_weights(own) else run_folder / SHARED


def weights_sha256(folder: Path) -> str:
    """Digest of the weights: what identifies a model."""
    return sha256_file(folder / WEIGHTS)


def read_description(folder: Path) -> dict[str, Any]:
    """Content of config.yaml. Raises ValueError if the folder has none."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a trained model: it has no {CONFIG}; run the train stage (dvc repro "
            "train)"
        )
    content: dict[str, Any] = read_yaml(path)
    for name, kind in DESCRIBED.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ValueError(f"{path} has no {name} of a model; {COPY_AGAIN}")
    return content


def read_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file that the model was trained on.

    By dotted name: <subject>.betas, <subject>.clip, <subject>.voxels.
    """
    return {
        name: str(digest) for name, digest in flatten(read_description(folder)["digests"]).items()
    }


def read_inputs(folder: Path) -> dict[str, Array]:
    """Arrays of inputs.safetensors. Raises ValueError if the folder has none."""
    if not (folder / INPUTS).is_file():
        raise ValueError(f"{folder} has no {INPUTS}; run the train stage (dvc repro)")
    return _read_arrays(folder / INPUTS)


def _read_arrays(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, Array] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole file of arrays ({error}); {COPY_AGAIN}") from None
    return found


def load(folder: Path, device: str = "cpu") -> tuple[Decoder, dict[str, Any]]:
    """Trained decoder, in evaluation mode, and the content of its config.yaml.

    It needs nothing but the folder. Raises ValueError if the folder is not a complete model.
    """
    from fmri2clip.decoders import load_decoder

    config = read_description(folder)
    if not has_weights(folder):
        raise ValueError(
            f"{folder} is not a trained model: it has no {WEIGHTS}; run the train stage (dvc repro "
            "train)"
        )
    module = load_decoder(config["decoder"])
    try:
        settings = build(module.Config, config["config"], str(folder / CONFIG), "config")
    except ValueError as error:
        raise ValueError(
            f"{error}; if nobody has edited it, another version of fmri2clip trained this model: "
            "decode with that version, or train again"
        ) from None
    sizes = config.get("sizes", {})
    return _fill(
        lambda: module.Decoder(
            settings, config["n_voxels"], config["width_D"], config["seed"], **sizes
        ),
        folder / WEIGHTS,
    ).to(device).eval(), config


def _fill(make: Callable[[], Decoder], path: Path) -> Decoder:
    """The decoder with the weights of a file, whose shapes are compared before any are made: what
    config.yaml says may be anything.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with torch.device("meta"):
            expected = {name: list(value.shape) for name, value in make().state_dict().items()}
        with safe_open(path, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        odd = sorted(n for n in expected | found if expected.get(n) != found.get(n))
        if odd:
            raise ValueError(f"{path} does not fit {CONFIG} beside it at {odd[0]}; {COPY_AGAIN}")
        decoder = make()
        decoder.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path.parent} is no whole model ({reason}); {COPY_AGAIN}") from error
    return decoder


def load_model(run_folder: Path, subject: str) -> Model:
    """A subject's decoder, own or shared, with what the folder says about the subject.

    Raises ValueError if the run was not trained on this subject.
    """
    own = run_folder / subject
    decoder, description = load(find_weights(run_folder, subject))
    for name in (INPUTS, SPLIT):
        if not (own / name).is_file():
            raise ValueError(
                f"{own} has no {name}: the run was not trained on {subject}; run the train stage "
                "(dvc repro)"
            )
    return Model(
        decoder=decoder,
        description=description,
        inputs=read_inputs(own),
        split=_read_json(own / SPLIT),
        heldout=read_heldout(own),
        clip=_read_clip(own / CLIP) if (own / CLIP).is_file() else {},
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); {COPY_AGAIN}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no names and values; {COPY_AGAIN}")
    return content


def _read_clip(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    for name in ("category_C", "prompt_P"):
        texts = content.get(name, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path}: {name} is no list of texts; {COPY_AGAIN}")
    return content


def load_judged(run_folder: Path, subject: str) -> Model | None:
    """The second fit of a subject's model, with its predictions for the images that it did not see;
    None where there is none.
    """
    folder = run_folder / JUDGE
    return load_model(folder, subject) if folder.is_dir() else None


def required(model: Model, name: str) -> Array:
    """An array of inputs.safetensors. Raises ValueError if the folder was written without it."""
    if name not in model.inputs:
        raise ValueError(
            f"the model's {INPUTS} has no {name}; it has {', '.join(model.inputs)}: train it again"
        )
    return model.inputs[name]


def select_voxels(model: Model, voxels_path: Path) -> Array:
    """Columns of the betas that the model reads, if they are still those it was trained on.

    Raises ValueError if the file lists other voxels.
    """
    ijk_V3 = read_voxels(voxels_path, ["ijk_V3"])["ijk_V3"]
    rows_V = required(model, "voxel_rows_V")
    if rows_V.max() >= len(ijk_V3) or not np.array_equal(ijk_V3[rows_V], required(model, "ijk_V3")):
        raise ValueError(
            f"{voxels_path} lists other voxels than the model was trained on; train it again (dvc "
            "repro)"
        )
    return rows_V


# Decoding


def decode(model: Model, subject: str, betas_IV: Array, n_repeats: int = 1) -> dict[str, Array]:
    """What the decoder offers for each row of z-scored betas, float32: any of OFFERED.

    n_repeats: how many trials each row is the mean of.
    """
    decoded = model.decoder.decode(_tensor(betas_IV), subject, n_repeats)
    offered = {name: getattr(decoded, name) for name in OFFERED}
    return {name: value.float().numpy() for name, value in offered.items() if value is not None}


def token_streams(model: Model) -> list[str]:
    """Streams of tokens that the decoder offers: those that training has centred."""
    return [name for name in TOKEN_TARGETS if f"mean_tokens_{name}_TW" in model.inputs]


def decode_tokens(
    model: Model, subject: str, betas_IV: Array, n_repeats: int = 1, n_block: int = 64
) -> Iterator[tuple[slice, dict[str, Array]]]:
    """Rows and their tokens (rows, T, W) by stream, float32, block after block.

    n_repeats: how many trials each row is the mean of. Yields nothing for a decoder without tokens.
    """

    if not token_streams(model):
        return
    for start in range(0, len(betas_IV), n_block):
        rows = slice(start, start + n_block)
        decoded = model.decoder.decode_tokens(_tensor(betas_IV[rows]), subject, n_repeats)
        tokens = {name: value_ITW.float().numpy() for name, value_ITW in decoded.tokens.items()}
        yield rows, tokens


def read_streams(
    model: Model, subject: str, betas_IV: Array, streams: Sequence[str], n_repeats: int = 1
) -> dict[str, Array]:
    """All tokens (I, T, W) of those of the streams that the decoder offers, float16."""
    blocks = [
        {name: tokens_ITW[name].astype(np.float16) for name in streams if name in tokens_ITW}
        for _, tokens_ITW in decode_tokens(model, subject, betas_IV, n_repeats)
    ]
    if not blocks:
        return {}
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


# Subject tokens


def decode_as(model: Model, subject: str, token_subject: str, betas_IV: Array) -> Array:
    """logits_IC, float32, decoded with the tokens of another subject; see Decoder.decode_as."""
    decoded = model.decoder.decode_as(_tensor(betas_IV), subject, token_subject)
    assert decoded.logits_IC is not None, "a decoder that knows subjects decodes categories"
    logits_IC: Array = decoded.logits_IC.float().numpy()
    return logits_IC


def read_subject_tokens(model: Model, subject: str, betas_IV: Array) -> dict[str, Array]:
    """Outputs (I, E) of the subject tokens by name, float64."""
    outputs = model.decoder.read_tokens(_tensor(betas_IV), subject)
    return {name: output_IE.double().numpy() for name, output_IE in outputs.items()}


def read_attention(
    model: Model, subject: str, betas_IV: Array, rollout: bool = False
) -> Array | None:
    """Attention (I, T, R) of the subject tokens over the ROIs, float64; None without such tokens.

    rollout: through all layers instead of the last.
    """
    if not model.decoder.n_tokens:
        return None
    attention_ITR: Array = (
        model.decoder.read_attention(_tensor(betas_IV), subject, rollout).double().numpy()
    )
    return attention_ITR


def _tensor(betas_IV: Array) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(betas_IV))
