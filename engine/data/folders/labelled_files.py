"""Pictures whose classes are in a table beside them, as Hugging Face's ImageFolder and Kaggle have them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.data.folders.filenames import extension, text_of
from engine.data.folders.label_files import (
    FILE_NAME,
    LabelFile,
    columns_of,
    label_of,
    label_paths,
    numeric_order,
    read_label_file,
)
from engine.data.folders.layout import Found, SplitFiles, read_layout, unwrapped
from engine.data.folders.tree import Tree, left_out
from engine.data.report import ColumnFacts
from engine.data.request import DataRequest
from engine.data.splits import ALL, KEYWORDS, find_splits, kind_of, split_words
from engine.errors import DataError, TeslaError, UnreadableFileError, UsageError

FEW = 3
"""Different values that may be classes, even where nearly every picture has its own."""


def read_tree(tree: Tree, request: DataRequest) -> Found:
    """Sort the pictures of a tree into splits and classes, by tables of labels if there are any, else by folders.

    Raises:
        DataError: what is there cannot be used.
        UsageError: it is ambiguous; the message names the setting that decides.
    """
    if request.image_column is not None:
        return _by_tables(tree, _with_column(tree, request.image_column, request.label_column), request)
    files = [read_label_file(tree, path) for path in label_paths(tree, stem="metadata")]
    files = [file for file in files if FILE_NAME in file.columns]
    if not files:
        if request.label_column is not None:
            raise _no_metadata(tree, request.label_column)
        return read_layout(tree, request)
    if request.label_column is not None or (layout := _layout(tree, request)) is None:
        return _by_tables(tree, files, request)
    labels = _label_column(files, request)
    if labels is None:
        layout.notes.append(
            f"Classes are the folders: {columns_of(files)}, none called label. To take one, set dataset.label_column."
        )
        return layout
    found = _by_tables(tree, files, request)
    differs = next((path for path, label in _pairs(found) if label not in (None, path.split("/")[-2])), None)
    if differs is not None:
        raise UsageError(
            f"{tree.shown(files[0].path)} and the folders do not agree on the class of {text_of(differs)}.",
            f"Set dataset.label_column = {labels} to take those of the table, or remove the table to take the folders.",
        )
    if len(layout.splits) == 1 and len(found.splits) > 1:  # a column tells them
        return found
    layout.notes.append(f"Classes are the folders; {text_of(files[0].path)} says the same.")
    return layout


def _pairs(found: Found) -> Iterable[tuple[str, str | None]]:
    for split in found.splits.values():
        yield from zip(split.paths, split.labels, strict=True)


def _layout(tree: Tree, request: DataRequest) -> Found | None:
    """What the folders say, if they say something."""
    try:
        found = read_layout(tree, request)
    except UnreadableFileError:
        raise
    except TeslaError:
        return None
    return found if len({label for _, label in _pairs(found)} - {None}) > 1 else None


def _no_metadata(tree: Tree, column: str) -> UsageError:
    tables = [read_label_file(tree, path) for path in label_paths(tree)[:5]]
    if not tables:
        return UsageError(
            f"dataset.label_column = {column} has no effect: {tree.shown('')} holds no table.",
            "Remove it, or add metadata.csv with the columns file_name and label.",
        )
    return UsageError(
        f"{tree.shown('')} has no metadata.csv, .jsonl or .parquet with a column {FILE_NAME}; {columns_of(tables)}.",
        "Set dataset.image_column to the column with the names of the pictures.",
    )


def _with_column(tree: Tree, image: str, label: str | None) -> list[LabelFile]:
    """The tables with the columns that were set.

    Raises:
        UsageError: there are none.
    """
    tables = [read_label_file(tree, path) for path in label_paths(tree)]
    fitting = [file for file in tables if image in file.columns and (label is None or label in file.columns)]
    if not fitting:
        wanted = image if label is None else f"{image} and {label}"
        have = columns_of(tables) if tables else "there are no .csv, .tsv, .jsonl or .parquet files"
        raise UsageError(
            f"{tree.shown('')} has no table with {wanted}: {have}.",
            "Set dataset.image_column and dataset.label_column to columns of one table.",
        )
    return fitting


def _label_column(files: list[LabelFile], request: DataRequest) -> str | None:
    """The column with the classes: what is set, else `label`, else the only one besides the pictures' if it repeats."""
    if request.label_column is not None:
        return request.label_column
    image = request.image_column or FILE_NAME
    common = [name for name in files[0].columns if name != image and all(name in file.columns for file in files)]
    if "label" in common or len(common) != 1 or len(files[0].columns) != 2:
        return "label" if "label" in common else None
    values = [str(row.get(common[0])) for file in files for row in file.rows]
    return None if len(set(values)) > max(FEW, len(values) / 2) else common[0]  # captions describe each picture


def _by_tables(tree: Tree, files: list[LabelFile], request: DataRequest) -> Found:
    image, label = request.image_column or FILE_NAME, _label_column(files, request)
    if label is None or not all(label in file.columns for file in files):
        wanted = f"has no column {label}" if label else "does not say which column holds the classes"
        raise UsageError(
            f"{tree.shown(files[0].path)} {wanted}: {columns_of(files)}.", "Set dataset.label_column to one of them."
        )
    find = _finder(tree, by_name=request.image_column is not None)
    labels: dict[str, str | None] = {}
    source: dict[str, str] = {}
    row_of: dict[str, Mapping[str, Any]] = {}
    lost, repeated = [], []
    for file in files:
        for number, row in enumerate(file.rows, 1):
            if None in row:  # cells without a column: a comma that is not quoted would cut a name
                raise DataError(
                    f"{tree.shown(file.path)}, row {number}: more cells than columns ({row.get(image)}, ...).",
                    f'Put cells with "{"," if extension(file.path) == "csv" else "tabs"}" in quotes.',
                )
            path = find(file, row.get(image))
            if path is None:
                lost.append(f"row {number} of {file.path}: {row.get(image)}")
                continue
            try:
                value = label_of(row.get(label))
            except ValueError as error:
                raise DataError(f"{tree.shown(file.path)}, column {label}: {error}.", "Set another column.") from error
            if path in labels and labels[path] != value:
                raise DataError(
                    f"{text_of(path)} has two classes: {labels[path]} in {text_of(source[path])} and {value} in "
                    f"{text_of(file.path)}.",
                    "Give each picture one row.",
                )
            if path in labels:
                repeated.append(f"row {number} of {file.path}: {row.get(image)}")
            labels[path], row_of[path] = value, row
            source.setdefault(path, file.path)
    if not labels:
        example = f" The first is {files[0].rows[0].get(image)!r}." if files[0].rows else ""
        raise DataError(
            f"No row of {tree.shown(files[0].path)} names a picture below {tree.shown('')}.{example}",
            f"The column {image} must hold paths relative to the table's folder"
            + (", or names that only one picture has." if request.image_column else "; to find pictures by their "
               f"names alone, set dataset.image_column = {image}."),
        )  # fmt: skip
    found = _sorted(tree, files, labels, source, lost, label)
    _tell_columns(found, files, image, label)
    if repeated:
        found.left_out.append(left_out("row", "rows", repeated, "a row before it says the same"))
    if len(found.splits) == 1 and request.train_split != ALL:
        _divide(found, row_of, [name for name in files[0].columns if name not in (image, label)])
    return found


def _tell_columns(found: Found, files: list[LabelFile], image: str, label: str) -> None:
    names = dict.fromkeys(name for file in files for name in file.columns)
    found.columns = tuple(
        ColumnFacts(name, "column of a table", "image" if name == image else "label" if name == label else "unused")
        for name in names
    )


def _sorted(
    tree: Tree,
    files: list[LabelFile],
    labels: dict[str, str | None],
    source: dict[str, str],
    lost: list[str],
    label: str,
) -> Found:
    shown = ", ".join(text_of(file.path) for file in files[:3])
    found = Found(root=unwrapped(tree.root))
    given = {value for value in labels.values() if value is not None}
    numbers = numeric_order(given)
    if numbers is not None:
        labels = {path: value if value in numbers else None for path, value in labels.items()}
        found.classes, found.order = tuple(numbers), f"the numbers in the column {label} of {shown}"
    prefix = len(found.root.path) + 1 if found.root.path else 0
    splits = find_splits([path[prefix:] for path in labels], file_names=False)
    root = found.root.path
    members = {split.name: ([_back(root, path) for path in split.paths], split.why) for split in splits.splits}
    if len(members) == 1 and len(files) > 1 and all(split_words(file.stem) for file in files):
        members = {}
        for part in find_splits([file.path.rpartition("/")[2] for file in files]).splits:
            own = {file.path for file in files if file.path.rpartition("/")[2] in part.paths}
            members[part.name] = ([path for path in labels if source[path] in own], part.why)
    for name, (paths, why) in members.items():
        sources = tuple(dict.fromkeys(text_of(source[path]) for path in paths))
        found.splits[name] = SplitFiles(paths, [labels[path] for path in paths], why, sources)
    found.notes += [f"Classes are the column {label} of {shown}.", *splits.notes]
    everything = [path for folder in tree.root.walk() for path in folder.own()]
    without = [path for path in everything if path not in labels]
    for what, paths, reason in (
        ("picture", without, f"no row of {shown} names it"),
        ("row", lost, "it names no picture of this folder"),
        ("picture", [_back(root, path) for path in splits.rest], "in no split"),
    ):
        if paths:
            found.left_out.append(left_out(what, f"{what}s", paths, reason))
    return found


def _divide(found: Found, row_of: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Divide the only split by a column, if every value of it is a usual word for a split, and there are several."""
    ((_, whole),) = found.splits.items()
    for column in columns:
        kinds = {path: kind_of(str(row_of[path].get(column)).strip().lower()) for path in whole.paths}
        present = set(kinds.values())
        if len(present) < 2 or not present <= set(KEYWORDS):
            continue
        found.splits = {}
        for kind in KEYWORDS:
            mine = [(path, label) for path, label in zip(whole.paths, whole.labels, strict=True) if kinds[path] == kind]
            if mine:
                paths, labels = map(list, zip(*mine, strict=True))
                found.splits[kind] = SplitFiles(paths, labels, f"the column {column}", whole.sources)
        found.columns = tuple(replace(one, role="split") if one.name == column else one for one in found.columns)
        return


def _back(root: str, path: str) -> str:
    return f"{root}/{path}" if root else path


def _finder(tree: Tree, *, by_name: bool) -> Callable[[LabelFile, object], str | None]:
    """A function from a table and a cell to the picture's path. Only pictures of the tree can be found.

    Args:
        tree: where to look.
        by_name: whether a path without its extension or its folders will do, if just one picture fits.
    """
    everything = [path for folder in tree.root.walk() for path in folder.own()]
    known = set(everything)
    short: dict[str, str | None] = {}
    names: dict[str, str | None] = {}
    if by_name:
        for path in everything:
            stem = path[: -len(extension(path)) - 1] if extension(path) else path
            short[stem] = None if stem in short else path
            for key in {path.rpartition("/")[2], stem.rpartition("/")[2]}:
                names[key] = None if key in names else path
    place = f"{tree.place.absolute()}/"

    def find(file: LabelFile, cell: object) -> str | None:
        text = str(cell).strip().replace("\\", "/") if isinstance(cell, str | int) else ""
        text = text.removeprefix(place)
        while text.startswith("./"):
            text = text[2:]
        # `train.csv` usually names the pictures in `train/`.
        near = [_back(file.folder, text), text, *([_back(file.folder, f"{file.stem}/{text}")] if by_name else [])]
        for path in near:
            if path in known:
                return path
            if short.get(path) is not None:
                return short[path]
        return names.get(text.rpartition("/")[2]) if by_name else None

    return find
