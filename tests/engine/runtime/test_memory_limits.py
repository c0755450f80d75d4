"""Which bound on memory is to blame: the machine, a limit of the process, a control group."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runs.workspace import Workspace
from engine.runtime import memory_limits
from engine.runtime.memory_limits import Bound, memory_words, tightest_bound
from engine.runtime.out_of_memory import available_bytes, is_out_of_memory
from tests.forks import ROOT
from tests.processes import HANGS


def limited(*words: object, megabytes: int, kind: str = "RLIMIT_AS") -> "subprocess.CompletedProcess[str]":
    """A `tesla` command in a process with such a limit from its start on."""
    code = (
        f"import resource, sys; resource.setrlimit(resource.{kind}, ({megabytes * 10**6},) * 2)\n"
        "from tesla_tui.main import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], text=True, capture_output=True, timeout=HANGS, check=False,
        env={**os.environ, "COLUMNS": "400", "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("megabytes", [150, 300, 450, 600, 700])
def test_a_limit_below_what_libraries_need_is_named_and_nothing_aborts(workspace: Workspace, megabytes: int) -> None:
    done = limited("plan", workspace.folder, "--ipc", 1, megabytes=megabytes)
    assert done.returncode == 12, done
    assert "Traceback" not in done.stderr and "terminate called" not in done.stderr
    assert f"This process may have at most {megabytes} MB of address space (ulimit -v)" in done.stderr
    assert "Raise that limit: ulimit -v unlimited" in done.stderr and "machine" not in done.stderr


def test_what_needs_no_library_works_under_the_same_limit(tmp_path: Path) -> None:
    assert limited("--version", megabytes=150).stdout.startswith("tesla ")
    assert limited("status", tmp_path / "none", megabytes=150).returncode == 2


def group(root: Path, folder: str, **files: int | str) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (root / folder / name.replace("__", ".")).write_text(f"{value}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_and_those_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(memory_limits, "GROUPS", tmp_path)
    listed = "4:memory:/job/step\n0::/\n" if version == 1 else "0::/job/step\n"
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *a, **k: listed if str(path) == "/proc/self/cgroup" else real(path, *a, **k)
    )
    most, used = (
        ("memory__limit_in_bytes", "memory__usage_in_bytes") if version == 1 else ("memory__max", "memory__current")
    )
    under = "memory/" if version == 1 else ""
    group(tmp_path, f"{under}job/step", **{most: 2**63 - 4096 if version == 1 else "max", used: 500})
    unlimited = tightest_bound()
    assert "control group" not in unlimited.words
    group(tmp_path, f"{under}job", **{most: 900_000, used: 600_000})  # of the whole job
    assert tightest_bound() == Bound(
        300_000,
        "The control group (container, or job) of this process may have at most 900 kB, and 600 kB are taken.",
        "Start the container or job with more memory.",
    )
    assert available_bytes() == 300_000
    said, hint = memory_words(MemoryError())
    assert "The control group" in said and "machine" not in said and "more memory" in hint


def test_the_machine_is_named_where_it_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "_bounds", lambda: iter([Bound(5000)]))
    assert memory_words(RuntimeError("tried to allocate\nmore"))[0] == (
        "Out of memory: tried to allocate. 5.0 kB of the machine's memory are free."
    )


def test_libraries_that_cannot_be_mapped_are_out_of_memory() -> None:
    assert is_out_of_memory(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    assert not is_out_of_memory(ImportError("No module named 'torch'"))
