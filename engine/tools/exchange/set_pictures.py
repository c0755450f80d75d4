"""Distilled sets as pictures: a folder per class (SRe2L, RDED, our own exports), or Parquet with an image column.

Pictures are brought to the dataset's size as its own are. Their classes are the folders' names, or the numbers in them
(`new000`, `00000`), which are class numbers in the order of their maker.
"""

import hashlib
import io
import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from engine.data.decoding.pictures import decoded, load_picture, opened, to_square
from engine.data.sources import natural_key
from engine.errors import CorruptFileError, DataError, UsageError
from engine.events import Event, Progress
from engine.storage.filesystem import format_bytes
from engine.storage.reading import is_file, paths_in, told_reads
from engine.storage.untrusted import open_regular
from engine.tools.exchange.set_choice import Shape
from engine.tools.exchange.set_files import EXPORTS
from engine.tools.exchange.set_tree import Tree
from engine.tools.exchange.torch_reader import STAGE, SourceFile, examine, file_size

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"))
NUMBERED = re.compile(r"(.*?)(\d+)")
OURS = re.compile(r"\d+-(.+)")
"""A folder's name in an export of this program: number and name of the class."""


def read_pictures(
    path: Path, shape: Shape, names: Sequence[str]
) -> Generator[Event, None, tuple[Tree, list[SourceFile], dict[str, str], list[str]]]:
    """Pictures as tensors `images` uint8 `(N, C, H, W)` and `labels`, with the names of their classes if they have any.

    Args:
        path: a folder, or a Parquet file.
        shape: of the dataset's images.
        names: of the dataset's classes.

    Returns:
        The tensors, the sources, what each is, and what was left out, as text.

    Raises:
        UsageError: nothing of the kind is there.
        DataError: a picture cannot be read, or a class has none.
    """
    tables = [path] if is_file(path) else [*paths_in(path, ".parquet"), *paths_in(path / "data", ".parquet")]
    if tables:
        return (yield from _read_tables(tables, shape))
    return (yield from _read_folders(path, shape, names))


def _read_folders(
    path: Path, shape: Shape, names: Sequence[str]
) -> Generator[Event, None, tuple[Tree, list[SourceFile], dict[str, str], list[str]]]:
    root = next((path / inner for inner in ("train", "images") if (path / inner).is_dir()), path)
    inside = [child for child in root.iterdir() if not child.name.startswith(".")]
    # Plain string order, which is what ImageFolder numbers classes in.
    folders = sorted((child for child in inside if child.is_dir()), key=lambda child: child.name)
    left_out = [f"{child.name}: beside the class folders" for child in inside if not child.is_dir()][:3]
    left_out += [f"{child.name}: beside {root.name}" for child in path.iterdir() if root != path and child != root][:3]
    files = [_pictures_of(folder, left_out) for folder in folders]
    if not folders or not any(files):
        raise UsageError(
            f"{path} holds no distilled set: no {', '.join(EXPORTS)}, Parquet or folders of pictures.",
            "Give the file of the images, or a folder with one subfolder of pictures per class.",
        )
    empty = [folder.name for folder, inner in zip(folders, files, strict=True) if not inner]
    if empty:
        raise DataError(f"The class folder {root / empty[0]} has no pictures.", "Add them, or remove the folder.")
    numbers = _numbers([folder.name for folder in folders], names, root)
    total, done = sum(map(len, files)), 0
    digest, size, sizes = hashlib.sha256(), 0, set()
    images: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    for folder, inner in zip(folders, files, strict=True):
        for picture in inner:
            loaded = _loaded(picture)
            sizes.add(loaded.size)
            images.append(to_square(loaded, shape.channels, shape.side))
            with told_reads(picture):
                content = picture.read_bytes()
            digest.update(f"{folder.name}/{picture.name} {hashlib.sha256(content).hexdigest()}\n".encode())
            size += len(content)
            done += 1
            yield Progress(stage=STAGE, done=done, total=total, unit="images", detail=f"reading {folder.name}")
    tree = Tree()
    tree.tensors["images",] = torch.from_numpy(np.stack(images))
    tree.tensors["labels",] = torch.tensor([k for k, inner in zip(numbers[0], files, strict=True) for _ in inner])
    if numbers[1] is not None:
        tree.texts["classes",] = numbers[1]
    if not all(OURS.fullmatch(folder.name) for folder in folders):
        left_out.append("soft labels per epoch, which SRe2L and RDED train with: not in the pictures, so not kept")
    if sizes != {(shape.side, shape.side)}:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:3])
        left_out.append(f"size: pictures of {shown} were brought to {shape.side}x{shape.side}")
    source = SourceFile(path, size, digest.hexdigest(), False)
    return tree, [source], {path.name: f"{total} pictures in {len(folders)} class folders"}, left_out


def _pictures_of(folder: Path, left_out: list[str]) -> list[Path]:
    found = []
    for child in sorted(paths_in(folder), key=lambda child: natural_key(child.name)):
        if child.name.startswith("."):
            continue
        if is_file(child) and child.suffix.lower() in SUFFIXES:
            found.append(child)
        elif len(left_out) < 6:
            left_out.append(f"{folder.name}/{child.name}: not a picture")
    return found


def _loaded(path: Path) -> Any:
    try:
        return load_picture(path)
    except DataError as error:
        raise DataError(error.message, "Remove it, or replace it.") from error


def _numbers(folders: list[str], names: Sequence[str], root: Path) -> tuple[list[int], tuple[str, ...] | None]:
    """The class number of every folder, and the class names in the order of these numbers; None if they have none."""
    known = set(names)
    ours = [match[1] if (match := OURS.fullmatch(name)) else name for name in folders]
    for called in (folders, ours):
        if len(set(called) & known) == len(called):
            return list(range(len(folders))), tuple(called)
    numbered = [match for name in folders if (match := NUMBERED.fullmatch(name))]
    if len(numbered) == len(folders) and len({match[1] for match in numbered}) == 1:
        numbers = [int(match[2]) for match in numbered]
        if sorted(numbers) == list(range(len(names))):
            return numbers, None
        if len(numbers) < len(names) and max(numbers) < len(names):
            absent = min(set(range(len(names))) - set(numbers))
            raise DataError(f"{root} has no folder for class number {absent}.", "Every class needs its pictures.")
    return list(range(len(folders))), tuple(ours)


def _read_tables(
    tables: list[Path], shape: Shape
) -> Generator[Event, None, tuple[Tree, list[SourceFile], dict[str, str], list[str]]]:
    sources: list[SourceFile] = []
    rows: list[dict[str, Any]] = []
    called: tuple[str, ...] | None = None
    total, done = sum(map(file_size, tables)), 0
    for table in tables:
        source = yield from examine(table, done, total)
        done += source.bytes
        sources.append(source)
        names, found = _table(table)
        called = called or names
        rows += found
    columns = list(rows[0]) if rows else []
    image = next((name for name in columns if name in ("image", "img")), None)
    label = next((name for name in ("soft_label", "label", "labels") if name in columns), None)
    if image is None or label is None:
        raise DataError(
            f"{tables[0]} has the columns {', '.join(columns) or 'of no rows'}.", "A set needs `image` and `label`."
        )
    left_out = [f"column {name}" for name in columns if name not in (image, label)]
    images = []
    for number, row in enumerate(rows):
        images.append(_square(row[image], shape, f"{tables[0].name}, row {number}"))
        yield Progress(stage=STAGE, done=number + 1, total=len(rows), unit="images", detail="reading Parquet")
    tree = Tree()
    tree.tensors["images",] = torch.from_numpy(np.stack(images))
    try:
        tree.tensors["labels",] = torch.tensor([row[label] for row in rows])
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"The column {label} of {tables[0]} is not numbers.", "A label is a class number.") from error
    if called is not None:
        tree.texts["classes",] = called
    return tree, sources, {table.name: f"Parquet, labels from `{label}`" for table in tables}, left_out


def _table(path: Path) -> tuple[tuple[str, ...] | None, list[dict[str, Any]]]:
    """The names of the classes, if it has any, and the rows."""
    import pyarrow
    import pyarrow.parquet

    try:
        open_regular(path).close()
        groups = pyarrow.parquet.read_metadata(path)
        size = sum(groups.row_group(i).total_byte_size for i in range(groups.num_row_groups))
        if size > psutil.virtual_memory().available // 2:
            raise DataError(f"{path} claims {format_bytes(size)}, more than half of the free memory.")
        table = pyarrow.parquet.read_table(path)
        return _label_names(table.schema), table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, CorruptFileError) as error:
        first = " ".join(str(error).split())[:160]
        raise DataError(f"{path} cannot be read as Parquet ({first}).", "Download it again.") from error


def _square(value: Any, shape: Shape, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError(f"{where} has no picture in its file.", "Embed the pictures in the Parquet file.")
    try:
        with io.BytesIO(content) as file, opened(file) as picture:
            return to_square(decoded(picture, upright=True), shape.channels, shape.side)
    except Exception as error:  # Pillow raises any exception on damaged data
        raise DataError(f"{where} cannot be decoded ({error}).", "Write the file again.") from error


def _label_names(schema: Any) -> tuple[str, ...] | None:
    """Names of `ClassLabel` in the metadata that Hugging Face `datasets` writes."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = next(info[name]["names"] for name in ("label", "labels") if "names" in info.get(name, {}))
        return tuple(map(str, names))
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration, RecursionError):
        return None
