"""What training, and what reads its models, takes: one function a stage, a Need for each item.

Pictures stand in needs_pictures.py.

Letters: N trials, I test images, J training images, V voxels, D embedding width.
"""

from __future__ import annotations

from fmri2clip.stages.check_params import memory
from fmri2clip.stages.check_params.case import MB, PLAIN, WITH_TORCH, Case, Need
from fmri2clip.stages.check_params.machine import CPU, GB
from fmri2clip.stages.check_params.needs_data import run_files
from fmri2clip.stages.check_params.sizes import HALF, SINGLE
from fmri2clip.stages.check_params.training import find_streams

DOUBLE = 8  # bytes of float64
GALLERY = 2**28  # bytes of true tokens in float64 at once (stages/evaluate)
QUERY = 2**30  # bytes of predicted tokens that meet them in one pass (stages/evaluate)
READOUT = 16_384  # features in float64 at once (stages/evaluate)
BLOCKS = 2**30  # bytes of tokens of all blocks of a CLIP model at once (clip/blocks.py)
DESCRIBED = 2500  # images of a subject at most (stages/describe_data)
LOOKING = 0.4e-6  # seconds a pixel for colours and edges; assumed
DESCRIBING = 18.0  # seconds a simulated subject for scenes drawn again and regressions; measured
REPORT = 10 * MB  # figures and one page


def train(case: Case) -> list[Need]:
    """The models of each run."""
    return [_train(case, name) for name in case.params.runs]


def _train(case: Case, name: str) -> Need:
    """Sums over the models of the run, and the peaks of the largest."""
    models = case.models[name]
    weights = [model.n_weights for model in models]
    disk = 0.0
    for model in models:
        disk += model.state_bytes + sum(_model_inputs(case, name, d.subject) for d in model.data)
    seconds = sum(memory.count_seconds(model, case.device) for model in models)
    gpu = max(memory.count_gpu(model, case.device) for model in models)
    checkpoints = [2 * (m.state_bytes + m.gradient_bytes) for m in models if not m.closed_form]
    return Need(
        stage="train",
        item=name,
        disk=disk,
        # Finished models wait beside the folder until all are finished.
        scratch=disk + max(checkpoints, default=0),
        ram=max(memory.count_ram(model, case.has_gpu) for model in models),
        pages=max(memory.count_pages(model, case.device) for model in models),
        gpu=gpu if case.has_gpu else 0.0,
        weights=None if None in weights else sum(w for w in weights if w is not None),
        seconds=5 + run_files(case, name) / case.device.disk + seconds,
    )


def _model_inputs(case: Case, run_name: str, subject_name: str) -> float:
    """Bytes beside the weights: 14 V of places, 8 V a session of statistics, and of each stream the
    means of its tokens, predicted and true.
    """
    subject = case.subjects[subject_name]
    means = 2 * SINGLE * sum(find_streams(case.models[run_name][0]).values())
    return subject.n_voxels * (14 + 8 * subject.n_sessions) + means


def evaluate(case: Case) -> list[Need]:
    """Scores of each run on the test images."""
    return [_evaluate(case, name) for name in case.params.runs]


def _evaluate(case: Case, name: str) -> Need:
    """RAM: the largest model, its test trials (8 N V bytes), float64 similarities 8 I^2 of each
    stream, and with tokens the larger of

        three blocks of GALLERY     true tokens, read, in float64, and centred, beside predicted
                                    ones: QUERY of all streams, and one stream in float64
        32 I READOUT                readout of pictures: a block of numbers four times in float64

    beside the streams that are read out, in float16. Time: every QUERY of predictions meets all
    true tokens anew, four passes in float64, and 2 I^2 X products a stream.
    """
    run = case.params.runs[name]
    models = case.models[name]
    subjects = [case.subjects[s] for s in run.subjects]
    n_images = max(s.n_test_images for s in subjects)
    trials = max(8 * s.n_test_trials * s.n_voxels for s in subjects)
    streams = find_streams(models[0])
    # What pictures are read out of (stages/evaluate).
    first = "fused" if "fused" in streams else "semantic"
    read_out = [n for stream, n in streams.items() if stream in (first, "detail")]
    numbers = n_images * sum(streams.values())
    queries = min(QUERY, SINGLE * numbers)
    tokens = 0.0
    if streams:
        centred = 2 * queries * max(streams.values()) / sum(streams.values())
        tokens = 3 * GALLERY + queries + centred
    if read_out:
        tokens = max(tokens, 4 * DOUBLE * n_images * min(READOUT, max(read_out)))
        tokens += HALF * n_images * sum(read_out)
    passes = 4 * DOUBLE * numbers * max(1, SINGLE * numbers / QUERY)
    seconds = passes / CPU.traffic + 4 * n_images * numbers / CPU.single
    scores = n_images * (3 * SINGLE * case.clips[run.clip].width_D + 1000) * len(subjects)
    similar = DOUBLE * n_images**2 * (2 + len(streams))
    return Need(
        stage="evaluate",
        item=name,
        disk=scores,
        ram=WITH_TORCH + max(m.state_bytes for m in models) + trials + similar + tokens,
        pages=HALF * numbers,
        seconds=6 + len(subjects) * (3 + seconds),
    )


def inspect_tokens(case: Case) -> list[Need]:
    """Models for several subjects, and blocks of their CLIP model for the test pictures."""
    runs = [n for n, models in case.models.items() if len(models[0].data) > 1]
    clips = {case.params.runs[name].clip for name in runs}
    encoders = sum(SINGLE * case.clips[clip].n_weights for clip in clips)
    pairs = case.n_test_images**2 * DOUBLE
    flops = sum(case.n_test_images * case.clips[clip].image_flops for clip in clips)
    resamples = case.params.evaluation.n_bootstrap
    blocks = max((_count_blocks(case, clip) for clip in clips), default=0.0)
    ram = WITH_TORCH + 2 * encoders + 40 * pairs + blocks
    correlating = 30 * 2 * resamples * case.n_test_images**2 * len(runs) / CPU.single
    return [
        Need(
            stage="inspect_tokens",
            ram=ram,
            gpu=encoders + GB if case.has_gpu else 0.0,
            seconds=8 + flops / case.device.single + correlating,
        )
    ]


def _count_blocks(case: Case, clip: str) -> float:
    """Bytes of the tokens of all blocks that are summarised at once, and of their copy."""
    shape = case.clips[clip]
    of_batch = case.params.clips[clip].batch_size * shape.n_blocks * shape.token_numbers
    return 2 * float(min(BLOCKS, SINGLE * of_batch))


def references(case: Case) -> list[Need]:
    """Baselines and ceilings of each CLIP model.

    RAM: 8 N V of training trials (float16, some of it twice, float32), 12 J V of means; where the
    noise-free responses are known, 8 N V more and 16 V^2 of their noise.
    """
    needs = []
    for name, shape in case.clips.items():
        ram = 0.0
        for s in case.subjects.values():
            trials = 8 * s.n_train_trials * s.n_voxels
            means = 12 * s.n_train_images * s.n_voxels
            noise = 0 if case.source != "simulated" else trials + 16 * s.n_voxels**2
            ram = max(ram, trials + means + noise)
        caches = case.n_images * (12 * HALF * shape.width_D + 500)
        rows = case.n_test_images * len(case.subjects)
        needs.append(
            Need(
                stage="references",
                item=name,
                disk=rows * 2700,
                ram=PLAIN + ram + caches,
                seconds=10 + 5 * len(case.subjects),
            )
        )
    return needs


def hierarchy(case: Case) -> list[Need]:
    """Blocks of each CLIP model beside areas, for a sample of training images of each subject.

    RAM: the trials of one subject in float16, those of the sample of all subjects, 8 J^2 a block,
    summary and draw, and the tokens of all blocks twice.
    """
    settings = case.params.hierarchy
    n = settings.n_images
    needs = []
    for name, shape in case.clips.items():
        trials = max(2 * s.n_train_trials * s.n_voxels for s in case.subjects.values())
        sample = 3 * SINGLE * n * sum(s.n_voxels for s in case.subjects.values())
        ram = WITH_TORCH + 2 * SINGLE * shape.n_weights + trials + 3 * sample
        encoding = n * len(case.subjects) * shape.image_flops / case.device.single
        voxels = sum(s.n_voxels for s in case.subjects.values())
        shuffling = 4 * settings.n_permutations * n**2 * voxels / CPU.single
        ram += 100 * DOUBLE * n**2 + _count_blocks(case, name)
        gpu = SINGLE * shape.n_weights + GB if case.has_gpu else 0.0
        seconds = 10 + encoding + shuffling
        needs.append(Need(stage="hierarchy", item=name, ram=ram, gpu=gpu, seconds=seconds))
    return needs


def count_parameters(case: Case) -> list[Need]:
    """Weights at real size, on the meta device."""
    return [Need(stage="count_parameters", ram=WITH_TORCH, seconds=6)]


def describe_data(case: Case) -> list[Need]:
    """Hierarchy, noise and sample pictures, one subject at a time, on DESCRIBED of its images.

    RAM: 10 N V + 8 J V of trials (float16, float32 twice) and their means in float64; where the
    world is simulated, then the CLIP and 32 J' V of regressions, J' at most DESCRIBED. Time:
    looking at pictures; where the world is simulated, DESCRIBING for drawing and regressions too.
    """
    largest = max(case.subjects.values(), key=lambda s: s.n_train_trials * s.n_voxels)
    n, n_voxels = largest.n_train_images, largest.n_voxels
    n_seen = min(n, DESCRIBED)
    trials = 10 * largest.n_train_trials * n_voxels + DOUBLE * n * n_voxels
    looking = LOOKING * n_seen * case.side**2
    ram = float(trials)
    seconds = len(case.subjects) * (15 + looking)
    if case.source == "simulated":
        weights = 2 * SINGLE * next(iter(case.clips.values())).n_weights
        ram = max(ram, weights + 4 * DOUBLE * n_seen * n_voxels)
        seconds += len(case.subjects) * DESCRIBING
    return [Need(stage="describe_data", ram=WITH_TORCH + ram, seconds=10 + seconds)]


def report(case: Case) -> list[Need]:
    """Tables, figures and one page."""
    return [Need(stage="report", disk=REPORT, ram=0.6 * GB, seconds=15)]
