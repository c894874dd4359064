"""One HTML page of a decoding, which needs nothing else: no network, thumbnails inside.

Letters: I pictures, R ranks.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from fmri2clip.artefacts.gallery import get_jpeg
from fmri2clip.use.paint import make_jpeg

if TYPE_CHECKING:
    from fmri2clip.use.decode import Result

TEMPLATE = Path(__file__).with_name("page.html")
SHOWN = 100  # pictures on the page; the tables have all of them
N_CATEGORIES = 5


def write_page(
    path: Path, result: Result, categories: Sequence[str], done: Mapping[str, Any]
) -> None:
    """Write the page; `done` is the content of decode.json."""
    cases = [_show(result, categories, i) for i in range(min(SHOWN, len(result.picture_I)))]
    used = sorted({item["row"] for case in cases for item in case["pictures"]})
    jpegs = {}
    if result.gallery is not None:
        jpegs = {
            row: base64.b64encode(get_jpeg(result.gallery, row)).decode("ascii") for row in used
        }
    # Captions and names of files are other people's words: autoescape keeps them text.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(done=done, cases=cases, jpegs=jpegs)
    path.write_text(page, encoding="utf-8")


def _show(result: Result, categories: Sequence[str], i: int) -> dict[str, Any]:
    """What the page says of one picture."""
    case: dict[str, Any] = {
        "name": result.picture_I[i],
        "n_trials": int(result.n_trials_I[i]),
        "categories": [],
        "pictures": [],
        "captions": [],
        "painted": "",
    }
    probability_IC = result.decoding.probabilities
    if probability_IC is not None:
        best = np.argsort(-probability_IC[i], kind="stable")[:N_CATEGORIES]
        case["categories"] = [(categories[c], 100 * float(probability_IC[i, c])) for c in best]
    if result.painted_IHWC is not None:
        case["painted"] = base64.b64encode(make_jpeg(result.painted_IHWC[i])).decode("ascii")
    if result.gallery is None:
        return case
    for kind, (row_IR, cosine_IR) in result.found.items():
        names = result.gallery["name_I" if kind == "picture" else "caption_K"]
        case[f"{kind}s"] = [
            {"row": int(row), "name": names[row], "cosine": float(cosine)}
            for row, cosine in zip(row_IR[i], cosine_IR[i], strict=True)
        ]
    return case
