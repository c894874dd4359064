"""What does it bring to paint several candidates and to keep the one that fits the response?

    # needs data/ and models/ of `dvc repro`; about 6 minutes on one core; writes selection.json
    OMP_NUM_THREADS=1 python benchmarks/selection.py

Of the test pictures that `dvc repro` paints, N_CANDIDATES are painted from the features of each
source, and one is kept in four ways:

    first      the first one, as with selection: none
    brain      the nearest to the decoded embedding: selection: brain
    encoding   of which the mean of trials 1 and 2 is most likely: selection: encoding
    another    the same with the response to another picture: what a choice without knowledge gives

Scores are of what the choice has not seen: correlation of the pattern that an encoding model on
another network's features (metrics/pictures/brain_correlation.py) predicts of the kept picture with
trial 3, and with the response without noise; and the picture against the seen one, main protocol.
The source `encoding` is the chooser itself: its choice adds what its own features lost in painting.
Intervals: 95 %, bootstrap over the pictures of each subject; gains are paired with `first`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip import generators  # noqa: E402
from fmri2clip.artefacts.components import read_basis  # noqa: E402
from fmri2clip.artefacts.paths import Paths  # noqa: E402
from fmri2clip.artefacts.stimuli import TEST, map_images  # noqa: E402
from fmri2clip.artefacts.trials import average_repeats, read_betas  # noqa: E402
from fmri2clip.core import params as parameters  # noqa: E402
from fmri2clip.core.files import write_json  # noqa: E402
from fmri2clip.core.params import Params  # noqa: E402
from fmri2clip.core.rows import find_rows  # noqa: E402
from fmri2clip.core.stage import set_threads  # noqa: E402
from fmri2clip.generators import Conditioning  # noqa: E402
from fmri2clip.metrics.pictures.brain_correlation import correlate_patterns  # noqa: E402
from fmri2clip.metrics.pictures.evaluator import Evaluator  # noqa: E402
from fmri2clip.metrics.pictures.protocols import find_protocol  # noqa: E402
from fmri2clip.metrics.pictures.resizing import PictureSet  # noqa: E402
from fmri2clip.stages.reconstruct import features, generation, reconstruction, selection  # noqa: E402
from fmri2clip.stages.reconstruct.selection import Decoded  # noqa: E402
from fmri2clip.stages.score_pictures.picture_scores import load_networks, read_brain  # noqa: E402

Array = NDArray[Any]

OUTPUT = ROOT / "benchmarks" / "selection.json"
SOURCES = ("ridge_lowrank", "brainmclip", "encoding")
JUDGE = "encoding"  # key of runs
N_CANDIDATES = 8
LAST = 3  # the trial that no choice has seen
METRICS = {"pixcorr": "pixcorr", "alexnet2": "alexnet2.image_given_reconstruction"}
METRICS |= {"clip": "clip.image_given_reconstruction"}
N_RESAMPLES = 2000
Scored = dict[str, dict[str, Array]]  # choice -> metric -> score of each picture (I,)


def main() -> None:
    params = parameters.load(ROOT / "params.yaml")
    set_threads(params.compute.threads)
    paths = Paths(ROOT)
    subjects = params.runs[JUDGE].subjects
    scorers = {subject: Scorer(params, paths, subject) for subject in subjects}
    table: dict[str, Any] = {"n_candidates": N_CANDIDATES, "subjects": list(subjects)}
    table["n_images"] = sum(len(s.nsd_id_I) for s in scorers.values())
    table["sources"] = {}
    for source in SOURCES:
        pictures, chosen = paint(params, paths, source)
        by_subject: list[Scored] = []
        start = 0
        for subject in subjects:
            rows = slice(start, start + len(scorers[subject].nsd_id_I))
            start = rows.stop
            own_INHWC = pictures[rows]
            scored = {}
            for choice, number_I in chosen.items():
                kept_IHWC = own_INHWC[np.arange(len(own_INHWC)), number_I[rows]]
                scored[choice] = scorers[subject].score(kept_IHWC)
            by_subject.append(scored)
        table["sources"][source] = summarise(by_subject)
        print(source, json.dumps(table["sources"][source]), flush=True)
    write_json(OUTPUT, table)


def paint(params: Params, paths: Paths, source: str) -> tuple[Array, dict[str, Array]]:
    """Candidates (I, N, H, W, C) for all subjects' pictures, and by choice which one is kept."""
    plain = params.reconstructions[source]
    several = dataclasses.replace(plain, n_candidates=N_CANDIDATES, selection="brain")
    by_brain, rows = features.read_features(params, several, paths)
    several = dataclasses.replace(several, selection="encoding", chosen_by=JUDGE)
    by_encoding, _ = features.read_features(params, several, paths)
    names = by_brain[0].features
    decoded = {name: np.concatenate([d.features[name] for d in by_brain]) for name in names}
    clip_name = features.find_clip(params, plain)
    clip = params.clips[clip_name]
    family = reconstruction.find_family(params, plain)
    config_class = generators.load_family(family).Config
    config = parameters.generator_config(params, plain.generator, config_class)
    seed_IN = generators.draw_seeds(plain.seed, rows["nsd_id_I"], N_CANDIDATES)
    images = generation.paint_candidates(
        generators.load(family, config), Conditioning(clip_model=clip.model, **decoded), seed_IN
    )
    describe = selection.load_features(clip, read_basis(paths.clip_basis(clip_name)), "cpu")
    embed = selection.load_embedding(clip, "cpu")
    everything = slice(0, len(images))
    return images, {
        "first": np.zeros(len(images), np.int64),
        "brain": selection.select_by_brain(by_brain, embed)(everything, images),
        "encoding": selection.select_by_encoding(by_encoding, describe)(everything, images),
        "another": selection.select_by_encoding(swap(by_encoding), describe)(everything, images),
    }


def swap(found: Sequence[Decoded]) -> list[Decoded]:
    """The same with each response moved on to the next picture of the subject."""
    moved = []
    for one in found:
        assert one.response_IV is not None
        response_IV = np.roll(one.response_IV, 1, axis=0)
        moved.append(dataclasses.replace(one, response_IV=response_IV))
    return moved


class Scorer:
    """Scores pictures of one subject's test images in ascending order of their ids."""

    def __init__(self, params: Params, paths: Paths, subject: str) -> None:
        protocol = find_protocol(params.pictures.protocols[0])
        networks = load_networks(params, protocol, "cpu")
        self.brain = read_brain(params, paths, subject, networks.classifier)
        test = read_betas(paths.test_betas(subject))
        n_images = params.pictures.n_images or None
        self.nsd_id_I = np.unique(test["nsd_id_N"])[:n_images]
        last_N = test["repetition_N"] == LAST
        last_IV, shown_I = average_repeats(test["betas_NV"][last_N], test["nsd_id_N"][last_N])
        free_I = test["noise_free_nsd_id_I"]
        self.measured = {
            "trial_3": last_IV[find_rows(shown_I, self.nsd_id_I, "the third trials")],
            "noise_free": test["noise_free_IV"][find_rows(free_I, self.nsd_id_I, "responses")],
        }
        seen = PictureSet(
            nsd_id_I=self.nsd_id_I, images_IHWC=map_images(paths.stimuli(TEST), self.nsd_id_I)
        )
        self.evaluator = Evaluator(protocol, seen, networks.networks, networks.missing)

    def score(self, image_IHWC: Array) -> dict[str, Array]:
        """By metric, of each picture."""
        assert self.brain.model is not None
        predicted_IV = self.brain.model.predict(image_IHWC)
        everywhere = {"all": self.brain.measured.regions["all"]}
        scores = {}
        for name, measured_IV in self.measured.items():
            r_I = correlate_patterns(measured_IV.astype(float), predicted_IV, everywhere)
            scores[name] = next(iter(r_I.values()))
        found = self.evaluator.score(PictureSet(nsd_id_I=self.nsd_id_I, images_IHWC=image_IHWC))
        return scores | {name: found.score[metric] for name, metric in METRICS.items()}


def summarise(parts: Sequence[Scored]) -> dict[str, Any]:
    """Mean over subjects by choice and metric, and `gain`: of a choice over the first candidate."""
    rng = np.random.default_rng(0)
    sizes = [len(part["first"]["pixcorr"]) for part in parts]
    rows = [rng.integers(n, size=(N_RESAMPLES, n)) for n in sizes]

    def describe(by_subject: Sequence[Array]) -> Mapping[str, float]:
        value = np.mean([v.mean() for v in by_subject])
        drawn = [v[r].mean(axis=1) for v, r in zip(by_subject, rows, strict=True)]
        low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
        named = {"value": value, "low": low, "high": high}
        return {key: round(float(x), 4) for key, x in named.items()}

    table: dict[str, Any] = {}
    for choice in parts[0]:
        table[choice] = {
            metric: describe([part[choice][metric] for part in parts])
            for metric in parts[0][choice]
        }
        if choice != "first":
            table[choice]["gain"] = {
                metric: describe([part[choice][metric] - part["first"][metric] for part in parts])
                for metric in parts[0][choice]
            }
    return table


if __name__ == "__main__":
    main()
