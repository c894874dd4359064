"""What each stage before training takes: one function a stage, a Need for each of its items.

Constants without a formula are named with their source; "measured" means on the simulated world,
with two threads, unless a file of benchmarks/ is named.

Letters: N trials, I images, V voxels, T the 750 trials of a session.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from fmri2clip.core.params import TRAINING_PICTURES
from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.check_params import sizes
from fmri2clip.stages.check_params.case import MB, PLAIN, WITH_CLIP, WITH_TORCH, Case, Need
from fmri2clip.stages.check_params.machine import CPU, GB
from fmri2clip.stages.check_params.sizes import HALF, SINGLE, Subject

ANNOTATIONS = 0.9 * GB  # of RAM to read COCO's: benchmarks/annotations.json
ARCHIVE = 0.25 * GB  # COCO's annotations, packed
UNPACKED = 0.6 * GB  # the four files of it that are kept
DESIGN = 0.04 * GB  # design and picture table of the release
MASKS = 0.05 * GB  # ROI volumes, masks and behaviour of a real subject, packed
DRAWN = 2100  # bytes of annotations of a simulated picture; measured
PLANNED = 155  # bytes of the design's tables for each simulated picture; measured
# Seconds of a session of 15,724 voxels, from files in memory: benchmarks/extract_rois.json
EXTRACTION = {"hdf5": 0.39, "nifti": 1.32}
# Seconds to check a session of subject 1: whole, 8.3 as HDF5 or 2.3 as NIfTI; its 15,724 voxels,
# 0.2 or 2.1; 1.1 for what is computed of these. Measured on synthetic sessions of that size.
CHECKING = {"hdf5": 9.6, "nifti": 5.5}
BAND = 1024  # voxels of all trials in memory at once (stages/extract_rois)
PICTURE_BLOCK = 200  # pictures in memory at once (stages/cache_stimuli)
FEATURE_BLOCK = 2**28  # bytes of float32 features in a block, of at most
FEATURE_IMAGES = 1024  # pictures (stages/cache_clip)
COMPONENT_IMAGES = 3000  # that components are found from, at most (stages/components)
LOOKING = 1e-3  # seconds of a picture's thumbnail and digest
COMPONENT_COLUMNS = 8192  # numbers of tokens in a block (solvers/principal_components.py)
ENCODING = 4e-3  # seconds a picture beside its arithmetic; measured on a busy machine, so roughly
RESIZING = 2.5e-3  # seconds to resize a picture of 425 pixels on one core; assumed
SCENES = 2000  # simulated pictures in memory at once, each with masks of its objects
DRAWING = 4e-3  # seconds to draw a simulated picture; measured like ENCODING
RESPONDING = 12e-3  # seconds to simulate the responses to one picture; measured like ENCODING


def check_params(case: Case) -> list[Need]:
    """Imports every decoder that a run names."""
    return [Need(stage="check_params", ram=WITH_TORCH, seconds=5)]


def download_stimuli(case: Case) -> list[Need]:
    """imgBrick, COCO's annotations and the design: fetched, or drawn for the subjects; nothing of a
    folder, which is read where it lies.
    """
    if case.source == "folder":
        return [Need(stage="download_stimuli")]
    if not case.is_real:
        world = case.params.world
        n_all = world.n_shared + len(layout.SUBJECTS) * (250 * world.n_sessions - world.n_shared)
        drawn = case.n_images * (case.side**2 * 3 + DRAWN) + n_all * PLANNED
        ram = PLAIN + case.n_images * 2 * DRAWN + SCENES * 6 * case.side**2 * 3
        seconds = case.n_images * DRAWING
        return [Need(stage="download_stimuli", disk=drawn, ram=ram, seconds=seconds)]
    pictures = layout.N_IMAGES * layout.IMAGE_SIZE**2 * 3
    fetched = pictures + ARCHIVE + DESIGN
    return [
        Need(
            stage="download_stimuli",
            download=fetched,
            disk=pictures + UNPACKED + DESIGN,
            scratch=ARCHIVE,
            ram=PLAIN + 2 * connection_bytes(case),
            seconds=fetched / case.device.network,
        )
    ]


def connection_bytes(case: Case) -> float:
    """Bytes of the parts that are on their way at once."""
    download = case.params.download
    return float(download.connections * download.part_mib * 2**20)


def download(case: Case) -> list[Need]:
    """Betas and masks of each subject; with keep_raw false, masks alone."""
    return [_download(case, subject) for subject in case.subjects.values()]


def _download(case: Case, subject: Subject) -> Need:
    dataset = case.params.dataset
    if case.source == "folder":
        return Need(stage="download", item=subject.name)
    betas = subject.n_sessions * sizes.count_betas(subject, dataset.container)
    if not case.is_real:
        n_images = subject.n_train_images + subject.n_test_images
        noise_free = SINGLE * n_images * subject.n_voxels
        return Need(
            stage="download",
            item=subject.name,
            disk=betas + noise_free + MB,
            ram=WITH_TORCH + n_images * (case.side**2 * 3 + 15 * SINGLE * subject.n_brain),
            seconds=n_images * RESPONDING,
        )
    kept = betas if dataset.keep_raw else 0.0
    return Need(
        stage="download",
        item=subject.name,
        download=kept + MASKS,
        disk=kept + MASKS,
        ram=PLAIN + 2 * connection_bytes(case),
        seconds=(kept + MASKS) / case.device.network,
    )


def check_data(case: Case) -> list[Need]:
    """Reads every file once, for its digest, pictures once more and betas twice: all voxels, then
    those of nsdgeneral. HDF5 takes its time for chunks of one voxel, NIfTI is unpacked each time.

    Memory stays at about 1 GB at any size (stages/check_data/check_betas.py).
    """
    raw = sum(need.disk for stage in (download_stimuli, download) for need in stage(case))
    pictures = case.n_images * case.side**2 * 3
    dataset = case.params.dataset
    sessions = 0.0  # of the size of subject 1's
    if case.source != "folder" and dataset.keep_raw:
        grids = sum(subject.n_sessions * prod(subject.grid) for subject in case.subjects.values())
        sessions = grids / prod(layout.VOLUME_SHAPES[0])
    return [
        Need(
            stage="check_data",
            ram=PLAIN + max(annotations_ram(case), 0.95 * GB if case.is_real else 0.3 * GB),
            seconds=10
            + (raw + pictures) / case.device.disk
            + sessions * CHECKING[dataset.container],
        )
    ]


def extract_rois(case: Case) -> list[Need]:
    """z-scored trials of each subject; sessions wait as files until all are read."""
    return [_extract(case, subject) for subject in case.subjects.values()]


def _extract(case: Case, subject: Subject) -> Need:
    """RAM: each reader has 5 T V bytes (int16 twice, or int16 and float16, and parts in float64), a
    band of voxels 4 N bytes each, statistics of all sessions 3 x 8 bytes a voxel.
    """
    dataset = case.params.dataset
    n_trials = subject.n_train_trials + subject.n_test_trials
    trials = 2 * n_trials * subject.n_voxels
    n_columns = sum(1 + len(labels) for labels in layout.ROI_LABELS.values())
    described = subject.n_voxels * (14 + n_columns + 9 * subject.n_sessions)
    readers = min(case.params.compute.threads, 16, subject.n_sessions)
    ram = readers * 5 * layout.TRIALS_PER_SESSION * subject.n_voxels
    ram += 4 * n_trials * min(BAND, subject.n_voxels) + 24 * subject.n_sessions * subject.n_voxels
    truth = 0
    if case.source == "simulated":
        n_images = subject.n_train_images + subject.n_test_images
        truth = SINGLE * n_images * subject.n_voxels + 2 * subject.n_test_images * subject.n_voxels
    streamed = 0.0
    if not dataset.keep_raw:
        streamed = subject.n_sessions * sizes.count_betas(subject, dataset.container)
    relative = subject.n_voxels / layout.NSDGENERAL_VOXELS[0]
    reading = subject.n_sessions * EXTRACTION[dataset.container] * relative
    return Need(
        stage="extract_rois",
        item=subject.name,
        download=streamed,
        disk=trials + described + truth,
        scratch=trials + (streamed / subject.n_sessions if streamed else 0.0),
        ram=PLAIN + ram + truth,
        seconds=3 + reading + 3 * trials / case.device.disk + streamed / case.device.network,
    )


def cache_stimuli(case: Case) -> list[Need]:
    """Pictures of the subjects at full size, with captions and labels."""
    disk = sizes.count_stimuli(case.n_images, case.side, case.source)
    block = 2 * PICTURE_BLOCK * case.side**2 * 3
    described = 4 * case.n_images * sizes.count_annotations(case.source)
    return [
        Need(
            stage="cache_stimuli",
            disk=disk,
            ram=PLAIN + max(annotations_ram(case), block) + described,
            seconds=5 + 3 * disk / case.device.disk,
        )
    ]


def cache_clip(case: Case) -> list[Need]:
    """Features of every picture and caption, once for each CLIP model."""
    return [_cache(case, name) for name in case.params.clips]


def _cache(case: Case, name: str) -> Need:
    """RAM: the weights in float32, twice while they are read, later with two blocks of features as
    they come and as they are joined, and captions. GPU, else RAM: weights, and for a batch 12
    tensors of tokens in the encoder's precision (hidden layers have 4, attention 4) and 3 in
    float32. Blocks wait as files until a part is complete.
    """
    clip = case.params.clips[name]
    shape = case.clips[name]
    parts = [subject.n_train_images for subject in case.subjects.values()]
    files = [sizes.count_clip_file(shape, n, case.source) for n in (*parts, case.n_test_images)]
    n_tokens = sum(prod(s) for s in shape.arrays.values())
    numbers = clip.batch_size * shape.token_numbers
    width = SINGLE if clip.precision == "fp32" else 2
    batch = numbers * (12 * width + 3 * SINGLE)
    block = min(FEATURE_BLOCK, FEATURE_IMAGES * SINGLE * n_tokens)
    described = 4 * case.n_images * sizes.count_annotations(case.source)
    speed = case.device.single if clip.precision == "fp32" else case.device.half
    captions = sizes.N_CAPTIONS + clip.tokens
    flops = case.n_images * (shape.image_flops + captions * shape.text_flops)
    pictures = case.n_images * case.side**2 * 3
    resizing = case.n_images * RESIZING / case.params.compute.threads if case.is_real else 0.0
    fetched = weights_bytes(case, name)
    weights = SINGLE * shape.n_weights
    encoding = weights + 3 * block + (0.0 if case.has_gpu else batch)
    ram = WITH_CLIP + max(annotations_ram(case), 2 * weights, encoding) + described
    return Need(
        stage="cache_clip",
        item=name,
        download=fetched,
        disk=sum(files) + fetched,
        cached=sum(files),
        scratch=max(files),
        ram=ram,
        gpu=width * shape.n_weights + batch + 0.5 * GB if case.has_gpu else 0.0,
        seconds=10
        + flops / speed
        + case.n_images * ENCODING
        + resizing
        + (2 * pictures + 3 * sum(files)) / case.device.disk
        + fetched / case.device.network,
    )


def components(case: Case) -> list[Need]:
    """Leading components of tokens, once for each CLIP model: the tokens of the pictures that they
    are found from, their Gram matrix, and for a block of columns five of it.
    """
    return [_find_components(case, name) for name in case.params.clips]


def _find_components(case: Case, name: str) -> Need:
    clip, shape = case.params.clips[name], case.clips[name]
    deciding = clip.deciding(tuple(case.subjects))
    n_all = sum(case.subjects[name].n_train_images for name in deciding)
    n = min(n_all, COMPONENT_IMAGES)
    widest = max((prod(s[1:]) for s in shape.bases.values()), default=0)
    found = max((SINGLE * prod(s) for s in shape.bases.values()), default=0)
    ram = 2 * n * widest + 4 * SINGLE * n**2 + 5 * SINGLE * n * min(widest, COMPONENT_COLUMNS)
    images = sum(s.n_train_images for s in case.subjects.values())
    numbers = sum(prod(s[1:]) for s in shape.bases.values())
    flops = 4 * n**2 * numbers + 2 * images * clip.token_components * numbers
    basis = sizes.count_basis(shape)
    cached = basis + sum(
        sizes.count_components_file(shape, s.n_train_images) for s in case.subjects.values()
    )
    return Need(
        stage="components",
        item=name,
        disk=cached,
        cached=cached,
        ram=WITH_TORCH + ram + found + basis,
        seconds=5
        + 9 * len(shape.bases) * n**3 / CPU.eigen
        + flops / CPU.single
        + 4 * images * numbers / case.device.disk,
    )


def cache_library(case: Case) -> list[Need]:
    """Pictures of each library once, as thumbnails beside those of the test set, with their
    features; those of a folder are encoded, too.
    """
    return [_cache_library(case, name) for name in case.params.libraries]


def _cache_library(case: Case, name: str) -> Need:
    library = case.params.libraries[name]
    shape = case.clips[library.clip]
    is_training = library.pictures == TRAINING_PICTURES
    if is_training:
        n = sum(subject.n_train_images for subject in case.subjects.values())
    else:
        n = sum(1 for path in Path(library.pictures).rglob("*") if path.is_file())
    numbers = sum(shape.bases[stream][0] for stream in ("semantic", "detail") if shape.bases)
    embeddings = HALF * (1 + sizes.N_CAPTIONS) * shape.width_D
    file = n * (embeddings + SINGLE * numbers + sizes.count_annotations(case.source))
    seconds = 5 + n * case.side**2 * 3 / case.device.disk + n * LOOKING
    if not is_training:
        seconds += n * shape.image_flops / case.device.single
    ram = WITH_CLIP if is_training else WITH_CLIP + sizes.count_basis(shape)
    return Need(stage="cache_library", item=name, disk=file, ram=ram + 3 * file, seconds=seconds)


def weights_bytes(case: Case, name: str) -> float:
    """Bytes of a CLIP checkpoint that open_clip fetches; 0 for one that is a file here.

    OpenAI's are float16, others float32.
    """
    clip = case.params.clips[name]
    if "/" in clip.pretrained or clip.pretrained.endswith((".pt", ".safetensors", ".bin")):
        return 0.0
    return (2 if clip.pretrained == "openai" else SINGLE) * case.clips[name].n_weights


def select(case: Case) -> list[Need]:
    """Digests of the files of each run."""
    return [
        Need(stage="select", item=name, seconds=2 + run_files(case, name) / case.device.disk)
        for name in case.params.runs
    ]


def run_files(case: Case, run_name: str) -> float:
    """Bytes of the files that a run is trained on."""
    run = case.params.runs[run_name]
    found = 0.0
    for name in run.subjects:
        subject = case.subjects[name]
        found += 2 * subject.n_train_trials * subject.n_voxels
        shape, n_images = case.clips[run.clip], subject.n_train_images
        found += sizes.count_clip_file(shape, n_images, case.source)
        found += sizes.count_components_file(shape, n_images) + sizes.count_basis(shape)
    return found


def annotations_ram(case: Case) -> float:
    """Bytes of RAM to read captions and labels, beside what the stage has."""
    return ANNOTATIONS if case.is_real else 0.05 * GB
