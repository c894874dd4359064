"""What must hold in a tree with NSD's files, real or simulated: one named check for each
property.

Properties are functions of the tree's own number of sessions and shared pictures. Published
constants (order of the first trials, picture and voxel counts) are asked of a tree of the full size
only: 30,000 planned trials and no noise-free file. The checks themselves are in check_files,
check_design, check_stimuli, check_subject and check_betas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from fmri2clip.core.files import NotOpened
from fmri2clip.core.params import Dataset
from fmri2clip.datasets.nsd import design as designs
from fmri2clip.datasets.nsd import layout
from fmri2clip.stages.check_data import check_betas, check_design, check_stimuli, check_subject
from fmri2clip.stages.check_data.check_files import check_files
from fmri2clip.stages.check_data.check_subject import SubjectFiles
from fmri2clip.stages.check_data.outcomes import Check, Outcome, skipped

SUBJECT_CHECKS = check_subject.CHECKS | check_betas.CHECKS


def check_tree(root: Path, subjects: Sequence[str], dataset: Dataset) -> list[Check]:
    """Every check of the tree, in a fixed order; a file that is missing or unreadable is a failed
    check.
    """
    return list(iterate_checks(root, subjects, dataset))


def iterate_checks(root: Path, subjects: Sequence[str], dataset: Dataset) -> Iterator[Check]:
    """The same, each check as soon as it is done: a full tree takes many minutes."""
    is_real = is_released(root, subjects, dataset.preparation)
    tasks: dict[str, Callable[[], Outcome]] = {
        "files.stimuli": partial(
            check_files, root, layout.stimuli_manifest_path(root), layout.stimuli_folders(root)
        )
    }
    for subject in subjects:
        folders = layout.subject_folders(root, subject)
        tasks[f"files.{subject}"] = partial(
            check_files, root, layout.manifest_path(root, subject), folders
        )
    tasks |= {
        "design.tables": partial(check_design.check_design, root),
        "design.published": partial(_check_published_design, root, dataset, is_real),
        "stimuli.pictures": partial(check_stimuli.check_pictures, root, is_real),
        "stimuli.table": partial(check_stimuli.check_table, root, is_real),
        "stimuli.duplicates": partial(check_stimuli.check_duplicates, root, subjects, dataset),
        "coco": partial(check_stimuli.check_annotations, root, subjects),
    }
    for subject in subjects:
        for name, check in SUBJECT_CHECKS.items():
            tasks[f"{subject}.{name}"] = partial(
                _check_subject, check, root, subject, dataset, is_real
            )
    for name, task in tasks.items():
        yield run_check(name, task)


def describe_kind(root: Path, subjects: Sequence[str], dataset: Dataset) -> str:
    """Which kind of tree this is, in words."""
    if is_released(root, subjects, dataset.preparation):
        return "the released NSD"
    noise_free = [
        layout.noise_free_path(root, subject, dataset.preparation) for subject in subjects
    ]
    if any(path.is_file() for path in noise_free):
        return "simulated"
    return "neither the released NSD (30,000 planned trials) nor simulated (noise-free responses)"


def is_released(root: Path, subjects: Sequence[str], preparation: str) -> bool:
    """The tree is the released NSD: 30,000 planned trials, and no noise-free responses, which only
    a simulation has.
    """
    try:
        n_trials = designs.load_design(root).ordering_N.size
    except ValueError:
        return False
    noise_free = (layout.noise_free_path(root, subject, preparation) for subject in subjects)
    full = layout.REPETITIONS * layout.IMAGES_PER_SUBJECT
    return n_trials == full and not any(path.is_file() for path in noise_free)


def run_check(name: str, task: Callable[[], Outcome]) -> Check:
    """Verdict of one check. A check that breaks is a failed one, so that the others still run."""
    try:
        return Check(name, *task())
    except (NotOpened, OSError) as error:
        return Check(name, "FAIL", str(error), is_read=False)
    except ValueError as error:
        return Check(name, "FAIL", str(error))
    except Exception as error:
        return Check(
            name,
            "FAIL",
            f"{type(error).__name__}: {error}; the check itself broke, please report it",
            is_read=False,
        )


def _check_published_design(root: Path, dataset: Dataset, is_real: bool) -> Outcome:
    if is_real:
        return check_design.check_published_design(root)
    n_trials = designs.load_design(root).ordering_N.size
    full = layout.REPETITIONS * layout.IMAGES_PER_SUBJECT
    why = f"{layout.expdesign_path(root)} plans {n_trials} trials, the released NSD {full}"
    if dataset.source != "simulated" and n_trials != full:
        return Outcome("WARN", f"{why}: no published number was checked")
    return skipped("published numbers hold for the released NSD only, this tree is simulated")


def _check_subject(
    check: Callable[[SubjectFiles], Outcome],
    root: Path,
    subject: str,
    dataset: Dataset,
    is_real: bool,
) -> Outcome:
    design = designs.load_design(root)
    files = SubjectFiles(
        root=root,
        subject=subject,
        preparation=dataset.preparation,
        is_real=is_real,
        keep_raw=dataset.keep_raw,
        trials=designs.list_trials(design, subject, dataset.sessions),
        all_sessions=designs.count_sessions(design, subject, dataset.sessions)
        == designs.count_sessions(design, subject, "released"),
    )
    return check(files)
