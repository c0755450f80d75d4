"""Parquet that Hugging Face `datasets` loads: image, label, soft_label."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.storage.atomic import disk
from engine.tools.exchange.card import distinct


def write_parquet(
    folder: Path,
    pictures: list[str],
    root: Path,
    labels: npt.NDArray[np.float32],
    classes: tuple[str, ...],
    ipc: int,
) -> str:
    """Write `folder/train-00000-of-00001-DIGEST.parquet`.

    The card names the file, so the card is another one for other contents: `datasets` takes what it has in its cache
    for another folder of the same name with an equal card.

    Args:
        folder: where.
        pictures: PNG paths relative to `root`, ordered by class.
        root: the export's folder.
        labels: soft labels `(N, K)`.
        classes: K names.
        ipc: images per class.

    Returns:
        The file's path, relative to `root`.
    """
    import datasets

    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=distinct(classes)),
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
    data = memoryview(sink.getvalue())
    path = folder / f"train-00000-of-00001-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    disk.write_parts(path, (data,))
    return path.relative_to(root).as_posix()
