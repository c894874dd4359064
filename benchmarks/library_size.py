"""How many pictures does the library of the encoding model need?

    # needs data/ of `dvc repro`; about 15 minutes on one core; writes library_size.json
    OMP_NUM_THREADS=1 python benchmarks/library_size.py

The library is a folder of new scenes, drawn by the generator of the development world, encoded as
every folder is (stages/cache_library/folder.py) and guarded against test pictures: the first SIZES
of them, each with one caption and its labels. Beside them `none`, the features alone, and
`training`, the training pictures of both subjects. The fit of responses is the same for all; what a
library gives is chosen anew by validation images. Scores are those of test images:

    map, log_loss   of categories; image_top1, text_top1: of all test images, by centred cosine
    best            centred cosine between the image embeddings of the most likely picture and of
                    the seen one; `nearest`: of the picture of the library that has most of it

Intervals: 95 %, bootstrap over test images, the same for all, for mAP by jackknife; gains are
paired with `training`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.artefacts.clip_cache import read_cache  # noqa: E402
from fmri2clip.artefacts.library import FOLDER, find_parts, write_library  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.artefacts.stimuli import TEST  # noqa: E402
from fmri2clip.artefacts.trials import average_repeats, read_betas  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.core.params import NO_LIBRARY, Library, Params  # noqa: E402
from fmri2clip.core.rows import find_rows  # noqa: E402
from fmri2clip.core.stage import set_threads  # noqa: E402
from fmri2clip.datasets.mini.pictures.scene import Scene, render_many  # noqa: E402
from fmri2clip.datasets.nsd.pictures.categories import COCO_CATEGORIES  # noqa: E402
from fmri2clip.datasets.nsd.pictures.coco import Crop, visible_fraction  # noqa: E402
from fmri2clip.decoders.batches import Pictures, TrainingData  # noqa: E402
from fmri2clip.decoders.encoding.decoder import Config, Decoder  # noqa: E402
from fmri2clip.metrics.statistics import estimate  # noqa: E402
from fmri2clip.solvers.average_precision import find_defined_classes, score_classes  # noqa: E402
from fmri2clip.stages.cache_library.folder import encode_folder  # noqa: E402
from fmri2clip.stages.cache_library.guard import Guard  # noqa: E402
from fmri2clip.stages.train.inputs import Inputs  # noqa: E402
from fmri2clip.stages.train.library import load_pictures  # noqa: E402
from fmri2clip.stages.train.validation import training_means  # noqa: E402

Array = NDArray[Any]

OUTPUT = ROOT / "benchmarks" / "library_size.json"
RUN = "encoding"
SIZES = (1000, 3000, 10000, 30000)
FIRST = 1_000_000  # scenes of NSD's ids have lower numbers
DRAWN = 2000  # scenes in memory
N_RESAMPLES = 1000
BASE = "training"
MAP = "map"


def main() -> None:
    params = parameters.load(ROOT / "params.yaml")
    set_threads(params.compute.threads)
    paths = Paths(ROOT)
    run = params.runs[RUN]
    config = parameters.decoder_config(params, RUN, Config)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "scenes"
        draw_folder(params, folder, max(SIZES))
        guard = Guard.of(paths.stimuli(TEST))
        file = encode(params, paths, folder, guard, Path(work))
        scenes = load_pictures([file], np.empty(0, int), np.empty(0, bool))
    assert scenes is not None
    table: dict[str, Any] = {
        "subjects": list(run.subjects),
        "refused": guard.refused,
        "accepted": len(scenes.nsd_id_J),
    }
    found: dict[str, list[dict[str, Array]]] = {}
    parts = {s: find_parts(params, RUN, s, paths) for s in run.subjects}
    split = parameters.run_split(params, RUN)
    inputs = Inputs(run, paths, split, Decoder, config, parts)
    for subject in inputs.load(run.subjects):
        own = subject.data.library
        libraries = {"none": None, BASE: own} | {str(n): take(scenes, n) for n in SIZES}
        for name, library in libraries.items():
            setting = config if library else dataclasses.replace(config, library=NO_LIBRARY)
            data = dataclasses.replace(subject.data, library=library)
            decoder = Decoder.from_data(setting, [data], run.seed)
            chosen = decoder.fit(data)
            found.setdefault(name, []).append(measure(params, paths, decoder, data))
            print(subject.data.subject, name, json.dumps(chosen), flush=True)
    table["n_images"] = len(found[BASE][0]["label_IC"])
    table["libraries"] = summarise(found)
    print(json.dumps(table["libraries"], indent=1))
    write_json(OUTPUT, table)


def draw_folder(params: Params, folder: Path, n: int) -> None:
    """Scenes as files, with COCO's notes of what the crop shows, and one caption each."""
    folder.mkdir(parents=True)
    world = params.world
    size = world.image_size
    images, captions, objects = [], [], []
    for start in range(FIRST, FIRST + n, DRAWN):
        indices = range(start, min(start + DRAWN, FIRST + n))
        for index, scene in zip(
            indices,
            render_many(world.seed, indices, size, world.captions, params.compute.threads),
            strict=True,
        ):
            name = f"scene{index:07d}.png"
            Image.fromarray(scene.image).save(folder / name, compress_level=1)
            images.append({"id": index, "file_name": name, "height": size, "width": size})
            captions.append({"image_id": index, "caption": scene.captions[0]})
            objects += [
                {"image_id": index, "category_id": category, "area": share * size**2}
                for category, share in list_visible(scene, params.labels.min_area)
            ]
    kinds = [category._asdict() for category in COCO_CATEGORIES]
    notes = {"captions": captions, "instances": objects}
    for kind, noted in notes.items():
        content = {"images": images, "annotations": noted, "categories": kinds}
        (folder / f"{kind}.json").write_text(json.dumps(content))


def list_visible(scene: Scene, least: float) -> list[tuple[int, float]]:
    """Categories of the objects that count in NSD's pictures, and their share of the crop."""
    crop = Crop(*scene.crop_box)
    shares = [
        (item.category_id, visible_fraction(item, crop, scene.width, scene.height))
        for item in scene.instances
    ]
    return [(category, share) for category, share in shares if share >= least]


def encode(params: Params, paths: Paths, folder: Path, guard: Guard, work: Path) -> Path:
    """The accepted ones as the stage cache_library writes them."""
    clip = params.runs[RUN].clip
    known = read_cache(paths.clip_train(clip, params.runs[RUN].subjects[0]), ["category_C"])
    arrays = encode_folder(
        paths,
        Library(clip=clip, pictures=str(folder)),
        params.clips[clip],
        params.labels,
        guard,
        "cpu",
        params.compute.threads,
        work / "resume",
        [str(name) for name in known["category_C"]],
    )
    file = work / f"{FOLDER}.h5"
    write_library(file, arrays, dict(guard.refused))
    return file


def take(pictures: Pictures, n: int) -> Pictures:
    """The first n."""
    fields = {f.name: getattr(pictures, f.name) for f in dataclasses.fields(pictures)}
    first = {name: x[:n] for name, x in fields.items() if isinstance(x, torch.Tensor)}
    features = {name: x[:n] for name, x in pictures.features.items()}
    return dataclasses.replace(pictures, **first, features=features)


def measure(params: Params, paths: Paths, decoder: Decoder, data: TrainingData) -> dict[str, Array]:
    """Of every test image: labels and log odds of categories (I, C), and scores (I,)."""
    clip = params.runs[RUN].clip
    test = read_betas(paths.test_betas(data.subject))
    mean_IV, nsd_id_I = average_repeats(test["betas_NV"], test["nsd_id_N"])
    names = ["nsd_id_I", "labels_IC", "image_embedding_ID"]
    shared = read_cache(paths.clip_shared(clip), [*names, "text_embedding_KD", "caption_image_K"])
    row_I = find_rows(shared["nsd_id_I"], nsd_id_I, "the CLIP cache")
    n_repeats = test["repetition_N"].max()
    decoded = decoder.decode(torch.from_numpy(mean_IV), data.subject, int(n_repeats))
    present_C = read_cache(paths.clip_train(clip, data.subject), ["present_C"])["present_C"]
    assert decoded.logits_IC is not None
    logit_IC = decoded.logits_IC[:, present_C].float()
    label_IC = torch.from_numpy(shared["labels_IC"][row_I][:, present_C])
    loss_IC = binary_cross_entropy_with_logits(logit_IC, label_IC.float(), reduction="none")
    image_ID = torch.from_numpy(shared["image_embedding_ID"].astype(np.float32))
    text_ID = torch.zeros_like(image_ID).index_add_(
        0,
        torch.from_numpy(shared["caption_image_K"].astype(np.int64)),
        torch.from_numpy(shared["text_embedding_KD"].astype(np.float32)),
    )
    true = {"image": normalize(image_ID)[row_I], "text": normalize(text_ID)[row_I]}
    mean = training_means(decoder, data)
    centred = {kind: normalize(x - mean[f"mean_{kind}_D"]) for kind, x in true.items()}
    scores = {"label_IC": label_IC, "logit_IC": logit_IC, "log_loss_I": loss_IC.mean(1)}
    predicted = {"image": decoded.embedding_ID, "text": decoded.text_embedding_ID}
    for kind, x_ID in predicted.items():
        assert x_ID is not None
        query_ID = normalize(x_ID - mean[f"mean_predicted_{kind}_D"])
        best_I = (query_ID @ centred[kind].T).argmax(1)
        scores[f"{kind}_top1_I"] = best_I == torch.arange(len(best_I))
    found = decoder.recall(torch.from_numpy(mean_IV), int(n_repeats))
    if found is not None:
        assert data.library is not None
        other_JD = normalize(data.library.image_embedding_JD - mean["mean_image_D"])
        cosine_IJ = centred["image"] @ other_JD.T
        # Pictures that only others saw count, too: they are of the library.
        scores["best_I"] = cosine_IJ.gather(1, found[0].argmax(1, keepdim=True))[:, 0]
        scores["nearest_I"] = cosine_IJ.amax(1)
    return {name: x.double().numpy() for name, x in scores.items()}


def summarise(found: Mapping[str, list[dict[str, Array]]]) -> dict[str, Any]:
    """Mean over subjects by library and score, and `gain` over the training pictures."""
    n_images = len(found[BASE][0]["label_IC"])
    rows = np.random.default_rng(0).integers(n_images, size=(N_RESAMPLES, n_images))
    once_1I = np.ones((1, n_images))
    # As everywhere: bootstrap, but each image left out once for average precision, which resampling
    # lifts. The first row is the images themselves.
    drawn_RI = np.stack([np.bincount(r, minlength=n_images) for r in rows])
    weight_RI = np.concatenate([once_1I, drawn_RI])
    without_RI = np.concatenate([once_1I, 1 - np.eye(n_images)])
    drawn: dict[str, dict[str, Array]] = {}
    for name, subjects in found.items():
        drawn[name] = {MAP: np.mean([average_precision(one, without_RI) for one in subjects], 0)}
        for score in (key for key in subjects[0] if key.endswith("_I")):
            value_I = np.mean([one[score] for one in subjects], 0)
            drawn[name][score.removesuffix("_I")] = weight_RI @ value_I / n_images
    return {
        name: {key: describe(key, value_R) for key, value_R in scores.items()}
        | {
            "gain": {
                key: describe(key, value_R - drawn[BASE][key], is_score=False)
                for key, value_R in scores.items()
                if name != BASE and key in drawn[BASE]
            }
        }
        for name, scores in drawn.items()
    }


def average_precision(one: Mapping[str, Array], weight_RI: Array) -> Array:
    """Over the categories that some test images show, (R,)."""
    label_IC = one["label_IC"].astype(bool)
    class_C = find_defined_classes(label_IC, np.ones(label_IC.shape[1], bool))
    return score_classes(label_IC, one["logit_IC"], class_C, weight_RI.astype(float))[0]


def describe(key: str, value_R: Array, *, is_score: bool = True) -> dict[str, float]:
    """The value of all images, and its interval; is_score: no difference."""
    found = estimate(float(value_R[0]), value_R[1:], f"classification.{key}", is_score)
    named = {"value": found.value, "low": found.low, "high": found.high}
    return {name: round(float(x), 5) for name, x in named.items()}


if __name__ == "__main__":
    main()
