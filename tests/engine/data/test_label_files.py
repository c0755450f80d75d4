"""Classes in tables beside the pictures: Hugging Face's metadata files, and tables whose columns are set."""

import json
from pathlib import Path

import pytest

from engine.errors import DataError, TeslaError, UsageError
from tests.engine.data.trees import make, opened, picture, resolved, roles, sizes, told, values


def table(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows as the extension says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        between = {".tsv": "\t"}.get(path.suffix, ",")
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join(between.join(map(str, line)) + "\n" for line in lines))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("folders", [("all",), ("cat", "dog")])
def test_a_column_may_tell_the_splits(tmp_path: Path, ending: str, folders: tuple[str, ...]) -> None:
    make(tmp_path, *folders, count=12 // len(folders))
    pictures = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    words = ["Train", "test", "training", "val"] * 3
    rows: list[dict[str, object]] = [
        {
            "file_name": path,
            "label": path.split("/")[0] if folders[1:] else ["cat", "dog"][i % 3 == 0],
            "part": words[i],
        }
        for i, path in enumerate(pictures)
    ]
    table(tmp_path / f"metadata.{ending}", rows)
    found = opened(tmp_path)
    assert roles(found.listing) == {"train": "train", "validation": "unused", "test": "test"}
    assert found.listing.splits[0].why.startswith("the column part; ")
    for split, role in ((found.train, "train"), (found.test, "test")):
        assert split is not None
        mine = [row for row in rows if str(row["part"]).lower().startswith(role)]
        assert [found.classes[number] for number in split.labels] == [row["label"] for row in mine]
    assert len(opened(tmp_path, train_split="all").train.labels) == 12
    table(tmp_path / f"metadata.{ending}", [{**row, "part": row["part"] if i else "?"} for i, row in enumerate(rows)])
    assert roles(opened(tmp_path).listing) == {"train": "train"}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_files_give_the_classes(tmp_path: Path, ending: str) -> None:
    make(tmp_path, "train", "test", count=6)
    for split in ("train", "test"):
        rows = [{"file_name": f"{i}.png", "label": ["dog", "cat"][i % 2]} for i in range(5)]
        table(tmp_path / split / f"metadata.{ending}", [*rows, {"file_name": "../train/0.png", "label": "dog"}])
    found = opened(tmp_path)
    assert found.classes == ("cat", "dog")
    assert sizes(found) == ({"cat": 2, "dog": 3}, {"cat": 2, "dog": 3})
    assert found.train.labels.tolist() == [1, 0, 1, 0, 1]
    assert told(found.listing)["2 pictures"] == ""
    assert told(found.listing)["2 rows"] == ""  # no way out of the table's folder


def test_one_metadata_file_for_all_splits_and_numbers_as_classes(tmp_path: Path) -> None:
    make(tmp_path, "data/train", "data/test", count=6)
    rows = [{"file_name": f"data/{split}/{i}.png", "label": [10, 9][i % 2]} for split in ("test", "train")
            for i in range(6)]  # fmt: skip
    table(tmp_path / "metadata.csv", rows)
    found = opened(tmp_path)
    assert found.classes == ("9", "10")
    assert roles(found.listing) == {"train": "train", "test": "test"}
    assert "numbers in the column label of metadata.csv" in found.listing.class_order
    assert values(found) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["labels.csv", "train.tsv", "all.jsonl"])
@pytest.mark.parametrize("column", ["{i}", "{i}.png", "pictures/{i}.png", ".\\pictures\\{i}.png"])
def test_any_table_whose_columns_are_set(tmp_path: Path, name: str, column: str) -> None:
    make(tmp_path, "pictures", count=8)
    rows = [{"id": column.format(i=i), "breed": "ab"[i % 2], "age": i} for i in range(8)]
    table(tmp_path / name, rows)
    with pytest.raises(DataError, match=rf"set dataset\.image_column.*{name} has the columns id, breed, age"):
        opened(tmp_path)
    with pytest.raises(UsageError, match=r"which column holds the classes.*id, breed, age.*dataset\.label_column"):
        opened(tmp_path, image_column="id")
    with pytest.raises(UsageError, match=r"dataset\.image_column"):
        opened(tmp_path, label_column="breed")
    with pytest.raises(UsageError, match="no table with id and race"):
        opened(tmp_path, image_column="id", label_column="race")
    found = opened(tmp_path, image_column="id", label_column="breed")
    assert sizes(found) == ({"a": 4, "b": 4}, None)


def test_tables_called_as_splits(tmp_path: Path) -> None:
    make(tmp_path, "pictures", count=8)
    for name, numbers in (("train", range(6)), ("val", range(6, 8))):
        table(tmp_path / f"{name}.csv", [{"id": i, "y": "ab"[i % 2]} for i in numbers])
    found = opened(tmp_path, image_column="id", label_column="y")
    assert sizes(found) == ({"a": 3, "b": 3}, {"a": 1, "b": 1})
    assert roles(found.listing) == {"train": "train", "validation": "test"}


def test_rows_without_a_class(tmp_path: Path) -> None:
    make(tmp_path, "train", count=8)
    labels = ["a", "b", "", "a", "b", "a", "b", None]
    table(tmp_path / "train" / "metadata.jsonl", [{"file_name": f"{i}.png", "label": v} for i, v in enumerate(labels)])
    assert opened(tmp_path).train.labels.tolist() == [0, 1, -1, 0, 1, 0, 1, -1]


def test_half_a_surrogate_pair_is_no_error(tmp_path: Path) -> None:
    """JSON can have one, files and UTF-8 cannot."""
    make(tmp_path, "train", count=8)
    rows = [{"file_name": f"{i}.png", "label": ["a", "b\ud800"][i % 2], "\udfff": "\ud800"} for i in range(8)]
    table(tmp_path / "train" / "metadata.jsonl", [*rows, {"file_name": "\ud800.png", "label": "a"}])
    found = opened(tmp_path)
    assert found.classes == ("a", "b\ufffd") and found.train.labels.tolist() == [0, 1] * 4
    assert any("\ufffd.png" in name for left in found.listing.left_out for name in left.examples)


def test_folders_and_metadata_must_agree(tmp_path: Path) -> None:
    root = make(tmp_path, "cat", "dog")
    rows = [{"file_name": f"{name}/{i}.png", "label": name} for name in ("cat", "dog") for i in range(5)]
    table(root / "metadata.csv", rows)
    assert any("says the same" in note for note in opened(root).listing.notes)
    table(root / "metadata.csv", [{**rows[0], "label": "dog"}, *rows[1:]])
    with pytest.raises(UsageError, match=r"do not agree on the class of cat/0\.png.*label_column = label"):
        opened(root)
    assert sizes(opened(root, label_column="label"))[0] == {"cat": 4, "dog": 6}
    table(root / "metadata.csv", [{"file_name": "cat/0.png", "text": "a cat", "size": 3}])
    assert any("Classes are the folders" in note for note in opened(root).listing.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,label\n0.png,a\n0.png,b\n", "has two classes: a in .* and b"),
        ("file_name,label\nx.png,a\n", r"No row of .*metadata\.csv names a picture.*'x\.png'"),
        ("file_name,label,label\n0.png,a,b\n", "two columns have the same name"),
        ('file_name,label\n"0.png,a\n', "cannot be read as a table"),
        ("file_name,x,y\n0.png,a,b\n", r"which column holds the classes.*dataset\.label_column"),
        ("a,b\n0.png,a\n", r"dataset\.image_column.*metadata\.csv has the columns a, b"),
    ],
)
def test_wrong_tables_say_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    make(tmp_path, "", count=4)
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(TeslaError, match=words):
        opened(tmp_path)


def test_a_column_that_is_set_without_any_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset\.label_column = y has no effect"):
        opened(make(tmp_path, "a", "b"), label_column="y")


def test_a_list_is_no_class(tmp_path: Path) -> None:
    make(tmp_path, "", count=4)
    table(tmp_path / "metadata.jsonl", [{"file_name": f"{i}.png", "label": [1, 2]} for i in range(4)])
    with pytest.raises(DataError, match="column label: it holds list values"):
        opened(tmp_path)


def test_decoded_pixels_and_labels_belong_together(tmp_path: Path) -> None:
    make(tmp_path, "all", count=10)
    table(tmp_path / "metadata.csv", [{"file_name": f"all/{i}.png", "label": i % 2} for i in reversed(range(10))])
    data = resolved(tmp_path)
    assert data.classes == ("0", "1")
    assert values(opened(tmp_path)) == list(range(9, -1, -1))
    assert sorted([*data.train.index, *data.test.index]) == list(range(10))


def test_paths_in_tables_without_extensions_below_a_folder_of_the_table_or_absolute(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        for i in range(6):
            picture(tmp_path / f"pets/{folder}/{i:03}.png", i)
    columns = {"image_column": "id", "label_column": "breed"}
    for folder in ("train", "test"):
        rows = "".join(f"{i:03},{'ab'[i % 2]}\n" for i in range(6))
        (tmp_path / f"pets/{folder}.csv").write_text(f"id,breed\n{rows}")
    assert sizes(opened(tmp_path / "pets", **columns)) == ({"a": 3, "b": 3}, {"a": 3, "b": 3})
    for folder in ("train", "test"):
        (tmp_path / f"pets/{folder}.csv").unlink()
    rows = "".join(f"{folder}/{i:03},{'ab'[i % 2]}\n" for folder in ("train", "test") for i in range(6))
    (tmp_path / "pets/labels.csv").write_text(f"id,breed\n{rows}")
    assert sizes(opened(tmp_path / "pets", **columns)) == ({"a": 3, "b": 3}, {"a": 3, "b": 3})
    (tmp_path / "pets/labels.csv").unlink()
    for place in (tmp_path / "pets", Path("/data/elsewhere")):
        lines = [json.dumps({"file_name": f"{place}/train/{i:03}.png", "label": "ab"[i % 2]}) for i in range(6)]
        (tmp_path / "pets/metadata.jsonl").write_text("\n".join(lines))
        if place.exists():
            assert sizes(opened(tmp_path / "pets"))[0] == {"a": 3, "b": 3}
        else:
            with pytest.raises(DataError, match=r"/data/elsewhere.*dataset\.image_column = file_name"):
                opened(tmp_path / "pets")


def test_rows_that_repeat_a_picture_are_told(tmp_path: Path) -> None:
    make(tmp_path, "")
    rows = "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(5))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}{rows}")
    found = opened(tmp_path)
    assert len(found.train.labels) == 5
    assert "5 rows" in told(found.listing)


def test_a_table_that_is_not_utf8_comes_with_the_command_that_converts_it(tmp_path: Path) -> None:
    make(tmp_path, "")
    (tmp_path / "metadata.csv").write_bytes("file_name,label\n0.png,thé\n1.png,eau\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"it is not UTF-8 \(byte 24\).*iconv"):
        opened(tmp_path)


def rows_of(tmp_path: Path, head: str, row: str) -> Path:
    """A folder of six pictures, and a metadata.csv with a row of each: `{i}` its number, `{k}` 0 or 1."""
    make(tmp_path, "", count=6)
    lines = [head, *(row.format(i=i, k=i % 2) for i in range(6))]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_cell_too_many_is_not_cut_off(tmp_path: Path) -> None:
    root = rows_of(tmp_path, "file_name,label", "{i}.png,Labrador, {k}")
    with pytest.raises(DataError, match=r'row 1: more cells than columns.*"," in quotes'):
        opened(root)
    assert opened(rows_of(tmp_path, "file_name,label", '{i}.png,"Labrador, {k}"')).classes == (
        "Labrador, 0",
        "Labrador, 1",
    )
    make(tmp_path / "train", "a", "b")
    (tmp_path / "train/boxes.csv").write_text("a\nb,c,d\n")  # a table that is not used
    assert len(opened(tmp_path / "train").classes) == 2


def test_columns_are_told_and_one_of_splits_is_not_ignored_silently(tmp_path: Path) -> None:
    found = opened(rows_of(tmp_path, "file_name,label,split", "{i}.png,c{k},train"))
    assert [(facts.name, facts.role) for facts in found.listing.columns] == [
        ("file_name", "image"), ("label", "label"), ("split", "unused"),
    ]  # fmt: skip
    path = tmp_path / "metadata.csv"
    path.write_text(
        path.read_text().replace("5.png,c1,train", "5.png,c1,test").replace("0.png,c0,train", "0.png,c0,test")
    )
    for asked, role in ((None, "split"), ("all", "unused")):
        columns = opened(tmp_path, train_split=asked).listing.columns
        assert [(facts.name, facts.role) for facts in columns][2:] == [("split", role)]


def test_classes_of_minus_one_and_one_say_what_numbers_below_0_are(tmp_path: Path) -> None:
    root = rows_of(tmp_path, "file_name,label", "{i}.png,{k}")
    path = root / "metadata.csv"
    path.write_text(path.read_text().replace("png,0", "png,-1"))
    with pytest.raises(DataError, match="Numbers below 0 are no classes"):
        opened(root)


def test_captions_are_not_taken_as_classes(tmp_path: Path) -> None:
    root = rows_of(tmp_path / "flat", "file_name,text", "{i}.png,picture {i}")
    with pytest.raises(UsageError, match="does not say which column holds the classes"):
        opened(root)
    make(tmp_path / "pets", "a", "b")
    lines = [f"{name}/{i}.png,a {name} with {i} legs" for name in "ab" for i in range(5)]
    (tmp_path / "pets/metadata.csv").write_text("\n".join(["file_name,text", *lines]))
    found = opened(tmp_path / "pets")
    assert found.classes == ("a", "b")
    assert any("Classes are the folders" in note for note in found.listing.notes)
    assert opened(rows_of(tmp_path / "kinds", "file_name,kind", "{i}.png,k{k}")).classes == ("k0", "k1")


def test_numbers_that_a_table_wrote_with_a_point_are_in_their_order(tmp_path: Path) -> None:
    make(tmp_path, "", count=6)
    rows = [f"{i}.png,{(2, 10)[i % 2]}.0" for i in range(6)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    found = opened(tmp_path)
    assert found.classes == ("2.0", "10.0")
    assert "the numbers in the column label" in found.listing.class_order
