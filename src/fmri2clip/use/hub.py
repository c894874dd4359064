"""Models on the Hugging Face hub: hf://OWNER/NAME@REVISION/FOLDER, as huggingface_hub writes it.

Only the files of a model folder are fetched, by their names: safetensors, YAML and JSON, never a
pickle, and no code.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fmri2clip.artefacts.card import CARD
from fmri2clip.artefacts.model import CLIP, CONFIG, INPUTS, SHARED, SPLIT, WEIGHTS

if TYPE_CHECKING:
    from huggingface_hub import HfUri

SCHEME = "hf://"
FILES = (WEIGHTS, CONFIG, INPUTS, SPLIT, CLIP, CARD)
FORM = f"{SCHEME}OWNER/NAME@REVISION/subj01"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """folder: of the model, on this machine; address: the same with the commit as revision."""

    folder: Path
    address: str


def fetch(address: str) -> Fetched:
    """A model folder of the hub, with `shared` beside it, in huggingface_hub's cache.

    Raises ValueError for an address without a revision, for what the hub does not have or does not
    give, and for a folder without weights as safetensors.
    """
    from huggingface_hub import snapshot_download

    uri = _parse(address)
    inside = PurePosixPath(uri.path_in_repo)
    patterns = [
        glob.escape(str(place / name))
        for place in (inside, inside.parent / SHARED)
        for name in FILES
    ]
    try:
        root = snapshot_download(uri.id, revision=uri.revision, allow_patterns=patterns)
    except OSError as error:
        raise ValueError(f"{address} {_explain(error, uri)}") from None
    folder = Path(root) / inside
    _check(folder, address)
    # huggingface_hub names the folder of a snapshot by its commit.
    commit = Path(root).name
    return Fetched(folder=folder, address=f"{SCHEME}{uri.id}@{commit}/{inside}".removesuffix("/."))


def _parse(address: str) -> HfUri:
    from huggingface_hub import parse_hf_uri

    try:
        uri = parse_hf_uri(address)
    except ValueError as error:
        raise ValueError(f"{address} is no address of the hub ({error}); write {FORM}") from None
    if uri.type != "model" or ".." in PurePosixPath(uri.path_in_repo).parts:
        raise ValueError(f"{address} names no folder of a model repository; write {FORM}")
    if uri.revision is None:
        raise ValueError(
            f"{address} names no revision, so that it could be other weights tomorrow; write {FORM}"
            f", best with a commit ({SCHEME}{uri.id}@main is what it holds now)"
        )
    return uri


def _explain(error: OSError, uri: HfUri) -> str:
    """What was not given, and what to do."""
    from huggingface_hub import errors

    page = uri.to_url().split("/tree/")[0].split("/blob/")[0]
    if isinstance(error, errors.GatedRepoError):
        return f"is given to those who ask: ask on {page}, then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "does not exist, or is private: check the name, or `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {uri.revision!r}; {page}/commits/main lists them"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "is not in the cache, and the hub cannot be reached: go online once"
    return f"cannot be fetched ({' '.join(str(error).split())}); try again"


def _check(folder: Path, address: str) -> None:
    if not (folder / INPUTS).is_file():
        raise ValueError(
            f"{address} is no subject's model (it has no {INPUTS}); name the folder of a subject "
            f"in the repository, as in {FORM}"
        )
    if not any((place / WEIGHTS).is_file() for place in (folder, folder.parent / SHARED)):
        raise ValueError(
            f"{address} has no {WEIGHTS}, nor has {SHARED!r} beside it; weights of another kind, "
            "such as pickles, are never read"
        )
