"""What a dataset's README.md says at its head: configurations and column types, as `datasets` reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.tables.arrow_tables import Features
from engine.errors import CorruptFileError, DataError
from engine.storage.untrusted import parse_json, read_bounded

MOST_README = 2**22
"""Bytes of a README.md."""


@dataclass(frozen=True)
class Readme:
    """The head of a README.md; empty if there is none."""

    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name of a configuration: `data_files`, `data_dir`, `default`."""
    types: Mapping[str, Features] = field(default_factory=dict)
    """Column types by configuration."""

    def types_of(self, config: str | None) -> Features:
        """The column types of a configuration; with None, of the only one."""
        if config is not None and config in self.types:
            return self.types[config]
        return next(iter(self.types.values())) if len(self.types) == 1 else {}


def read_readme(folder: Path) -> Readme:
    """Read README.md, and the older dataset_infos.json, in a dataset's folder.

    Raises:
        DataError: one of them cannot be read, or the tables of README.md are wrong.
    """
    path = folder / "README.md"
    if not path.is_file():
        return Readme(types=_infos(folder))
    try:
        text = read_bounded(path, MOST_README).decode(errors="replace")
        if not text.startswith("---") or not ("configs:" in text or "dataset_info:" in text):
            return Readme(types=_infos(folder))
        from datasets.info import DatasetInfosDict
        from datasets.load import DatasetCard
        from datasets.utils.metadata import MetadataConfigs

        card = DatasetCard(text, ignore_metadata_errors=True).data
        configs = dict(MetadataConfigs.from_dataset_card_data(card))
        infos = DatasetInfosDict.from_dataset_card_data(card)
        types = {str(config): info.features.to_dict() for config, info in infos.items() if info.features is not None}
        return Readme(configs, types or _infos(folder))
    except DataError:
        raise
    except Exception as error:  # of YAML, and of any value that the library did not expect
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> DataError:
    """Tables of README.md that the library for them refuses."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return DataError(
        f"The configurations in {path} cannot be read: {reason[0].rstrip('.')}.",
        "Correct its tables `configs` and `dataset_info`, or remove README.md to go by the names of files.",
    )


def _infos(folder: Path) -> dict[str, Features]:
    """Column types in dataset_infos.json.

    Raises:
        DataError: it cannot be read; without it, classes that it names would be numbers.
    """
    path = folder / "dataset_infos.json"
    if not path.is_file():
        return {}
    try:
        found = parse_json(read_bounded(path, MOST_README))
    except (OSError, CorruptFileError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}.", "Correct it, or remove it to read the classes without it."
        ) from error
    infos = found.items() if isinstance(found, dict) else ()
    types = {config: info.get("features") for config, info in infos if isinstance(info, dict)}
    return {config: features for config, features in types.items() if isinstance(features, dict)}
