"""An outcome on disk: `studies/NAME/study.json` and `table.md`; pictures are left to callers that can draw."""

from pathlib import Path

from engine.runs.workspace import Workspace
from engine.storage.atomic import write_bytes, write_json
from engine.tools.studies.outcome import Outcome, markdown


def study_folder(workspace: Workspace, name: str) -> Path:
    """Where a study keeps its points and its outcome."""
    return workspace.folder / "studies" / name


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Publish table and numbers.

    Raises:
        OSError: the disk is full, or may not be written to.
    """
    write_json(folder / "study.json", outcome.as_json(), tidy=True)
    write_bytes(folder / "table.md", markdown(outcome).encode(), tidy=True)
