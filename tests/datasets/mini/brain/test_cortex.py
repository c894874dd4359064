"""The simulated cortex on a small random network: responses, noise in features, controls."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis

from fmri2clip.datasets.mini import filters
from fmri2clip.datasets.mini.brain import cortex, drive, network, voxels
from fmri2clip.datasets.mini.brain.voxels import Voxels
from fmri2clip.datasets.mini.pictures.scene import render_many
from fmri2clip.datasets.mini.volume import make_volume

N_IMAGES = 250
SHAPE = network.Shape(kind="residual", stem=4, middle=8, narrow=8, late=16, tasks={"a": 2})


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> cortex.Brains:
    path = tmp_path_factory.mktemp("areas") / "model.safetensors"
    torch.manual_seed(0)
    net = network.AreaNetwork(SHAPE).eval()
    selectivity_KU = np.random.default_rng(0).normal(size=(4, SHAPE.late)).astype(np.float32)
    network.save_areas(path, network.Areas(network=net, selectivity_KU=selectivity_KU))
    return cortex.Brains(seed=1, network=path)


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cortex, "N_NOISE_SCENES", 60)


@cache
def pictures() -> np.ndarray:
    return np.stack([scene.image for scene in render_many(11, range(N_IMAGES), threads=1)])


def simulate(
    brains: cortex.Brains, subject: str = "subj01", n_sessions: int = 1
) -> cortex.SubjectSimulation:
    """Every picture three times a session, in random order."""
    rng = np.random.default_rng(3)
    order = [rng.permutation(np.repeat(np.arange(N_IMAGES), 3)) for _ in range(n_sessions)]
    volume = make_volume(subject, brains.seed)
    return cortex.simulate_subject(pictures(), np.concatenate(order), volume, brains, subject)


@pytest.fixture(scope="module")
def simulated(brains: cortex.Brains) -> cortex.SubjectSimulation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cortex, "N_NOISE_SCENES", 60)
        return simulate(brains)


def test_weights_round_trip(brains: cortex.Brains) -> None:
    areas = network.load_areas(brains.network)
    assert areas.network.shape == SHAPE and areas.selectivity_KU.shape == (4, 16)
    middle, late = network.area_maps(areas.network, pictures()[:3])
    assert middle.shape == (3, 8, 8, 8) and late.shape == (3, 16, 6, 6) and (late >= 0).all()
    with pytest.raises(ValueError, match="make asset NAME=areas"):
        network.load_areas(Path("nowhere.safetensors"))


def test_signal_has_unit_variance_where_anything_is_seen(
    simulated: cortex.SubjectSimulation,
) -> None:
    deviation_V = simulated.signal_IV.std(axis=0)
    seen_V = simulated.ncsnr_V > 0
    np.testing.assert_allclose(deviation_V[seen_V & (deviation_V > 0)], 1, atol=1e-3)
    assert (deviation_V[~seen_V] == 0).all()


def test_noise_free_is_the_mean_of_many_trials(simulated: cortex.SubjectSimulation) -> None:
    """Whose deviation from it is what 400 trials leave of their noise."""
    generator = torch.Generator().manual_seed(9)
    image_T = torch.arange(20).repeat(400)
    answer_TV = simulated.answer(generator, image_T).reshape(400, 20, -1)
    seen_V = simulated.feature_noise_V > 0
    left_V = (answer_TV.mean(axis=0) - simulated.signal_IV[:20])[:, seen_V].var(axis=0)
    expected_V = simulated.feature_noise_V[seen_V] / 400
    assert np.median(left_V / expected_V) == pytest.approx(1, abs=0.35)


def test_noise_of_features_has_its_share(simulated: cortex.SubjectSimulation) -> None:
    """PHI by construction, but for what the compressive response and gain make of it."""
    seen_V = simulated.ncsnr_V > 0
    share_V = simulated.feature_noise_V[seen_V] * simulated.ncsnr_V[seen_V] ** 2
    assert np.median(share_V) == pytest.approx(cortex.PHI, rel=0.5)


def test_trials_have_the_drawn_ncsnr(simulated: cortex.SubjectSimulation) -> None:
    inside_V = simulated.volume.nsdgeneral[simulated.volume.brainmask]
    trials = np.concatenate([(s - s.mean(0)) / s.std(0) for s in simulated.sessions()])
    n_I = np.bincount(simulated.image_N)[:, None]
    total_IV = np.zeros((N_IMAGES, trials.shape[1]))
    np.add.at(total_IV, simulated.image_N, trials)
    squares_IV = np.zeros_like(total_IV)
    np.add.at(squares_IV, simulated.image_N, trials**2)
    noise_V = ((squares_IV - total_IV**2 / n_I) / (n_I - 1)).mean(axis=0)
    ncsnr_V = np.sqrt(np.maximum(0, 1 - noise_V) / noise_V)
    assert np.median(ncsnr_V[inside_V]) == pytest.approx(0.36, abs=0.05)


def test_the_same_world_gives_the_same_betas(
    brains: cortex.Brains, simulated: cortex.SubjectSimulation
) -> None:
    again = simulate(brains)
    np.testing.assert_array_equal(next(again.sessions()), next(simulated.sessions()))
    np.testing.assert_array_equal(again.noise_free_IV, simulated.noise_free_IV)


def test_isotropic_noise_has_no_part_in_the_features(brains: cortex.Brains) -> None:
    simulation = simulate(replace(brains, noise="isotropic"))
    trials = next(simulation.sessions())
    noise = trials - (simulation.baseline_V + simulation.scale_V * 0)
    assert (simulation.feature_noise_V == 0).all()
    first = np.flatnonzero(simulation.ncsnr_V > 0)[:200]
    residual = noise[:, first] - noise[:, first].mean(axis=0)
    both = [residual[simulation.image_N == i] for i in range(N_IMAGES)]
    within = np.concatenate([x - x.mean(axis=0) for x in both])
    off = np.corrcoef(within.T)[np.triu_indices(len(first), 1)]
    assert abs(off.mean()) < 0.02


def test_heavy_noise_has_heavy_tails(
    brains: cortex.Brains, simulated: cortex.SubjectSimulation
) -> None:
    def tails(simulation: cortex.SubjectSimulation) -> float:
        trials = next(simulation.sessions())
        return float(np.median(kurtosis(trials, axis=0)))

    assert tails(simulate(replace(brains, noise="heavy"))) > tails(simulated) + 0.5


def test_repetitions_count_from_one() -> None:
    assert cortex._repetition(np.array([4, 2, 4, 4, 2, 9])).tolist() == [1, 1, 2, 3, 2, 1]


def test_responses_know_neither_clip_nor_captions_nor_labels() -> None:
    """What looks at a subject's pictures imports geometry, constants, filters and its network; the
    cortex alone may draw scenes, for its noise.
    """
    allowed = {"core.params", "datasets.mini", "datasets.mini.volume", "datasets.nsd"}
    allowed |= {f"datasets.mini.brain.{name}" for name in ("drive", "network", "voxels")}
    for module in (cortex, drive, network, voxels, filters):
        source = inspect.getsource(module)
        nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom)]
        names = {(n.module or "").removeprefix("fmri2clip.") for n in nodes}
        own = {name for name in names if name.startswith(("core.", "datasets."))}
        drawn = {"datasets.mini.pictures.scene"} if module is cortex else set()
        assert own <= allowed | drawn and "open_clip" not in source
        assert "caption" not in source.split('"""', 2)[2] and ".instances" not in source


def test_flat_voxels_ignore_their_area(brains: cortex.Brains) -> None:
    volume = make_volume("subj01", 1)
    flat = Voxels(volume, np.random.default_rng(0), hierarchy=0.0)
    half = Voxels(volume, np.random.default_rng(0), hierarchy=0.5)
    assert flat.flat.all() and 0.4 < half.flat.mean() < 0.6
    sees_V = flat.sees
    for share_V in flat.mixture().values():
        assert len(np.unique(share_V[sees_V].round(6))) == 1


def test_slopes_are_what_a_shift_of_gaze_does(brains: cortex.Brains) -> None:
    """Against windows whose centres were moved."""
    voxels = Voxels(make_volume("subj01", 1), np.random.default_rng(0), hierarchy=1.0)
    width_V = np.full(voxels.n, 0.2)
    before = voxels.windows(16, width_V)
    across, down = voxels.window_slopes(16, width_V)
    step = 1e-4
    for axis, slope_VP in ((0, across), (1, down)):
        voxels.centre_V2[:, axis] += step
        moved = (voxels.windows(16, width_V) - before) / step
        voxels.centre_V2[:, axis] -= step
        np.testing.assert_allclose(moved, slope_VP, atol=2e-3 * np.abs(slope_VP).max())


def test_unlike_subjects_share_no_prototypes(brains: cortex.Brains) -> None:
    """Tuning of two subjects over the same units: alike ones come from common prototypes."""
    areas = network.load_areas(brains.network)
    nearest = {}
    for likeness in (1.0, 0.0):
        tuned = []
        for number in (1, 2):
            rng = np.random.default_rng((7, number))
            voxels = Voxels(make_volume(f"subj0{number}", 1), rng, hierarchy=1.0)
            tuning = drive.draw_tuning(voxels, areas, rng, seed=1, likeness=likeness)["late"]
            tuned.append(tuning.weight_VC[:400])
        nearest[likeness] = float((tuned[0] @ tuned[1].T).max(axis=1).mean())
    assert nearest[0.0] < nearest[1.0]
