"""What is said about a dataset before its download, and the report in terminals of any width."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from engine.data.report import Choice, ClassFacts, ColumnFacts, DataReport, LeftOut, Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Preview, Source
from engine.errors import DataError, UsageError
from engine.settings.datasets import DatasetFacts
from tesla_tui.render.data import report_words
from tesla_tui.render.words import one_line
from tests.engine.data.trees import make, resolved
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla

__all__ = ["tesla"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Preview]], None]:
    """`hub(preview)`: what the hub answers about any dataset."""

    def answering(preview: Callable[[], Preview]) -> None:
        def source(request: DataRequest, facts: DatasetFacts) -> Source:
            def opened() -> OpenSource:
                raise AssertionError("it was downloaded")

            return Source(request.name, f"Hugging Face {facts.hub}", "key", opened, local=False, preview=preview)

        monkeypatch.setattr("engine.data.tables.hub.hub_source", source)

    return answering


Hub = Callable[[Callable[[], Preview]], None]


def test_what_the_publisher_says_is_shown_before_a_download(tesla: Tesla, hub: Hub) -> None:
    splits = (SplitFacts("train", "train", 5000, "rows", "a split of the hub's dataset"),)
    columns = (ColumnFacts("img", "Image", "image", "the only one"), ColumnFacts("kind", "ClassLabel", "label"))
    listing = Listing(splits, Choice("small", "the default"), columns, notes=("Nothing is downloaded yet.",))
    hub(lambda: Preview(listing, ("cat", "dog"), 170_000_000))
    for words in (tesla("data", "someone/pets")[1], tesla("init", "ws", "--dataset", "someone/pets")[1]):
        text = one_paragraph(words)
        assert "opening it downloads it (170 MB)" in text
        for part in ("train 5,000 rows", "config small", "img Image", "Classes (2) cat, dog", "Nothing is downloaded"):
            assert part in text
    found = json.loads(tesla("data", "someone/pets", "--json")[1])
    assert (found["download_bytes"], found["classes"]) == (170_000_000, [{"name": "cat"}, {"name": "dog"}])
    assert found["splits"][0]["count"] == 5000


def test_without_a_network_the_published_sizes_are_there(tesla: Tesla, hub: Hub, tmp_path: Path) -> None:
    def offline() -> Preview:
        raise DataError("The hub cannot be reached.", "Check the network.")

    hub(offline)
    text = one_paragraph(tesla("data", "cifar10")[1])
    assert "50,000 training and 10,000 test images" in text and "The hub cannot be reached." in text

    def ambiguous() -> Preview:
        raise UsageError("It has the configurations a, b.", "Set dataset.config to one.")

    hub(ambiguous)
    code, _, err = tesla("init", "ws", "--dataset", "someone/pets")
    assert code == 2 and "Set dataset.config to one." in err
    assert not (tmp_path / "ws").exists()


def test_a_hub_dataset_is_not_downloaded_to_report_on_it(tesla: Tesla) -> None:
    code, out, _ = tesla("data", "cifar10")
    assert code == 0
    words = one_paragraph(out)
    assert "opening it downloads it" in words
    assert "10 classes, 50,000 training and 10,000 test images, 32x32 RGB" in words
    assert "--download" in words
    code, out, _ = tesla("data", "someone/pets", "--json")
    assert code == 0
    assert json.loads(out)["download"] is True


def full_report(classes: int) -> DataReport:
    """A report in which every part is there."""
    return DataReport(
        name="pets",
        source="pets, Parquet files in /data/a/rather/long/path/of/pets",
        listing=Listing(
            splits=(
                SplitFacts(
                    "train", "train", 10 * classes, "rows", "its file names begin with train", ("train-0.parquet",)
                ),
                SplitFacts("validation", "test", 3 * classes, "rows", "test has no labels"),
                SplitFacts("test", "unused", 99, "rows", "every label is -1"),
            ),
            config=Choice("plain", "the only one"),
            columns=(
                ColumnFacts("img", "Image", "image", "the only column of images"),
                ColumnFacts("species", "ClassLabel", "label", "the only column of classes"),
                ColumnFacts("price", "float64", "unused"),
            ),
            class_order="the feature's names",
            left_out=(LeftOut("3 broken links", 3, "they lead nowhere", ("a", "b", "c"), "dataset.x = true"),),
            notes=("Some note.",),
        ),
        classes=tuple(ClassFacts(f"class {k}", 10, 3 + k % 2) for k in range(classes)),
        modes={"RGB": 900, "L": 50, "P": 3, "RGBA": 1},
        sizes={f"{k} x {k + 1}": 5 for k in range(40, 60)},
        looked=954,
        total=13 * classes,
        channels=Choice("3", "some are in colour"),
        resolution=Choice("64", "dataset.resolution"),
        value_range=Choice("0..255", "8-bit images"),
        fit=Choice("crop", "the longer side is cut on both ends"),
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_part_of_a_long_report_is_drawn_in_any_width(width: int) -> None:
    def drawn(*, short: bool) -> str:
        console = Console(width=width, file=io.StringIO(), color_system=None)
        console.print(report_words(full_report(1000), short=short), highlight=False)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        return text

    whole, short = drawn(short=False), drawn(short=True)
    assert len(whole.splitlines()) < 60 and len(short.splitlines()) < len(whole.splitlines())
    words = one_paragraph(whole)
    for part in (
        "every label is -1",
        "price",
        "class 7 ",
        "class 999",
        "--json lists all 1,000 classes",
        "of 954 that were looked at",
    ):
        assert part in words
    assert "price" not in short and "class 999" not in short
    for text in (words, one_paragraph(short)):
        assert "3 broken links: they lead nowhere (a, b, c). To take them: dataset.x = true" in text
        assert "Some note." in text and "species" in text and "test has no labels" in text


def test_a_class_with_a_line_break_in_its_name_stays_on_its_line(tmp_path: Path) -> None:
    report = resolved(make(tmp_path, "a\nb", "c")).report
    console = Console(width=100, file=io.StringIO(), highlight=False)
    for short in (False, True):
        console.print(report_words(report, short=short))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count(one_line("a\nb")) == 2
    assert "\n" not in one_line("a\nb")
