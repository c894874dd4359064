"""Time and peak memory of reading COCO's largest annotation file: json.loads against our typed
decoding.

    # writes benchmarks/annotations.json; needs 0.6 GB of scratch disk
    python benchmarks/annotations.py

The file is made up, of the size of instances_train2017.json: 118,287 images and 860,001 annotations
with outlines of realistic length, about 450 MB. Each reader runs in a process of its own and keeps
what the pipeline needs: size of the picture, boxes, areas and categories of the images asked for.
They must agree. Memory is the peak resident set less that of a process that only imports; for the
mapped file it includes the pages of the file, which the system can take back.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from fmri2clip.datasets.nsd import layout  # noqa: E402
from fmri2clip.datasets.nsd.pictures import coco  # noqa: E402

N_IMAGES, N_ANNOTATIONS = 118_287, 860_001
N_WANTED = 37_000  # pictures of four subjects
N_POLYGONS = 3000  # different outlines; the file repeats them
SPLIT = "train2017"


def main() -> None:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_annotations(Path(folder))
        size = layout.instances_path(Path(folder), SPLIT).stat().st_size
        for name in READERS:
            command = [sys.executable, __file__, name, folder]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(3)
            ]
            results[name] = min(runs, key=lambda run: run["seconds"])
            print(name, results[name], flush=True)
    base = results.pop("imports")["peak_mib"]
    plain, ours = results["json.loads"], results["coco"]
    if plain["digest"] != ours["digest"]:
        raise ValueError("the two readers disagree")
    table = {
        "file_mib": round(size / 2**20),
        "annotations": N_ANNOTATIONS,
        "imports_peak_mib": base,
        "readers": results,
        "time_ratio": round(plain["seconds"] / ours["seconds"], 2),
        "memory_ratio": round((plain["peak_mib"] - base) / (ours["peak_mib"] - base), 2),
    }
    print(json.dumps(table, indent=1))
    (ROOT / "benchmarks" / "annotations.json").write_text(json.dumps(table, indent=1) + "\n")


def write_annotations(root: Path) -> None:
    """instances_train2017.json and captions_train2017.json below the root, line by line."""
    rng = random.Random(0)
    polygons = [json.dumps(_polygon(rng)) for _ in range(N_POLYGONS)]
    categories = [category.id for category in layout.COCO_CATEGORIES]
    layout.annotations_dir(root).mkdir(parents=True)
    with layout.instances_path(root, SPLIT).open("w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        names = (
            {
                "license": 3,
                "file_name": f"{i:012d}.jpg",
                "coco_url": f"http://images/{SPLIT}/{i:012d}.jpg",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm/{i}.jpg",
                "id": i,
            }
            for i in range(1, N_IMAGES + 1)
        )
        file.write(", ".join(json.dumps(image) for image in names))
        file.write('], "annotations": [')
        for k in range(N_ANNOTATIONS):
            box = [round(rng.uniform(0, limit), 2) for limit in (400, 300, 200, 150)]
            # The random draws come in the order of the fields.
            polygon = polygons[rng.randrange(N_POLYGONS)]
            category = rng.choice(categories)
            area = box[2] * box[3] * 0.6
            head = f'{{"segmentation": {polygon}, "area": {area:.4f}, "iscrowd": 0, '
            tail = f'"image_id": {1 + k % N_IMAGES}, "bbox": {box}, '
            end = f'"category_id": {category}, "id": {k}}}'
            file.write((", " if k else "") + head + tail + end)
        file.write('], "categories": []}')
    captions = [{"image_id": i, "id": i, "caption": "A picture."} for i in range(1, N_IMAGES + 1)]
    layout.captions_path(root, SPLIT).write_text(json.dumps({"annotations": captions}))


def _polygon(rng: random.Random) -> list[list[float]]:
    """Outline of some 25 corners on average, long ones rare, as drawn by hand."""
    n_corners = 4 + int(rng.expovariate(1 / 22))
    return [[round(rng.uniform(0, 640), 2) for _ in range(2 * n_corners)]]


def read_json(root: Path) -> tuple[Any, Any]:
    """What the reader before did: the whole file as Python objects."""
    content = json.loads(layout.instances_path(root, SPLIT).read_bytes())
    sizes = {
        i["id"]: (float(i["width"]), float(i["height"]))
        for i in content["images"]
        if i["id"] <= N_WANTED
    }
    instances: dict[int, list[tuple[Any, ...]]] = {}
    for item in content["annotations"]:
        if item["image_id"] <= N_WANTED:
            kept = (item["category_id"], item["area"], *item["bbox"])
            instances.setdefault(item["image_id"], []).append(kept)
    return sizes, instances


def read_typed(root: Path) -> tuple[Any, Any]:
    sizes, found, _ = coco._read_splits(root, [SPLIT], set(range(1, N_WANTED + 1)))
    return sizes, {
        key: [(i.category_id, i.area, *i.bbox) for i in items] for key, items in found.items()
    }


READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "imports": lambda root: ({}, {}),
    "json.loads": read_json,
    "coco": read_typed,
}


def measure(name: str, root: Path) -> dict[str, float]:
    """Seconds, peak memory of this process, and a number that depends on all that was read."""
    start = time.perf_counter()
    sizes, instances = READERS[name](root)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    digest = sum(sum(row) for rows in instances.values() for row in rows) + sum(
        map(sum, sizes.values())
    )
    return {"seconds": round(seconds, 2), "peak_mib": round(peak), "digest": round(digest, 1)}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
