"""Disks that refuse: too small for a stage, full in the middle of a save, limits on a file, read-only folders."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import DiskError
from engine.events import Notice
from engine.runs.workspace import Workspace
from engine.storage.atomic import write_bytes
from engine.storage.filesystem import System, disk, format_bytes
from tests.conftest import Drive
from tests.forks import ForkedTesla
from tests.torture.cases import INIT, RUN
from tests.torture.state import digests


def tesla(folder: Path, *arguments: str, limit: int | None = None) -> tuple[int, str]:
    """A command in a process of its own; `limit`: bytes a file of it may have."""
    environment = {**os.environ, "TESLA_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    process = ForkedTesla(*arguments, cwd=folder, env=environment, largest_file=limit)
    words = " ".join("".join(process.communicate()).split())
    assert "Traceback" not in words
    return process.wait(), words


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte; the cache's 130 kB, teachers and checkpoints of a tiny run need more than half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_in_words_and_the_same_command_goes_on(small_disk: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for folder in (whole, small_disk):
        assert tesla(folder, *INIT)[0] == 0
    assert tesla(whole, *RUN)[0] == 0
    code = 1
    # Room comes back little by little, so that the disk is full at another place each time.
    for ballast in (860, 640, 400):
        filler = small_disk / "filler"
        filler.unlink(missing_ok=True)
        filler.write_bytes(bytes(1000 * ballast))
        code, words = tesla(small_disk, *RUN, "--set", "compute.room=warn")
        if code == 0:
            break
        assert code == 1 and "not enough disk space for" in words.lower() and "same command again" in words
    (small_disk / "filler").unlink()
    assert tesla(small_disk, *RUN, "--set", "compute.room=warn")[0] == 0
    wanted, found = digests(whole), digests(small_disk)
    settings = "ws/runs/ipc-1/settings.toml"  # has compute.room
    assert {name: found.get(name) for name in wanted if name != settings} == {
        name: digest for name, digest in wanted.items() if name != settings
    }
    assert not list(small_disk.rglob("*.tmp-*"))


@pytest.mark.slow
def test_a_stage_that_has_no_room_does_not_begin(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(System):
        room = 1000

        def free(self, place: Path) -> int:
            return self.room

    monkeypatch.setattr(disk, "system", Small())
    with pytest.raises(DiskError, match=r"The teachers will take [\d.]+ kB in .*buffers.*, where 1\.0 kB are free"):
        tiny_run("a")
    notices: list[str] = []

    def told(event: object) -> bool:
        if isinstance(event, Notice):
            notices.append(event.message)
        return False

    tiny_run("b", "compute.room=warn", until=told)
    assert any(words.startswith("The teachers will take") for words in notices)
    assert any(words.startswith("The checkpoints will take") for words in notices)
    # The teachers are there now: only the checkpoints are counted.
    with pytest.raises(DiskError, match="The checkpoints will take"):
        tiny_run("c")


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_told(tmp_path: Path) -> None:
    assert tesla(tmp_path, *INIT)[0] == 0
    code, words = tesla(tmp_path, *RUN, limit=40_000)
    assert code == 1
    assert "may not become so large" in words and "kB" in words and "cache" in words
    assert "ulimit -f" in words and "disk space" not in words  # there is enough
    assert tesla(tmp_path, *RUN)[0] == 0


def test_the_words_name_amount_place_and_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(System):
        def write(self, descriptor: int, data: bytes | memoryview) -> int:
            raise OSError(28, "No space left on device")

        def free(self, place: Path) -> int:
            return 12_000

    monkeypatch.setattr(disk, "system", Full())
    with pytest.raises(DiskError) as caught:
        write_bytes(tmp_path / "x.json", bytes(1_500_000))
    assert "It takes 1.5 MB; 12.0 kB are free there." in caught.value.message
    assert str(tmp_path) in caught.value.message and "same command again" in caught.value.hint
    assert caught.value.errno == 28 and not list(tmp_path.iterdir())
    assert format_bytes(999) == "999 bytes" and format_bytes(2_500_000_000_000) == "2.5 TB"


def test_a_line_that_does_not_fit_leaves_no_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nearly(System):
        taken = 0

        def write(self, descriptor: int, data: bytes | memoryview) -> int:
            self.taken += 1
            if self.taken == 2:
                raise OSError(28, "No space left on device")
            return os.write(descriptor, data[:3])

    (tmp_path / "log").write_bytes(b"whole\n")
    monkeypatch.setattr(disk, "system", Nearly())
    with pytest.raises(DiskError):
        disk.append(tmp_path / "log", b"too long\n")
    assert (tmp_path / "log").read_bytes() == b"whole\n"


WRITE = """
import sys
from pathlib import Path
from engine.errors import DiskError
from engine.storage.atomic import write_bytes
try:
    write_bytes(Path(sys.argv[1]), b"x")
except DiskError as error:
    print(error.message)
"""


def test_a_folder_that_may_not_be_written(workspace: Workspace) -> None:
    # Root may write anywhere, unless it lays that right down.
    meek = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if meek and subprocess.run([*meek, "true"], capture_output=True).returncode != 0:
        pytest.skip("root that cannot lay its rights down may write anywhere")
    workspace.folder.chmod(0o500)
    try:
        command = [*meek, sys.executable, "-c", WRITE, str(workspace.folder / "runs" / "a")]
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        workspace.folder.chmod(0o700)
    assert "is not writable" in done.stdout, done
    assert not (workspace.folder / "runs").exists()
