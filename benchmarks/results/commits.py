"""The commit of the code that made a run, which its journal does not have: `run` writes it beside the runs."""

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "commits.json"


def this_commit() -> str | None:
    """The commit of this checkout, with `+` where files differ from it; None outside of git."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return None
    if head.returncode or changed.returncode:
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def read_commits(folder: Path) -> dict[str, str]:
    """Commits by run; empty where none were written."""
    try:
        value = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return {str(run): str(commit) for run, commit in value.items()} if isinstance(value, dict) else {}


def write_commit(folder: Path, run: str) -> None:
    """Record this checkout's commit for a run, unless it was started by an earlier one."""
    commit, known = this_commit(), read_commits(folder)
    if commit is None or run in known:
        return
    draft = folder / f".{NAME}.draft"
    draft.write_text(json.dumps({**known, run: commit}, indent=1, sort_keys=True) + "\n")
    draft.replace(folder / NAME)
