"""How fast a large dataset is decoded, and in how much memory.

    python benchmarks/decoding.py [--images 1281167] [--files 40] [--side 64]

Writes Parquet files as the hub has them for ImageNet (JPEG files of noise, the same thousand again and again), decodes
them as `tesla run` does, and prints seconds by phase, images/s, processor time and peak memory as JSON. It needs about
3 kB of disk for an image of 64 pixels, and 12 kB for what is decoded; both are removed.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from engine.data import DataRequest, prepare_dataset
from engine.events import Progress
from engine.runtime.subprocesses import peak_bytes

CLASSES = 1000
KINDS = 1000
"""Different picture files."""


def noise_files(side: int) -> list[bytes]:
    """JPEG files of smooth noise, about as large as photographs of that size."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(KINDS):
        coarse = generator.integers(0, 256, (max(1, side // 4), max(1, side // 4), 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        made.append(file.getvalue())
    return made


def write_parquet(folder: Path, images: int, files: int, side: int) -> None:
    """Training images in `files` files, and one of each class for validation in one more."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet

    classes = min(CLASSES, images)
    names = [f"class {k}" for k in range(classes)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    schema = features.arrow_schema
    pictures = noise_files(side)
    per_file = -(-images // files)
    parts = [("train", i, min(per_file, images - i * per_file)) for i in range(files)]
    for split, number, count in [*parts, ("validation", 0, classes)]:
        rows = number * per_file + np.arange(count)
        data = pa.array([pictures[row % KINDS] for row in rows], pa.binary())
        image = pa.StructArray.from_arrays([data, pa.nulls(count, pa.string())], ["bytes", "path"])
        table = pa.Table.from_arrays([image, pa.array(rows % classes, pa.int64())], schema=schema)
        path = folder / f"{split}-{number:05}-of-{files:05}.parquet"
        # Neither deduplicated nor compressed: as large to read as files that all differ.
        pyarrow.parquet.write_table(table, path, row_group_size=100, use_dictionary=False, compression="none")


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: the temporary folder)")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_parquet(options.folder, options.images, options.files, options.side)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(folder / "hub")
        (folder / "parquet").mkdir()
        begun = time.monotonic()
        # In a process of its own, as it takes more memory than decoding.
        command = [sys.executable, __file__, *sys.argv[1:], "--write", "--folder", str(folder / "parquet")]
        subprocess.run(command, check=True)
        written, writing = time.monotonic() - begun, os.times()[2:4]
        phases, workers = measure(DataRequest("imagenet", path=folder / "parquet"), folder / "cache")
    total = sum(phases.values())
    own, children = os.times()[:2], np.subtract(os.times()[2:4], writing)
    print(
        json.dumps({
            "images": options.images, "side": options.side, "cores": len(os.sched_getaffinity(0)),
            "load average": round(os.getloadavg()[0], 1), "writing the files, s": round(written, 1),
            "phases, s": {phase: round(seconds, 1) for phase, seconds in phases.items()},
            "total, s": round(total, 1), "share of decoding": round(phases["decoding"] / total, 2),
            "images/s": round((options.images + min(CLASSES, options.images)) / phases["decoding"]),
            "processor time, s": {"this process": round(sum(own)), "decoding processes": round(sum(children))},
            "peak MB": {"this process": round(peak_bytes() / 1e6), "each decoding process": round(workers / 1e6)},
        }, indent=2)
    )  # fmt: skip


def measure(request: DataRequest, cache: Path) -> tuple[dict[str, float], int]:
    """Seconds by phase, and the greatest resident size of a decoding process, bytes."""
    phases: dict[str, float] = defaultdict(float)
    workers = 0
    looked = before = time.monotonic()
    phase = "looking at the files"
    for event in prepare_dataset(request, cache=cache):
        now = time.monotonic()
        phases[phase] += now - before
        before = now
        if isinstance(event, Progress):
            phase = "decoding" if event.detail.startswith("decoding") else event.detail.partition(",")[0]
        if now - looked > 1:
            looked = now
            for child in psutil.Process().children():
                workers = max(workers, child.memory_info().rss)
    phases[phase] += time.monotonic() - before
    return phases, workers


if __name__ == "__main__":
    main()
