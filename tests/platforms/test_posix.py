"""Where macOS differs from Linux under the same names: syncs, the machine's identity, names that ignore case."""

import ctypes
import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.runs.workspace import Workspace
from engine.runtime import allocator
from engine.storage import filesystem, processes
from engine.storage.filesystem import disk, other_spelling
from engine.storage.holder import Holder, this_process
from engine.storage.lock import KernelLock
from tesla_tui.process import detached
from tesla_tui.web import peer
from tesla_tui.web.server import choose_token
from tests.runs import digits_workspace

FULLFSYNC, GETPATH = 51, 50


def on_mac(monkeypatch: pytest.MonkeyPatch, control: Callable[[int, int, Any], Any]) -> None:
    """The names of fcntl(2) that only macOS has, and what they do."""
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULLFSYNC, raising=False)
    monkeypatch.setattr(fcntl, "F_GETPATH", GETPATH, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command, argument=0: control(descriptor, command, argument))


def test_a_sync_reaches_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain: list[int] = []
    monkeypatch.setattr(os, "fsync", plain.append)
    on_mac(monkeypatch, lambda descriptor, command, _: asked.append(command))
    disk.fsync(tmp_path)
    assert (asked, plain) == ([FULLFSYNC], [])


def test_a_file_system_without_full_syncs_gets_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, command: int, argument: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    plain: list[int] = []
    monkeypatch.setattr(os, "fsync", plain.append)
    on_mac(monkeypatch, refused)
    disk.fsync(tmp_path)
    assert len(plain) == 1


def test_a_disk_error_of_a_full_sync_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, *_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", lambda _: None)  # the error is reported once
    on_mac(monkeypatch, broken)
    with pytest.raises(filesystem.DiskError, match="reports an error"):
        disk.fsync(tmp_path)


def test_a_moved_lock_is_found_by_its_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def path_of(descriptor: int, command: int, argument: bytes) -> bytes:
        found = Path(f"/proc/self/fd/{descriptor}").readlink()
        return os.fsencode(str(found).removesuffix(" (deleted)")).ljust(len(argument), b"\0")

    on_mac(monkeypatch, path_of)
    before, after = tmp_path / "lock", tmp_path / "moved"
    with KernelLock(before) as lock:
        assert lock.place == before
        before.rename(after)
        assert lock.place == after
        after.unlink()
        assert lock.place is None, "its last name, which is another file's or none"
        after.touch()
        assert lock.place is None


def test_the_machine_is_the_same_in_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class System:
        """libc, as far as it is asked."""

        @staticmethod
        def sysctlbyname(name: bytes, buffer: Any, *_: Any) -> int:
            if name != b"kern.bootsessionuuid":
                return -1
            buffer.value = b"3D2F1C7E"
            return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: System())
    monkeypatch.setattr(Path, "read_text", missing)
    names = []
    for host in ("box.local", "box.fritz.box"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        names.append(processes.this_machine.__wrapped__())
    assert names == ["3D2F1C7E", "3D2F1C7E"]
    assert processes.mac_fact("kern.unknown") == ""


def missing(path: Path) -> str:
    raise FileNotFoundError(path)


def test_a_driver_is_stopped_after_its_host_changed_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = workspace_in(tmp_path).run("r")
    driver = this_process("token")
    killed = []
    monkeypatch.setattr(detached, "driver_of", lambda _: Holder(**{**driver.__dict__, "host": "the name before"}))
    monkeypatch.setattr(detached, "driver_alive", lambda _: True)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    assert detached.ask_to_stop(run) == os.getpid() and killed == [os.getpid()]
    monkeypatch.setattr(detached, "driver_of", lambda _: Holder(**{**driver.__dict__, "machine": "another"}))
    with pytest.raises(UsageError, match="on another machine"):
        detached.ask_to_stop(run)


def workspace_in(folder: Path) -> Workspace:
    return digits_workspace(folder / "ws")


@pytest.fixture
def ignoring_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that finds a name in any case, and lists the one it was made with."""
    stat = os.stat

    def found(path: Any, **options: Any) -> os.stat_result:
        try:
            return stat(path, **options)
        except FileNotFoundError:
            folder, name = Path(path).parent, Path(path).name
            for entry in os.listdir(folder):  # noqa: PTH208 (it is what Path would call)
                if entry.casefold() == name.casefold():
                    return stat(folder / entry, **options)
            raise

    monkeypatch.setattr(os, "stat", found)


def test_a_run_is_not_taken_for_one_in_other_case(tmp_path: Path, ignoring_case: None) -> None:
    workspace = workspace_in(tmp_path)
    (workspace.folder / "runs" / "Paper").mkdir(parents=True)
    assert workspace.run("Paper").name == "Paper" and workspace.run("new").name == "new"
    with pytest.raises(UsageError, match=r"There is a run Paper, .* distinguish it from paper") as refused:
        workspace.run("paper")
    assert refused.value.hint == "Use --run Paper, or another name."


def test_other_case_is_another_name_where_the_file_system_says_so(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    for name in ("Paper", "paper"):
        (workspace.folder / "runs" / name).mkdir(parents=True)
        assert workspace.run(name).name == name
    assert other_spelling(tmp_path / "missing" / "x") == ""


def test_serve_asks_for_a_token_where_users_are_not_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "TABLES", (tmp_path / "missing",))
    assert choose_token("127.0.0.1", None) is not None
    (tmp_path / "missing").touch()
    assert choose_token("127.0.0.1", None) is None


def test_doctor_knows_whether_the_memory_policy_has_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError("no such library")

    assert allocator.has_policies()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not allocator.has_policies()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # musl has a library of that name without it
    assert not allocator.has_policies()
