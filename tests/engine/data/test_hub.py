"""Datasets of the hub, with the library's answers in place of a network: each failure has words of its own."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.data.registry import find_source
from engine.data.request import DataRequest
from engine.data.sources import OpenSource
from engine.errors import DataError, TeslaError, UsageError
from tests.engine.data.table_files import png, roles

Answers = Callable[..., None]


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.tables.hub._reachable", lambda: True)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """`answers(load_dataset=error or value, ...)` makes functions of the library do that."""
    import datasets

    def make(**functions: Any) -> None:
        for name, answer in functions.items():

            def call(*_: Any, answer: Any = answer, **__: Any) -> Any:
                if isinstance(answer, BaseException):
                    raise answer
                return answer

            monkeypatch.setattr(datasets, name, call)

    return make


def opened(name: str = "someone/pets", **settings: Any) -> OpenSource:
    return find_source(DataRequest(name, **settings)).open()


def loaded(config: str = "default", **splits: list[int]) -> Any:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list(
                [{"image": {"bytes": png(i), "path": None}, "label": label} for i, label in enumerate(labels)],
                features=features,
                info=datasets.DatasetInfo(features=features, config_name=config),
            )
            for split, labels in splits.items()
        }
    )


def test_a_hub_dataset_opens_as_a_table(answers: Answers) -> None:
    answers(load_dataset=loaded("full", train=[0, 1, 0], valid=[1, 0], test=[-1, -1]))
    found = opened()
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [0, 1, 0]
    assert found.train.image(2).getpixel((0, 0)) == 2
    assert roles(found) == {"train": "train", "valid": "test", "test": "unused"}
    assert found.listing.config is not None
    assert (found.listing.config.value, found.listing.config.why) == ("full", "the default of the hub's dataset")


def test_rows_that_are_only_pointed_at_are_gathered(answers: Answers) -> None:
    whole = loaded(train=[0, 1, 0, 1])
    whole["train"] = whole["train"].select([3, 0])
    answers(load_dataset=whole)
    found = opened()
    assert found.train.labels.tolist() == [1, 0]
    assert [found.train.image(i).getpixel((0, 0)) for i in (0, 1)] == [3, 0]


def test_a_configuration_is_asked_for(answers: Answers) -> None:
    missing = ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nExample:")
    answers(load_dataset=missing)
    with pytest.raises(UsageError, match=r"someone/pets has several configurations: a, b\. Set dataset\.config"):
        opened()
    unknown = ValueError("BuilderConfig 'aa' not found. Available: ['a', 'b']")
    answers(load_dataset=unknown)
    with pytest.raises(UsageError, match=r"dataset\.config = aa: .* has a, b\. Did you mean a\?"):
        opened(config="aa")
    answers(load_dataset=ValueError("BuilderConfig 'x' not found."), get_dataset_config_names=["default"])
    with pytest.raises(UsageError, match=r"has no configurations\. Remove dataset\.config"):
        opened(config="x")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_the_reason_given(answers: Answers, number: int) -> None:
    import datasets

    failed = datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset")
    failed.__cause__ = OSError(number, "Read-only file system", "/shared/hf/datasets/x.lock")
    answers(load_dataset=failed)
    with pytest.raises(DataError, match=r"cannot be written: /shared/hf/datasets/x\.lock \(Read-only.*Set HF_HOME"):
        opened()


def test_the_librarys_own_cache_on_a_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: Answers
) -> None:
    """The real `load_dataset`, of a file on this machine, where no folder can be made for its cache."""
    import datasets

    real = datasets.load_dataset
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "locked").mkdir()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "locked"))

    def load(*_: Any) -> Any:
        monkeypatch.setattr("os.makedirs", refuse)
        return real("csv", data_files=str(tmp_path / "rows.csv"), cache_dir=str(tmp_path / "locked" / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"cache of Hugging Face cannot be written: .*locked"):
        opened()


def error(kind: str, text: str) -> Exception:
    return type(kind, (Exception,), {})(text)


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (error("DatasetNotFoundError", "Dataset 'someone/pets' is a gated dataset on the Hub. You must be"),
         r"is gated: .*huggingface\.co/datasets/someone/pets.*hf auth login"),
        (error("HfHubHTTPError", "403 Client Error: Forbidden"), r"The hub refuses access.*HF_TOKEN"),
        (error("DatasetNotFoundError", "Dataset 'someone/pets' doesn't exist on the Hub or cannot be accessed."),
         r"no public dataset someone/pets\. Check its spelling.*private"),
        (error("DatasetNotFoundError", "Revision 'x' doesn't exist for dataset"), "no such revision"),
        (RuntimeError("Dataset scripts are no longer supported, but found pets.py"),
         r"is a script.*refs/convert/parquet.*dataset\.path"),
        (error("DataFilesNotFoundError", "No (supported) data files found"), "holds no files that are a table"),
        (error("NonMatchingSplitsSizesError", "[{'expected': 1}]"),
         r"incomplete or damaged.*hub/datasets--someone--pets"),
        (OSError(errno.ENOSPC, "No space left on device"), r"no room for someone/pets.*larger disk"),
        (ConnectionError("Name or service not known"), r"could not be downloaded.*Name or service.*Check the network"),
        (ValueError(""), "could not be downloaded.*ValueError"),
    ],
)  # fmt: skip
def test_every_refusal_has_its_sentence(answers: Answers, raised: Exception, words: str) -> None:
    answers(load_dataset=raised)
    with pytest.raises(DataError, match=words):
        opened()


def test_a_dataset_is_described_before_it_is_downloaded(answers: Answers) -> None:
    import datasets

    features = datasets.Features({"img": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    splits = {"train": SimpleNamespace(num_examples=50), "extra": SimpleNamespace(num_examples=9)}
    info = SimpleNamespace(splits=splits, features=features, download_size=12345)
    builder = SimpleNamespace(info=info, config=SimpleNamespace(name="full"))
    answers(load_dataset_builder=builder, load_dataset=AssertionError("downloaded"))
    source = find_source(DataRequest("someone/pets"))
    assert not source.local
    assert source.preview is not None
    preview = source.preview()
    assert [(split.name, split.role, split.count) for split in preview.listing.splits] == [
        ("train", "train", 50), ("extra", "unused", 9),
    ]  # fmt: skip
    assert [(column.name, column.role) for column in preview.listing.columns] == [("img", "image"), ("kind", "label")]
    assert preview.classes == ("cat", "dog")
    assert preview.download == 12345
    assert preview.listing.config is not None
    assert preview.listing.config.value == "full"
    info.splits, info.features, info.download_size = None, None, None
    assert source.preview().listing.splits == ()
    answers(load_dataset_builder=ConnectionError("no network"))
    with pytest.raises(TeslaError, match="no network"):
        source.preview()


def test_a_folder_of_the_same_name_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "pets").mkdir(parents=True)
    with pytest.raises(DataError, match="is both a local folder"):
        opened()


@pytest.mark.parametrize("reachable", [True, False])
def test_the_library_knows_that_the_hub_is_out_of_reach_only_while_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    """It was imported long ago, so the environment would be too late; and the network may come back."""
    import datasets
    from huggingface_hub import constants

    def flags() -> tuple[bool, bool]:
        return constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE

    def offline(*_: Any, **__: Any) -> Any:
        seen.append(flags())
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("engine.data.tables.hub._reachable", lambda: reachable)
    seen: list[tuple[bool, bool]] = []
    for name in ("load_dataset", "load_dataset_builder"):
        monkeypatch.setattr(datasets, name, offline)
    source = find_source(DataRequest("cifar10"))
    assert source.preview is not None
    for ask in (source.open, source.preview):
        with pytest.raises(DataError, match="could not be downloaded"):
            ask()
    assert seen == [(not reachable, not reachable)] * 2
    assert flags() == (False, False)
