"""Pictures of what was decoded, by a generator that the caller names.

Generators read the pooled embedding here, brought back to where CLIP's embeddings lie
(clip/calibration.py). Those that need tokens paint in the pipeline only.

Letters: I pictures, H W C height, width and channels of one.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmri2clip import generators
from fmri2clip.artefacts.model import required
from fmri2clip.clip import calibration
from fmri2clip.core import params
from fmri2clip.core.stage import resolve_device
from fmri2clip.core.strict import build
from fmri2clip.use.model import Decoding, Model

YAML_SUFFIXES = (".yaml", ".yml")
PLACES = {"path", "adapter"}  # settings that may name a folder
SEED = 0  # of the generator's noise
SHOWN = 224  # pixels of the longer side of a picture on the page


@dataclass(frozen=True, kw_only=True)
class Painter:
    """A family of generators and its Config; the pipeline is not loaded yet."""

    family: str
    config: Any

    def describe(self) -> dict[str, Any]:
        """Settings, without folders of this machine."""
        settings = asdict(self.config)
        for key in PLACES & set(settings):
            # A name of the hub stays whole.
            if settings[key] and Path(settings[key]).is_dir():
                settings[key] = Path(settings[key]).name
        return {"family": self.family, "seed": SEED, **settings}


def find_painter(name: str, params_path: Path) -> Painter:
    """A generator by its settings.

    name: of a YAML file with the keys of an entry of `generators` in params.yaml, whose folders may
    be named from where it lies; or of such an entry of params_path. Raises ValueError for a name
    that is neither, for unknown settings and for an unknown family.
    """
    if Path(name).suffix in YAML_SUFFIXES:
        where = name
        content = _read_yaml(Path(name))
    else:
        where = f"{params_path}: generators.{name}"
        content = _read_entry(name, params_path)
    if "family" not in content:
        raise ValueError(f"{where}: family is missing; choose from {', '.join(generators.names())}")
    family = str(content.pop("family"))
    return Painter(
        family=family, config=build(generators.load_family(family).Config, content, where)
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML, YAMLError

    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a YAML file with settings of a generator")
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds no settings; write family, path, clip_model ..., as an entry of "
            "`generators` in params.yaml"
        )
    for key in PLACES & set(content):
        beside = path.parent / str(content[key])
        if content[key] and beside.is_dir():
            content[key] = str(beside)
    return content


def _read_entry(name: str, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"--generator {name} is no YAML file, and there is no {path} that could name it; give "
            "a file with family, path, clip_model ..."
        )
    entries = params.load(path).generators
    if name not in entries:
        raise ValueError(
            f"--generator {name} is not among the generators of {path} ({', '.join(entries)}), nor "
            "a YAML file with the settings of one"
        )
    return dict(entries[name])


def paint(model: Model, decoding: Decoding, painter: Painter) -> NDArray[np.uint8]:
    """A picture (I, H, W, C) of each decoded embedding.

    Raises ValueError for a decoder without embeddings, for a generator that reads another CLIP or
    more than an embedding, and for one that cannot be loaded.
    """
    from tqdm import tqdm

    if decoding.embedding is None:
        raise ValueError(
            "the decoder gives categories and no embedding, from which nothing can be painted; "
            "leave --generator out"
        )
    inputs = model.content.inputs
    factor = float(required(model.content, "embedding_factor_1")[0])
    fitted = replace(calibration.shift(inputs, "embedding"), factor=factor)
    features = generators.Conditioning(
        clip_model=model.content.clip["model"], embedding_ID=fitted.apply(decoding.embedding)
    )
    try:
        generator = generators.load(painter.family, painter.config, resolve_device("auto"))
    except ImportError as error:
        raise ValueError(
            f"--generator needs packages that are not here ({error.name}); pip install "
            "'.[pictures]' in a clone"
        ) from None
    generator.check(features)
    n = len(features)
    seed_I = generators.draw_seeds(SEED, range(1, n + 1))[:, 0]
    step = painter.config.batch_size
    blocks = [slice(start, start + step) for start in range(0, n, step)]
    return np.concatenate(
        [
            generator.generate(features.take(rows), seed_I[rows])
            for rows in tqdm(blocks, desc="painting", unit="batch", disable=None)
        ]
    )


def write_pictures(folder: Path, image_IHWC: NDArray[np.uint8]) -> None:
    """One PNG a picture, named by its row, from 1."""
    folder.mkdir()
    n_digits = len(str(len(image_IHWC)))
    for i, image_HWC in enumerate(image_IHWC):
        Image.fromarray(image_HWC).save(folder / f"{i + 1:0{n_digits}}.png")


def make_jpeg(image_HWC: NDArray[np.uint8]) -> bytes:
    """A picture for the page."""
    picture = Image.fromarray(image_HWC)
    picture.thumbnail((SHOWN, SHOWN))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()
