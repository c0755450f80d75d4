"""Parquet that Hugging Face `datasets` loads: image, label, soft_label."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.storage.atomic import disk


def write_parquet(
    folder: Path,
    pictures: list[str],
    root: Path,
    labels: npt.NDArray[np.float32],
    classes: tuple[str, ...],
    ipc: int,
) -> None:
    """Write `folder/train-00000-of-00001.parquet`.

    Args:
        folder: where.
        pictures: PNG paths relative to `root`, ordered by class.
        root: the export's folder.
        labels: soft labels `(N, K)`.
        classes: K names.
        ipc: images per class.
    """
    import datasets

    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=_unique(classes)),
        soft_label=datasets.List(datasets.Value("float32"), length=len(classes)),
    )
    rows = {
        "image": [{"bytes": (root / name).read_bytes(), "path": name} for name in pictures],
        "label": [number // ipc for number in range(len(pictures))],
        "soft_label": labels.tolist(),
    }
    disk.make_folder(folder)
    table = datasets.Dataset.from_dict(rows, features=features).with_format("arrow")[:]
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    disk.write_parts(folder / "train-00000-of-00001.parquet", (memoryview(sink.getvalue()),))


def _unique(classes: tuple[str, ...]) -> list[str]:
    """ClassLabel needs distinct names; classes with the same name get their numbers."""
    return [name if classes.count(name) == 1 else f"{name} ({k})" for k, name in enumerate(classes)]
