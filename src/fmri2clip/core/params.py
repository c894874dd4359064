"""Every knob of params.yaml as frozen dataclasses, and the reader that turns the file into them.

A key that no dataclass has, a value of the wrong type and a reference to something that does not
exist each raise a ValueError that names the full dotted key. What depends on several sections is
checked by `stages/check_params`, so that this file, which every stage imports, imports no other
part of the library.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from fmri2clip.core.strict import at_least, at_most, build, fraction

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How much of the machine every stage may use."""

    threads: int = 2  # CPU threads of every stage
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of gradient trainings

    def __post_init__(self) -> None:
        at_least(self, 1, "threads")
        at_most(self, 1024, "threads")


RAW = "data/raw/nsd"  # where an NSD tree lies


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Which data are read: NSD, real or simulated, and how much of it, or a folder."""

    source: Literal["simulated", "s3", "folder"] = "simulated"
    folder: str = RAW  # of the raw files
    accept_terms: bool = False  # of NSD; nothing is downloaded without
    container: Literal["hdf5", "nifti"] = "hdf5"  # of the betas
    keep_raw: bool = True  # false: betas are fetched and dropped session by session
    preparation: str = "betas_fithrf_GLMdenoise_RR"
    sessions: Literal["released", "old37"] | int = "released"  # a number: the first sessions only

    def __post_init__(self) -> None:
        if isinstance(self.sessions, int):
            at_least(self, 1, "sessions")
        if self.source != "folder" and self.folder != RAW:
            raise ValueError(
                f"folder is {self.folder!r}, which only source folder reads; set that, or folder: "
                f"{RAW}"
            )
        if self.source == "simulated" and not self.keep_raw:
            raise ValueError(
                "keep_raw is false, which needs source s3: the simulated NSD is not fetched"
            )


@dataclass(frozen=True, kw_only=True)
class Download:
    """How files are fetched; no byte of them depends on it, so no stage does."""

    bucket: str = "natural-scenes-dataset"
    endpoint: str = ""  # URL of an S3 service, '' for AWS
    region: str = "us-east-2"
    coco_url: str = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
    connections: int = 8
    part_mib: int = 16
    retries: int = 8

    def __post_init__(self) -> None:
        at_least(self, 1, "connections", "part_mib")
        at_least(self, 0, "retries")
        at_most(self, 256, "connections")
        at_most(self, 4096, "part_mib")
        at_most(self, 100, "retries")  # pauses of half a minute


@dataclass(frozen=True, kw_only=True)
class World:
    """The simulated NSD: its cortex, captions and pictures."""

    seed: int = 1
    # A number from 0 (flat) to 1 (graded): the fraction of voxels that keep to their area.
    hierarchy: Literal["graded", "flat"] | float = "graded"
    captions: Literal["informative", "uninformative"] = "informative"
    noise: Literal["features", "isotropic", "heavy"] = "features"
    # A number from 0 (unlike) to 1 (alike): how much of their tuning subjects share.
    subjects: Literal["alike", "unlike"] | float = "alike"
    n_sessions: int = 12
    n_shared: int = 500
    image_size: int = 96  # pixels
    network: str = "assets/mini/areas/model.safetensors"  # weights behind the category areas

    @property
    def hierarchy_strength(self) -> float:
        """0 (flat) to 1 (graded)."""
        if isinstance(self.hierarchy, str):
            return float(self.hierarchy == "graded")
        return self.hierarchy

    @property
    def likeness(self) -> float:
        """0 (unlike) to 1 (alike)."""
        return float(self.subjects == "alike") if isinstance(self.subjects, str) else self.subjects

    def __post_init__(self) -> None:
        for name in ("hierarchy", "subjects"):
            if not isinstance(getattr(self, name), str):
                fraction(self, name)
        at_least(self, 0, "seed")
        at_least(self, 1, "n_sessions", "n_shared", "image_size")
        at_most(self, 40, "n_sessions")  # as in NSD
        at_most(self, 425, "image_size")  # as in NSD


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Which trials give the mean and deviation of a z-score."""

    stats: Literal["train_only", "all_trials"] = "train_only"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """When a category counts as visible in a picture."""

    min_area: float = 0.005  # fraction of the cropped picture

    def __post_init__(self) -> None:
        fraction(self, "min_area")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One CLIP model, and what is cached of it."""

    model: str
    pretrained: str  # open_clip tag or path of a checkpoint
    config: str = ""  # path of a custom open_clip JSON, '' for a model that open_clip knows
    batch_size: int = 128
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    prompts: tuple[str, ...] = ("a photo of a {category}",)
    blocks: tuple[int, ...] = ()  # 1-based blocks whose tokens are cached
    low_level: bool = False  # cache block 1, pooled, as the low-level features of clip_mused
    tokens: bool = False  # cache semantic, detail and text tokens
    detail_layers: tuple[int, ...] = ()  # 1-based blocks behind the detail tokens
    aggregation: Literal["mean_then_project", "project_then_mean", "raw"] = "mean_then_project"
    token_components: int = 256  # leading components of the tokens, for each stream of them
    components_from: tuple[str, ...] = ()  # whose training pictures decide them, see deciding

    def deciding(self, subjects: Sequence[str]) -> tuple[str, ...]:
        """Of these subjects, those that components_from names; all where it names none of them."""
        return tuple(s for s in subjects if s in self.components_from) or tuple(subjects)

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "token_components")
        for name in ("blocks", "detail_layers"):
            if min(getattr(self, name), default=1) < 1:
                raise ValueError(
                    f"{name} is {list(getattr(self, name))}; blocks are counted from 1"
                )
        for prompt in self.prompts:
            if "{category}" not in prompt:
                raise ValueError(
                    f"prompts: {prompt!r} has no {{category}}; write e.g. 'a photo of a "
                    f"{{category}}'"
                )
        if self.tokens and not self.detail_layers:
            raise ValueError(
                "tokens is true, but detail_layers is empty; name the blocks of the detail tokens"
            )
        if len(set(self.detail_layers)) < len(self.detail_layers):
            raise ValueError(f"detail_layers is {list(self.detail_layers)}; name each block once")


TRAINING_PICTURES = "data/stimuli/train.h5"  # as `pictures` of a library
OWN = "own"  # as a decoder's `library`: training pictures of the subject itself
ALL = "all"  # of all subjects of the run
NO_LIBRARY = "none"


@dataclass(frozen=True, kw_only=True)
class Library:
    """Pictures that a decoder may weigh as a prior."""

    clip: str  # key of clips
    pictures: str  # TRAINING_PICTURES, or a folder of pictures
    near_duplicates: Literal["drop", "keep"] = "drop"  # of test pictures


# Images of a judge, at least: each half of them is fitted as well (metrics/decoding/channel.py)
JUDGED = 20


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which training images a run learns from, validates on or leaves out."""

    n_validation: int = 250  # images
    seed: int = 0
    unseen_folds: int = 0  # 0: no category is left out
    unseen_fold: int = 0
    unseen_control: bool = False  # leave out as many random images instead
    holdout_clusters: int = 0  # k of k-means, 0: off
    holdout_fraction: float = 0.2  # of the clusters
    n_images: int = 0  # 0: all
    n_sessions: int = 0  # 0: all; k: only trials of the subject's first k sessions
    permute: bool = False  # null: pair the brains of training images with other training images
    permute_judge: bool = True  # with permute, the pairs that the judge is fitted to as well
    n_judge: int = 0  # training images that a second fit leaves out and predicts, for the judge

    def __post_init__(self) -> None:
        at_least(
            self,
            0,
            "seed",
            "unseen_folds",
            "unseen_fold",
            "holdout_clusters",
            "n_images",
            "n_sessions",
            "n_judge",
        )
        at_least(self, 1, "n_validation")
        fraction(self, "holdout_fraction")
        if 0 < self.n_judge < JUDGED:
            raise ValueError(f"n_judge is {self.n_judge}, expected 0 (none) or at least {JUDGED}")
        k = self.holdout_clusters
        if k and max(1, round(k * self.holdout_fraction)) >= k:
            raise ValueError(
                f"holdout_clusters is {k} and holdout_fraction {self.holdout_fraction}, which "
                "leaves no cluster to train on; ask for more clusters or a smaller fraction"
            )
        if self.unseen_folds and self.unseen_fold >= self.unseen_folds:
            allowed = f"0 to {self.unseen_folds - 1}, as unseen_folds is {self.unseen_folds}"
            raise ValueError(f"unseen_fold is {self.unseen_fold}, expected {allowed}")
        if self.unseen_control and not self.unseen_folds:
            raise ValueError(
                "unseen_control is the control of unseen_folds; set unseen_folds as well"
            )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: a decoder, its data and its own settings."""

    decoder: str  # name of a folder in src/fmri2clip/decoders
    clip: str  # key of clips
    subjects: tuple[str, ...]
    voxels: str  # key of rois
    seed: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)  # onto decoders.<decoder>
    split: Mapping[str, Any] = field(default_factory=dict)  # onto split

    def __post_init__(self) -> None:
        at_least(self, 0, "seed")
        if not self.subjects or len(set(self.subjects)) < len(self.subjects):
            raise ValueError(
                f"subjects is {list(self.subjects)}; name at least one subject, each once"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How decoders are scored on the sealed test images."""

    n_way: int = 300
    n_draws: int = 30
    n_hard: int = 20
    n_bootstrap: int = 1000
    seed: int = 0
    prompt: int = 0  # index into prompts of the clip
    dominant_area: float = 0.6  # fraction of the area of all objects
    caption_index: int = 0
    # Settings of a network compared on validation data, at most; printed, nothing reads it.
    tuning_trials: int = 12

    def __post_init__(self) -> None:
        at_least(self, 0, "seed", "prompt", "caption_index")
        at_least(self, 1, "n_draws", "n_hard", "n_bootstrap")
        at_least(self, 2, "n_way")
        at_least(self, 0, "tuning_trials")
        at_most(self, 4, "caption_index")  # COCO has five captions of a picture
        fraction(self, "dominant_area")
        if self.dominant_area <= 0.5:
            raise ValueError(
                f"dominant_area is {self.dominant_area}, expected more than 0.5: two objects could "
                "both have half"
            )


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """How blocks of a CLIP model are compared with visual areas."""

    n_images: int = 400  # training images of each subject, at most
    n_draws: int = 10  # of voxels and of the halves of the trials
    n_permutations: int = 200  # shuffles of clusters, and as many of single voxels
    n_bootstrap: int = 500
    seed: int = 0
    block_voxels: int = 80  # voxels in a cluster that is shuffled as one
    # Summary of the figure, the null and the band.
    tokens: Literal["patch_mean", "class_token", "grid"] = "patch_mean"
    band_share: float = 0.9  # of the best RSA that a block of the band reaches
    band_cka: float = 0.9  # CKA that any two blocks of the band reach

    def __post_init__(self) -> None:
        at_least(self, 10, "n_images")
        at_least(self, 1, "n_draws", "n_permutations", "n_bootstrap", "block_voxels")
        at_least(self, 0, "seed")
        fraction(self, "band_share", "band_cka")


# Groups of rois that stages ask for by name; any others may stand beside them.
GROUPS = ("low", "high", "all")
# Sources of pictures beside the runs.
TARGET = "target"
MEAN_IMAGE = "mean_image"


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One set of pictures: who paints them, from whose features."""

    generator: str  # key of generators
    source: str  # key of runs, or target (true features), or mean_image (mean training picture)
    # A stream of tokens, or library: no generator, but the picture of the source's library that is
    # most likely.
    reads: Literal["embedding", "semantic", "fused", "library"] = "embedding"
    text: bool = False  # text tokens as well, for generators that read them
    n_candidates: int = 1  # pictures of each image
    # brain: nearest to the decoded embedding; encoding: the response is most likely of it
    selection: Literal["none", "brain", "encoding"] = "none"
    chosen_by: str = ""  # selection encoding: key of runs, whose decoder has an encoding model
    seed: int = 0  # of the generator's noise

    def __post_init__(self) -> None:
        at_least(self, 0, "seed")
        at_least(self, 1, "n_candidates")
        if self.selection == "none" and self.n_candidates > 1:
            raise ValueError(
                f"n_candidates is {self.n_candidates}, but selection is none; set it to brain or "
                "encoding, or take 1"
            )
        if self.selection != "none" and self.source in (TARGET, MEAN_IMAGE):
            raise ValueError(
                f"selection is {self.selection}, but source is {self.source}; only what a run "
                "decodes can select"
            )
        if (self.selection == "encoding") != bool(self.chosen_by):
            raise ValueError(
                f"selection is {self.selection} and chosen_by is {self.chosen_by!r}; selection "
                "encoding, and no other, names the run that chooses"
            )
        if self.reads == "library" and self.selection != "none":
            raise ValueError(
                f"reads is library and selection {self.selection}; a library's picture has no "
                "candidates: set selection to none"
            )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Which test images are reconstructed, and how pictures are measured."""

    n_images: int = 50  # of each subject, by ascending NSD id; 0: all
    protocols: tuple[str, ...] = ("strict-v1",)
    classifier: str = ""  # folder of a stand-in for AlexNet, '' for the published networks
    clip: str = ""  # key of clips: in the slot of OpenAI's ViT-L/14
    weights: str = ""  # folder of local copies of the published weights, '' for torch's hub cache
    download: bool = False  # fetch published weights that are not there
    brain: bool = True  # brain correlation, where the protocol has it

    def __post_init__(self) -> None:
        at_least(self, 0, "n_images")
        if self.n_images == 1 or not self.protocols:
            raise ValueError(
                "two-way identification needs n_images of at least 2 (0: all), and at least one "
                "protocol"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One primary comparison, fixed before the world was built."""

    study: str  # file of studies/
    compare: str  # title of one of its comparisons
    metric: str  # dotted name of metrics.json, or of the scores of pictures
    not_worse: str = ""  # a metric that must be no worse beside it


@dataclass(frozen=True, kw_only=True)
class Primary:
    """What verdicts are printed for: docs/preregistered.md."""

    worlds: tuple[int, ...] = ()  # world seeds that verdicts come from
    margin: float = 0.1  # of "no worse", a fraction of baseline less null
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fraction(self, "margin")
        for seed in self.worlds:
            if seed < 0:
                raise ValueError(f"worlds has {seed}, expected seeds of at least 0")


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where MLflow keeps the runs."""

    experiment: str = "fmri2clip"


@dataclass(frozen=True, kw_only=True)
class Params:
    """Everything that params.yaml says."""

    note: str
    compute: Compute
    dataset: Dataset
    download: Download
    subjects: tuple[str, ...]
    world: World
    rois: Mapping[str, tuple[str, ...]]
    norm: Norm
    labels: Labels
    clips: Mapping[str, Clip]
    split: Split
    decoders: Mapping[str, Mapping[str, Any]]
    runs: Mapping[str, Run]
    evaluation: Evaluation
    hierarchy: Hierarchy
    tracking: Tracking
    libraries: Mapping[str, Library] = field(default_factory=dict)
    generators: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reconstructions: Mapping[str, Reconstruction] = field(default_factory=dict)
    pictures: Pictures = field(default_factory=Pictures)
    primary: Primary = field(default_factory=Primary)
    # What entries of runs, generators and reconstructions merge (`<<: *run`); YAML resolves it, so
    # nothing reads it here.
    templates: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict, compare=False, repr=False
    )


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises ValueError naming the key; references between sections are `validate`'s.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run from the root of the repository")
    return build(Params, read_yaml(path), where=str(path))


def parse(text: str, where: str = "params.yaml") -> Params:
    """As `load`, from the text of the file; `where` names it in messages."""
    return build(Params, parse_yaml(text, where), where=where)


def read_yaml(path: Path) -> Any:
    """Content of a YAML file. Raises ValueError, with the line, for what is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 at byte {error.start + 1} ({error.reason}); save it as UTF-8"
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """As `read_yaml`, from the text of the file; `where` names it in messages."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(f"{where} is not valid YAML: line {line}: {error.problem}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(
            f"{where} is not valid YAML: line {line}: the character {chr(error.character)!r} is "
            "not allowed; remove it"
        ) from None
    # A date or a number that is none is a bare ValueError there.
    except (YAMLError, ValueError) as error:
        raise ValueError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def decoder_config(
    params: Params, run_name: str, config_class: type[T], where: str = "params.yaml"
) -> T:
    """The run's decoder Config: `decoders.<decoder>` with the run's overrides on top."""
    run = params.runs[run_name]
    section = params.decoders[run.decoder]
    build(config_class, section, where, f"decoders.{run.decoder}")
    return build(config_class, {**section, **run.overrides}, where, f"runs.{run_name}.overrides")


def generator_config(
    params: Params, name: str, config_class: type[T], where: str = "params.yaml"
) -> T:
    """The Config of `generators.<name>`, whose entry `family` names the file of its class."""
    content = {key: value for key, value in params.generators[name].items() if key != "family"}
    return build(config_class, content, where, f"generators.{name}")


def run_split(params: Params, run_name: str, where: str = "params.yaml") -> Split:
    """The run's Split: the section `split` with the run's own entries on top."""
    merged = {**dataclasses.asdict(params.split), **params.runs[run_name].split}
    return build(Split, merged, where, f"runs.{run_name}.split")


def run_library(params: Params, run_name: str) -> tuple[str, str]:
    """Key of `libraries` that the run's decoder weighs, and its setting `library`; twice NO_LIBRARY
    for a decoder without.

    Raises ValueError for a library that does not exist.
    """
    run = params.runs[run_name]
    asked = str({**params.decoders[run.decoder], **run.overrides}.get("library", NO_LIBRARY))
    if asked == NO_LIBRARY:
        return NO_LIBRARY, NO_LIBRARY
    of_clip = {name: entry for name, entry in params.libraries.items() if entry.clip == run.clip}
    training = [n for n, entry in of_clip.items() if entry.pictures == TRAINING_PICTURES]
    if asked in (OWN, ALL):
        if not training:
            raise ValueError(
                f"runs.{run_name} has library {asked}, but no entry of libraries has clip "
                f"{run.clip} and pictures {TRAINING_PICTURES}; add one, or set library to "
                f"{NO_LIBRARY}"
            )
        return training[0], asked
    folders = [name for name in of_clip if name not in training]
    if asked not in folders:
        known = ", ".join((OWN, ALL, NO_LIBRARY, *folders))
        raise ValueError(
            f"runs.{run_name} has library {asked!r}, which is no folder of pictures in libraries "
            f"with clip {run.clip}; choose from {known}"
        )
    return asked, asked
