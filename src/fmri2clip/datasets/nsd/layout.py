"""Where every NSD file lies and which constants its format fixes.

Sources are named behind each constant: the NSD manual (cvnlab.slite.page), the scripts that wrote
the release (cvnlab/nsddatapaper: main/export.m, main/analysis_drawrois_*.m,
main/analysis_surfaceroistovolume.m), Allen et al. 2022. Every path function takes the root of the
tree, the folder that holds `nsddata`, `nsddata_betas` and `nsddata_stimuli`; subjects are written
'subj01'. Paths are returned whether or not they exist.
"""

from __future__ import annotations

from pathlib import Path

from fmri2clip.core.strict import suggest

SUBJECTS = tuple(f"subj{number:02d}" for number in range(1, 9))  # NSD manual, General information
SPACE = "func1pt8mm"  # the 1.8 mm volumes that the decoding literature uses
MANIFEST_NAME = "manifest.json"  # ours: what the download stage answers for
PREPARATIONS = ("betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR")  # export.m
BETA_SUFFIXES = (".hdf5", ".nii.gz", ".mat")  # .mat: first release, HDF5 inside (MATLAB v7.3)

BETA_SCALE = 300.0  # stored integer = int16(percent signal change x 300), saturating (export.m)
TRIALS_PER_SESSION = 750  # NSD manual, Experiments; no session differs
REPETITIONS = 3  # presentations planned for every image
RUNS_PER_SESSION = 12  # stimpattern is (sessions, 12, 75)
SLOTS_PER_RUN = 75  # 4 s slots of a run, blank ones included
TRIALS_PER_RUN = (63, 62)  # odd runs, even runs; 6 x 63 + 6 x 62 = 750
N_IMAGES = 73_000  # rows of imgBrick in the real tree
IMAGE_SIZE = 425  # pixels, real tree; readers take the size from the file
IMAGES_DATASET = "imgBrick"
BETAS_DATASET = "betas"
IMAGES_PER_SUBJECT = 10_000  # columns of subjectim in the real file
N_SHARED = 1_000  # sharedix.size in the real file

# Subjects 1 to 8, everything public since 2023-08-20.
SESSIONS_RELEASED = (40, 40, 32, 30, 40, 32, 40, 30)
SESSIONS_OLD37 = (37, 37, 29, 27, 37, 29, 37, 27)  # before the Algonauts sessions were released
# Real tree, func1pt8mm.
NSDGENERAL_VOXELS = (15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)
VOLUME_SHAPES = (  # X, Y, Z of func1pt8mm (nsdsetup.m)
    (81, 104, 83),
    (82, 106, 84),
    (81, 106, 82),
    (85, 99, 80),
    (79, 97, 78),
    (85, 113, 83),
    (78, 95, 81),
    (80, 103, 78),
)

OUTSIDE_CORTEX = -1  # ROI volumes (analysis_surfaceroistovolume.m): not in the cortical ribbon
UNLABELLED = 0  # in the ribbon, no label; labels are 1..N, so the test for a member is `> 0`
GENERAL_ROI = "nsdgeneral"
HEMISPHERES = ("lh", "rh")  # files lh.NAME.nii.gz and rh.NAME.nii.gz; NAME.nii.gz merges both

# label k is entry k - 1 (analysis_drawrois_*.m; manual, ROIs)
ROI_LABELS: dict[str, tuple[str, ...]] = {
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "streams": (
        "early",
        "midventral",
        "midlateral",
        "midparietal",
        "ventral",
        "lateral",
        "parietal",
    ),
    "Kastner2015": (
        "V1v",
        "V1d",
        "V2v",
        "V2d",
        "V3v",
        "V3d",
        "hV4",
        "VO1",
        "VO2",
        "PHC1",
        "PHC2",
        "MST",
        "hMT",
        "LO2",
        "LO1",
        "V3b",
        "V3a",
        "IPS0",
        "IPS1",
        "IPS2",
        "IPS3",
        "IPS4",
        "IPS5",
        "SPL1",
        "FEF",
    ),
}
# Exist in the release; labels are used by number here.
UNNAMED_ROIS = {"HCP_MMP1": 180, "corticalsulc": 28}
OPEN_ROIS = ("MTL", "thalamus")  # likewise; how many labels they have is read from the file
# 'file:my-roi' is my-roi.nii.gz in the subject's ROI folder: a mask that NSD does not name
FILE_PREFIX = "file:"
TERMS_URL = "https://cvnlab.slite.page/p/IB6BSeW_7o"  # NSD's terms of use

CSV_COLUMNS = (  # nsd_stim_info_merged.csv after its unnamed index column (manual, Experiments)
    "cocoId",
    "cocoSplit",
    "cropBox",
    "loss",
    "nsdId",
    "flagged",
    "BOLD5000",
    "shared1000",
    *(f"subject{s}" for s in range(1, 9)),
    *(f"subject{s}_rep{r}" for s in range(1, 9) for r in range(3)),
)
RESPONSE_COLUMNS = (  # responses.tsv, tab-separated (manual, Behavioral data)
    "SUBJECT",
    "SESSION",
    "RUN",
    "TRIAL",
    "73KID",
    "10KID",
    "TIME",
    "ISOLD",
    "ISCORRECT",
    "RT",
    "CHANGEMIND",
    "MEMORYRECENT",
    "MEMORYFIRST",
    "ISOLDCURRENT",
    "ISCORRECTCURRENT",
    "TOTAL1",
    "TOTAL2",
    "BUTTON",
    "MISSINGDATA",
)
COCO_SPLITS = ("train2017", "val2017")


def subject_number(subject: str) -> int:
    """1-based number of a subject name; 'subj03' -> 3. Unknown names raise ValueError."""
    if subject not in SUBJECTS:
        raise ValueError(
            f"subject {subject!r} is not in NSD; choose from {SUBJECTS[0]} ... {SUBJECTS[-1]}"
        )
    return SUBJECTS.index(subject) + 1


def released_sessions(subject: str) -> int:
    """Number of sessions of a subject that are public today."""
    return SESSIONS_RELEASED[subject_number(subject) - 1]


def old37_sessions(subject: str) -> int:
    """Number of sessions of a subject in the first release (37 for the subjects that came for
    40).
    """
    return SESSIONS_OLD37[subject_number(subject) - 1]


def split_roi_name(name: str) -> tuple[str, str, str]:
    """'lh.floc-faces/OFA' -> ('lh', 'floc-faces', 'OFA'); hemisphere and label are '' when not
    given.

    A label may be given by its number: 'streams/5' is 'streams/ventral'. Files that NSD does not
    name keep their prefix and have numbers only: 'file:my-roi/2' -> ('', 'file:my-roi', '2').
    Raises ValueError for unknown ROIs and labels.
    """
    volume, slash, label = name.partition("/")
    prefix, _, rest = volume.partition(".")
    hemisphere, roi = (prefix, rest) if prefix in HEMISPHERES else ("", volume)
    known = (*ROI_LABELS, *UNNAMED_ROIS, *OPEN_ROIS)
    if volume.startswith(FILE_PREFIX):
        own = volume.removeprefix(FILE_PREFIX)
        if not own or "\\" in own or own.removeprefix("lh.").removeprefix("rh.") in known:
            raise ValueError(
                f"ROI {name!r}: {FILE_PREFIX} takes the name of a file that NSD does not have"
            )
    elif roi not in known:
        raise ValueError(
            f"ROI {name!r} is not in NSD; choose from "
            f"{', '.join(known)}{suggest(roi, known)}, with lh. or rh. in front for one "
            f"hemisphere; any other file of the roi folder is written {FILE_PREFIX}NAME"
        )
    return hemisphere, roi, _find_label(roi, label) if slash else ""


def _find_label(roi: str, label: str) -> str:
    """The label's name; the number itself where it has none."""
    labels = roi_labels(roi)
    number = (
        int(label)
        if label.isascii() and label.isdecimal() and len(label) < 6 and label[0] != "0"
        else 0
    )
    if label in labels or (number and not labels):
        return label
    if 1 <= number <= len(labels):
        return labels[number - 1]
    numbers = f"the numbers 1 to {len(labels) or 'N'}"
    named = (
        f"{', '.join(labels)}{suggest(label, labels)} or {numbers}"
        if roi in ROI_LABELS
        else numbers
    )
    raise ValueError(f"ROI {roi!r} has no label {label!r}; choose from {named}")


def roi_labels(roi: str) -> tuple[str, ...]:
    """Names of the labels 1..N of an ROI volume; the number itself where the release gives no name
    here.

    Empty for OPEN_ROIS and files of the user, whose N only the file knows.
    """
    if roi in OPEN_ROIS or roi.startswith(FILE_PREFIX):
        return ()
    if roi in UNNAMED_ROIS:
        return tuple(str(number) for number in range(1, UNNAMED_ROIS[roi] + 1))
    return ROI_LABELS[roi]


def experiments_dir(root: Path) -> Path:
    """Folder of the experiment: the design and the table of pictures."""
    return root / "nsddata" / "experiments" / "nsd"


def expdesign_path(root: Path) -> Path:
    """MATLAB 5 file with masterordering, subjectim, sharedix, stimpattern, basiccnt."""
    return experiments_dir(root) / "nsd_expdesign.mat"


def stim_info_path(root: Path) -> Path:
    """CSV with one row per image of imgBrick: COCO id, split, crop."""
    return experiments_dir(root) / "nsd_stim_info_merged.csv"


def stimuli_dir(root: Path) -> Path:
    """Folder of the pictures that were shown."""
    return root / "nsddata_stimuli" / "stimuli" / "nsd"


def stimuli_path(root: Path) -> Path:
    """HDF5 with imgBrick (images, height, width, 3) uint8."""
    return stimuli_dir(root) / "nsd_stimuli.hdf5"


def annotations_dir(root: Path) -> Path:
    """COCO annotation files; not in NSD's bucket, kept where nsd_access looks for them."""
    return stimuli_dir(root) / "annotations"


def instances_path(root: Path, split: str) -> Path:
    """COCO instance annotations of a split, such as train2017."""
    return annotations_dir(root) / f"instances_{split}.json"


def captions_path(root: Path, split: str) -> Path:
    """COCO captions of a split."""
    return annotations_dir(root) / f"captions_{split}.json"


def ppdata_dir(root: Path, subject: str) -> Path:
    """Folder of a subject without its betas."""
    return root / "nsddata" / "ppdata" / subject


def responses_path(root: Path, subject: str) -> Path:
    """Table of a subject's trials: one row a trial, with what was shown and answered."""
    return ppdata_dir(root, subject) / "behav" / "responses.tsv"


def volumes_dir(root: Path, subject: str) -> Path:
    """Folder of a subject's volumes in the space of the betas."""
    return ppdata_dir(root, subject) / SPACE


def brainmask_path(root: Path, subject: str) -> Path:
    """Mask (X, Y, Z) of the voxels inside the brain."""
    return volumes_dir(root, subject) / "brainmask.nii.gz"


def valid_path(root: Path, subject: str, session: int | None = None) -> Path:
    """0/1 mask of a session (1-based), or without a session the fraction of sessions in which a
    voxel is valid.
    """
    return volumes_dir(root, subject) / (
        "valid.nii.gz" if session is None else f"valid_session{session:02d}.nii.gz"
    )


def roi_dir(root: Path, subject: str) -> Path:
    """Folder of a subject's ROI volumes."""
    return volumes_dir(root, subject) / "roi"


def find_volumes(folder: Path) -> list[Path]:
    """NIfTI files below a folder, sorted; names that begin with a dot are other programs' notes."""
    return sorted(path for path in folder.rglob("*.nii.gz") if not path.name.startswith("."))


def is_nsd_roi(path: Path) -> bool:
    """Whether a file of an ROI folder has a name that NSD gives."""
    name = path.name.removesuffix(".nii.gz").removeprefix("lh.").removeprefix("rh.")
    return name in (*ROI_LABELS, *UNNAMED_ROIS, *OPEN_ROIS)


def own_masks(root: Path, subject: str) -> list[Path]:
    """ROI volumes of the user's own, which `rois` names as file:NAME."""
    return [path for path in find_volumes(roi_dir(root, subject)) if not is_nsd_roi(path)]


def roi_path(root: Path, subject: str, roi: str, hemisphere: str = "") -> Path:
    """Volume of an ROI; hemisphere '' (both merged), 'lh' or 'rh'."""
    return roi_dir(root, subject) / (
        f"{hemisphere}.{roi}.nii.gz" if hemisphere else f"{roi}.nii.gz"
    )


def betas_dir(root: Path, subject: str, preparation: str) -> Path:
    """Folder of a subject's betas of one preparation, one file a session."""
    return root / "nsddata_betas" / "ppdata" / subject / SPACE / preparation


def betas_path(
    root: Path, subject: str, preparation: str, session: int, suffix: str = ".hdf5"
) -> Path:
    """Betas of one session (1-based) in the container named by the suffix, one of BETA_SUFFIXES."""
    return betas_dir(root, subject, preparation) / f"betas_session{session:02d}{suffix}"


def ncsnr_path(root: Path, subject: str, preparation: str) -> Path:
    """Volume (X, Y, Z) of the noise ceiling signal-to-noise ratio."""
    return betas_dir(root, subject, preparation) / "ncsnr.nii.gz"


def noise_free_path(root: Path, subject: str, preparation: str) -> Path:
    """Noise-free responses; only a simulated tree has this file."""
    return betas_dir(root, subject, preparation) / "noise_free.hdf5"


def manifest_path(root: Path, subject: str) -> Path:
    """List of the files of one subject that the download stage answers for; not a file of NSD."""
    return root / "nsddata_betas" / "ppdata" / subject / MANIFEST_NAME


def stimuli_manifest_path(root: Path) -> Path:
    """The same for pictures, annotations and design."""
    return root / "nsddata_stimuli" / MANIFEST_NAME


def stimuli_folders(root: Path) -> tuple[Path, ...]:
    """Folders that hold nothing but pictures, annotations and design."""
    return root / "nsddata_stimuli", root / "nsddata" / "experiments"


def subject_folders(root: Path, subject: str) -> tuple[Path, ...]:
    """Folders that hold nothing but files of one subject."""
    return (
        manifest_path(root, subject).parent,
        ppdata_dir(root, subject),
        labels_dir(root, subject).parent,
    )


def labels_dir(root: Path, subject: str) -> Path:
    """Folder of the tables that name the labels of the ROIs."""
    return root / "nsddata" / "freesurfer" / subject / "label"


def ctab_path(root: Path, subject: str, roi: str) -> Path:
    """Label names of an ROI, one 'id name' pair a line, '0 Unknown' included."""
    return labels_dir(root, subject) / f"{roi}.mgz.ctab"
