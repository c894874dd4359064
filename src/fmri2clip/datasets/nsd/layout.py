"""Where every NSD file lies and which constants its format fixes.

Sources are named behind each constant: the NSD manual (cvnlab.slite.page), the scripts that wrote the release
(cvnlab/nsddatapaper: main/export.m, main/analysis_drawrois_*.m, main/analysis_surfaceroistovolume.m), Allen et al.
2022, and COCO (Lin et al. 2014). Every path function takes the root of the tree, the folder that holds `nsddata`,
`nsddata_betas` and `nsddata_stimuli`; subjects are written 'subj01'. Paths are returned whether or not they exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

SUBJECTS = tuple(f"subj{number:02d}" for number in range(1, 9))  # NSD manual, General information
SPACE = "func1pt8mm"  # the 1.8 mm volumes that the decoding literature uses
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

SESSIONS_RELEASED = (40, 40, 32, 30, 40, 32, 40, 30)  # subjects 1 to 8, everything public since 2023-08-20
SESSIONS_OLD37 = (37, 37, 29, 27, 37, 29, 37, 27)  # before the Algonauts sessions were released
NSDGENERAL_VOXELS = (15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)  # real tree, func1pt8mm
VOLUME_SHAPES = (  # X, Y, Z of func1pt8mm (nsdsetup.m)
    (81, 104, 83), (82, 106, 84), (81, 106, 82), (85, 99, 80),
    (79, 97, 78), (85, 113, 83), (78, 95, 81), (80, 103, 78),
)  # fmt: skip

OUTSIDE_CORTEX = -1  # ROI volumes (analysis_surfaceroistovolume.m): not in the cortical ribbon
UNLABELLED = 0  # in the ribbon, no label; labels are 1..N, so the test for a member is `> 0`
GENERAL_ROI = "nsdgeneral"
HEMISPHERES = ("lh", "rh")  # files lh.NAME.nii.gz and rh.NAME.nii.gz; NAME.nii.gz merges both

ROI_LABELS: dict[str, tuple[str, ...]] = {  # label k is entry k - 1 (analysis_drawrois_*.m; manual, ROIs)
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "prf-eccrois": ("ecc0pt5", "ecc1", "ecc2", "ecc4", "ecc4+"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "Kastner2015": (
        "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4", "VO1", "VO2", "PHC1", "PHC2", "MST", "hMT", "LO2", "LO1",
        "V3b", "V3a", "IPS0", "IPS1", "IPS2", "IPS3", "IPS4", "IPS5", "SPL1", "FEF",
    ),
}  # fmt: skip
UNNAMED_ROIS = {"HCP_MMP1": 180, "corticalsulc": 28}  # exist in the release; labels are used by number here

CSV_COLUMNS = (  # nsd_stim_info_merged.csv after its unnamed index column (manual, Experiments)
    "cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000",
    *(f"subject{s}" for s in range(1, 9)),
    *(f"subject{s}_rep{r}" for s in range(1, 9) for r in range(3)),
)  # fmt: skip
RESPONSE_COLUMNS = (  # responses.tsv, tab-separated (manual, Behavioral data)
    "SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND",
    "MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA",
)  # fmt: skip
COCO_SPLITS = ("train2017", "val2017")


class Category(NamedTuple):
    """One COCO object category: its id in the annotation files (1 to 90 with gaps), name and supercategory."""

    id: int
    name: str
    supercategory: str


_COCO = {  # instances_train2017.json, "categories" (Lin et al. 2014)
    "person": "1 person",
    "vehicle": "2 bicycle,3 car,4 motorcycle,5 airplane,6 bus,7 train,8 truck,9 boat",
    "outdoor": "10 traffic light,11 fire hydrant,13 stop sign,14 parking meter,15 bench",
    "animal": "16 bird,17 cat,18 dog,19 horse,20 sheep,21 cow,22 elephant,23 bear,24 zebra,25 giraffe",
    "accessory": "27 backpack,28 umbrella,31 handbag,32 tie,33 suitcase",
    "sports": "34 frisbee,35 skis,36 snowboard,37 sports ball,38 kite,39 baseball bat,40 baseball glove,"
    "41 skateboard,42 surfboard,43 tennis racket",
    "kitchen": "44 bottle,46 wine glass,47 cup,48 fork,49 knife,50 spoon,51 bowl",
    "food": "52 banana,53 apple,54 sandwich,55 orange,56 broccoli,57 carrot,58 hot dog,59 pizza,60 donut,61 cake",
    "furniture": "62 chair,63 couch,64 potted plant,65 bed,67 dining table,70 toilet",
    "electronic": "72 tv,73 laptop,74 mouse,75 remote,76 keyboard,77 cell phone",
    "appliance": "78 microwave,79 oven,80 toaster,81 sink,82 refrigerator",
    "indoor": "84 book,85 clock,86 vase,87 scissors,88 teddy bear,89 hair drier,90 toothbrush",
}
COCO_CATEGORIES: tuple[Category, ...] = tuple(  # index c of a label vector = position here (ids ascending)
    Category(int(entry.split(" ", 1)[0]), entry.split(" ", 1)[1], supercategory)
    for supercategory, entries in _COCO.items()
    for entry in entries.split(",")
)


def subject_number(subject: str) -> int:
    """1-based number of a subject name; 'subj03' -> 3. Unknown names raise ValueError."""
    if subject not in SUBJECTS:
        raise ValueError(f"subject {subject!r} is not in NSD; choose from {SUBJECTS[0]} ... {SUBJECTS[-1]}")
    return SUBJECTS.index(subject) + 1


def released_sessions(subject: str) -> int:
    """Number of sessions of a subject that are public today."""
    return SESSIONS_RELEASED[subject_number(subject) - 1]


def old37_sessions(subject: str) -> int:
    """Number of sessions of a subject in the first release (37 for the subjects that came for 40)."""
    return SESSIONS_OLD37[subject_number(subject) - 1]


def split_roi_name(name: str) -> tuple[str, str, str]:
    """'lh.floc-faces/OFA' -> ('lh', 'floc-faces', 'OFA'); hemisphere and label are '' when not given.

    Unknown ROI or label names raise ValueError. Labels of HCP_MMP1 and corticalsulc are numbers.
    """
    roi, _, label = name.partition("/")
    prefix, _, rest = roi.partition(".")
    hemisphere, roi = (prefix, rest) if prefix in HEMISPHERES else ("", roi)
    known = (*ROI_LABELS, *UNNAMED_ROIS)
    if roi not in known:
        raise ValueError(f"ROI {name!r} is not in NSD; choose from {', '.join(known)}")
    if label and label not in roi_labels(roi):
        raise ValueError(f"ROI {roi!r} has no label {label!r}; choose from {', '.join(roi_labels(roi))}")
    return hemisphere, roi, label


def roi_labels(roi: str) -> tuple[str, ...]:
    """Names of the labels 1..N of an ROI volume; the number itself where the release gives no name here."""
    if roi in UNNAMED_ROIS:
        return tuple(str(number) for number in range(1, UNNAMED_ROIS[roi] + 1))
    return ROI_LABELS[roi]


def experiments_dir(root: Path) -> Path:
    return root / "nsddata" / "experiments" / "nsd"


def expdesign_path(root: Path) -> Path:
    """MATLAB 5 file with masterordering, subjectim, sharedix, stimpattern, basiccnt."""
    return experiments_dir(root) / "nsd_expdesign.mat"


def stim_info_path(root: Path) -> Path:
    """CSV with one row per image of imgBrick: COCO id, split, crop."""
    return experiments_dir(root) / "nsd_stim_info_merged.csv"


def stimuli_dir(root: Path) -> Path:
    return root / "nsddata_stimuli" / "stimuli" / "nsd"


def stimuli_path(root: Path) -> Path:
    """HDF5 with imgBrick (images, height, width, 3) uint8."""
    return stimuli_dir(root) / "nsd_stimuli.hdf5"


def annotations_dir(root: Path) -> Path:
    """COCO annotation files; not in NSD's bucket, kept where nsd_access looks for them."""
    return stimuli_dir(root) / "annotations"


def instances_path(root: Path, split: str) -> Path:
    return annotations_dir(root) / f"instances_{split}.json"


def captions_path(root: Path, split: str) -> Path:
    return annotations_dir(root) / f"captions_{split}.json"


def ppdata_dir(root: Path, subject: str) -> Path:
    return root / "nsddata" / "ppdata" / subject


def responses_path(root: Path, subject: str) -> Path:
    return ppdata_dir(root, subject) / "behav" / "responses.tsv"


def volumes_dir(root: Path, subject: str) -> Path:
    return ppdata_dir(root, subject) / SPACE


def brainmask_path(root: Path, subject: str) -> Path:
    return volumes_dir(root, subject) / "brainmask.nii.gz"


def valid_path(root: Path, subject: str, session: int | None = None) -> Path:
    """0/1 mask of a session (1-based), or without a session the fraction of sessions in which a voxel is valid."""
    return volumes_dir(root, subject) / ("valid.nii.gz" if session is None else f"valid_session{session:02d}.nii.gz")


def roi_dir(root: Path, subject: str) -> Path:
    return volumes_dir(root, subject) / "roi"


def roi_path(root: Path, subject: str, roi: str, hemisphere: str = "") -> Path:
    """Volume of an ROI; hemisphere '' (both merged), 'lh' or 'rh'."""
    return roi_dir(root, subject) / (f"{hemisphere}.{roi}.nii.gz" if hemisphere else f"{roi}.nii.gz")


def betas_dir(root: Path, subject: str, preparation: str) -> Path:
    return root / "nsddata_betas" / "ppdata" / subject / SPACE / preparation


def betas_path(root: Path, subject: str, preparation: str, session: int, suffix: str = ".hdf5") -> Path:
    """Betas of one session (1-based) in the container named by the suffix, one of BETA_SUFFIXES."""
    return betas_dir(root, subject, preparation) / f"betas_session{session:02d}{suffix}"


def ncsnr_path(root: Path, subject: str, preparation: str) -> Path:
    return betas_dir(root, subject, preparation) / "ncsnr.nii.gz"


def noise_free_path(root: Path, subject: str, preparation: str) -> Path:
    """Noise-free responses; only a simulated tree has this file."""
    return betas_dir(root, subject, preparation) / "noise_free.hdf5"


def labels_dir(root: Path, subject: str) -> Path:
    return root / "nsddata" / "freesurfer" / subject / "label"


def ctab_path(root: Path, subject: str, roi: str) -> Path:
    """Label names of an ROI, one 'id name' pair a line, '0 Unknown' included."""
    return labels_dir(root, subject) / f"{roi}.mgz.ctab"
