"""Readers of class lists, and of tables of strangers: class names, column types, configurations."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine.data import DataRequest, find_source
from engine.data.class_list import read_class_list
from engine.data.resolve import resolve
from engine.errors import DataError, TeslaError
from tests.fuzz.mutations import as_json, edited, edits
from tests.fuzz.reader import Reader, Spoil, any_damage, json_edits

KNOWN = ("cat", "dog", "C #", "a = b", "#1", "cafe\u0301", "x" * 300, "=" * 50)


def lay_class_list(folder: Path) -> None:
    (folder / "classes.txt").write_text("# mine\ndog\ncat = pet\n#1\n\na = b = letters\ncaf\u00e9\n", encoding="utf-8")


def read_a_class_list(folder: Path) -> None:
    choice = read_class_list(folder / "classes.txt", KNOWN)
    assert len(choice.names) == len(set(choice.names)) >= 2
    assert sorted(set(choice.numbers.tolist()) - {-1}) == list(range(len(choice.names)))


ROWS = 24


def rows() -> dict[str, list[Any]]:
    pixels = [np.full((4, 4), 10 * i, dtype=np.uint8).tolist() for i in range(ROWS)]
    return {"image": pixels, "label": [i % 2 for i in range(ROWS)], "kind": ["cat", "dog"] * (ROWS // 2)}


def features() -> dict[str, Any]:
    return {
        "image": {"shape": [4, 4], "dtype": "uint8", "_type": "Array2D"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        "kind": {"dtype": "string", "_type": "Value"},
    }


def write_table(path: Path, types: Any, names: list[str]) -> None:
    """A Parquet file whose metadata say `types`, and whose column of texts has these names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {**rows(), "kind": [names[i % len(names)] for i in range(ROWS)]}
    columns["image"] = pa.array(columns["image"], pa.list_(pa.list_(pa.uint8())))
    table = pa.table(columns).replace_schema_metadata({"huggingface": as_json({"info": {"features": types}})})
    pq.write_table(table, path)


def lay_table(folder: Path) -> None:
    (folder / "data").mkdir()
    write_table(folder / "data/train-00000-of-00001.parquet", features(), ["cat", "dog"])


def metadata_edits() -> Spoil:
    """Column types in a Parquet file's metadata say something else; class names are any texts."""

    def apply(changes: Any, names: list[str]) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            write_table(folder / "data/train-00000-of-00001.parquet", edited(features(), changes), names)

        return change

    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    hostile = st.sampled_from(["", "\x1b]52;c;x\x07", "\u202e", "../../x", "a" * 70_000, "[red]", "=x", "#"])
    return st.builds(apply, edits, st.lists(texts | hostile, min_size=1, max_size=6))


def read_source(request: DataRequest) -> None:
    """Everything that decoding reads of a source, but for the decoding."""
    data = resolve(find_source(request), request)
    assert all(isinstance(name, str) for name in data.classes)
    split, index = data.train.split, data.train.index
    assert split.labels[index].min() >= 0 and split.labels[index].max() < len(data.classes)
    for i in map(int, index):
        for look in (split.header, split.file, split.image, split.name):
            if look is not None:
                with suppress(DataError):
                    look(i)


def read_a_table(folder: Path) -> None:
    last: TeslaError | None = None
    for label in ("label", "kind"):
        try:
            read_source(DataRequest("someone/pets", path=folder / "data", label_column=label))
        except TeslaError as error:
            last = error
    if last is not None:
        raise last


CARD = {
    "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
    "dataset_info": {
        "features": [
            {"name": "image", "dtype": {"array2_d": {"shape": [4, 4], "dtype": "uint8"}}},
            {"name": "label", "dtype": {"class_label": {"names": {"0": "cat", "1": "dog"}}}},
        ]
    },
}


def card(tables: Any) -> bytes:
    """A README.md with these tables at its head."""
    head = tables.items() if isinstance(tables, dict) else [("configs", tables)]
    lines = [key.encode(errors="replace") + b": " + as_json(value) for key, value in head]  # YAML reads JSON
    return b"\n".join([b"---", *lines, b"---", b""])


def lay_card(folder: Path) -> None:
    lay_table(folder)
    (folder / "README.md").write_bytes(card(CARD))
    infos = {"default": {"features": features(), "splits": {"train": {"name": "train", "num_examples": ROWS}}}}
    (folder / "dataset_infos.json").write_text(json.dumps(infos))


def card_edits() -> Spoil:
    def apply(changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            (folder / "README.md").write_bytes(card(edited(CARD, changes)))

        return change

    return st.builds(apply, edits)


def read_card(folder: Path) -> None:
    read_source(DataRequest("someone/pets", path=folder, label_column="label"))


@cache
def saved_bytes() -> dict[str, bytes]:
    """The files of `save_to_disk`."""
    import tempfile

    import datasets

    folder = Path(tempfile.mkdtemp())
    types = datasets.Features(
        {"image": datasets.Array2D((4, 4), "uint8"), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    columns = {name: column for name, column in rows().items() if name in types}
    datasets.Dataset.from_dict(columns, features=types).save_to_disk(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


SAVED = ("state.json", "dataset_info.json", "data-00000-of-00001.arrow")


def lay_saved(folder: Path) -> None:
    (folder / "saved").mkdir()
    for name, data in saved_bytes().items():
        (folder / "saved" / name).write_bytes(data)


def read_saved(folder: Path) -> None:
    read_source(DataRequest("someone/pets", path=folder / "saved"))


TABLES = (
    Reader("class list", lay_class_list, any_damage("classes.txt"), read_a_class_list),
    Reader("names in Parquet", lay_table, metadata_edits(), read_a_table, share=0.25),
    Reader(
        "README of a dataset", lay_card,
        any_damage("README.md", "dataset_infos.json") | card_edits() | json_edits("dataset_infos.json"), read_card,
        share=0.25,
    ),
    Reader(
        "save_to_disk", lay_saved,
        any_damage(*(f"saved/{name}" for name in SAVED)) | json_edits("saved/state.json", "saved/dataset_info.json"),
        read_saved, share=0.25,
    ),
)  # fmt: skip
