"""Tables for tests: Parquet files with small pictures, as several tools write them."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from engine.data.registry import find_source
from engine.data.request import DataRequest
from engine.data.sources import OpenSource

PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def png(value: int, side: int = 8) -> bytes:
    """A grey picture of one value."""
    file = io.BytesIO()
    Image.new("L", (side, side), value).save(file, "PNG")
    return file.getvalue()


def pictures(count: int, first: int = 0) -> pa.Array:
    """Pictures of the values from `first` on, as the hub stores them."""
    return pa.array([{"bytes": png((first + i) % 256), "path": None} for i in range(count)], PICTURE)


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, **options: Any) -> Path:
    """Write a Parquet file, with the types that `datasets` would write."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def named(*names: str) -> dict[str, Any]:
    """The type of a class label."""
    return {"names": list(names), "_type": "ClassLabel"}


def simple(path: Path, labels: Any, first: int = 0, **columns: Any) -> Path:
    """A file with the columns image and label."""
    values = labels if isinstance(labels, pa.Array) else pa.array(labels)
    return write(path, {"image": pictures(len(values), first), "label": values, **columns})


def opened(path: Path, name: str = "someone/pets", **settings: Any) -> OpenSource:
    """The opened source over local files."""
    return find_source(DataRequest(name, path=path, **settings)).open()


def roles(source: OpenSource) -> dict[str, str]:
    """The role of each split."""
    return {split.name: split.role for split in source.listing.splits}
