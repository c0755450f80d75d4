"""Two at once: one drives, the other hears who and since when; whoever is dead holds nothing, whoever lost it stops."""

import errno
import fcntl
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.data import cache, space
from engine.data.cache import prepare_dataset
from engine.data.request import DataRequest
from engine.errors import BusyError, DataError, DiskError, LostHoldError, UsageError
from engine.events import Event, IterationDone, Progress, RunStarted, TeacherPublished, TeachersPlanned
from engine.runs.lease import acquire_run
from engine.runs.liveness import is_driven
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive, teach
from engine.storage.atomic import disk
from engine.storage.filesystem import System
from engine.storage.holder import Holder, read_holder, this_process
from engine.storage.lock import LeaseLock
from engine.storage.processes import process_alive, start_ticks, this_machine
from engine.tools.exchange.export import exporting
from tests.conftest import TINY

Drive = Callable[..., Run]
NO_LOCKS = [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS]


@pytest.fixture(params=["locks", "no locks"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system with locks, and one without."""
    if request.param == "no locks":
        without_locks(monkeypatch, errno.ENOLCK)
    return str(request.param)


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dead is believed so after half a second."""
    monkeypatch.setattr("engine.storage.beats.LATE", 0.5)


def a_hold(folder: Path) -> LeaseLock:
    return LeaseLock(folder / ".lock", folder / "owner.json")


def owner_file(path: Path, **facts: Any) -> None:
    mine = psutil.Process()
    known = {
        "pid": mine.pid,
        "host": "far-box",
        "since": time.time() - 60,
        "user": "ada",
        "machine": "far",
        "token": "t",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(Holder(**{**known, **facts}))))


@contextmanager
def touched(path: Path) -> Iterator[None]:
    """A holder on another machine that lives: its clock may be anything, the file changes."""
    stop = threading.Event()

    def touch() -> None:
        n = 0
        while not stop.wait(0.05):
            n += 1
            os.utime(path, (1000 + n, 1000 + n))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


HOLDER = """
import errno, fcntl, os, sys, time
from pathlib import Path
if sys.argv[2] == "no locks":
    def refuse(*_): raise OSError(errno.ENOLCK, "no locks")
    fcntl.flock = refuse
from engine.storage.lock import LeaseLock
folder = Path(sys.argv[1])
print(LeaseLock(folder / ".lock", folder / "owner.json").try_acquire(), flush=True)
time.sleep(600)
"""


@contextmanager
def holder(folder: Path, kind: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the thing."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "None"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_one_holds_and_the_other_hears_who(tmp_path: Path, either: str) -> None:
    with holder(tmp_path, either) as process:
        owner = a_hold(tmp_path).try_acquire()
        assert owner is not None
        assert (owner.pid, owner.host, owner.user) == (process.pid, socket.gethostname(), getpass.getuser())
        assert abs(owner.since - time.time()) < 60 and owner.released is None
        assert f"process {process.pid} on {socket.gethostname()} of {getpass.getuser()} since 20" in owner.words
        process.kill()
        process.wait()
        mine = a_hold(tmp_path)
        assert mine.try_acquire() is None, "the dead hold nothing"
        mine.check()
        mine.release()
        last = read_holder(tmp_path / "owner.json")
        assert last is not None and last.released is not None
    again = a_hold(tmp_path)
    assert again.try_acquire() is None
    again.release()


@pytest.mark.slow
@pytest.mark.parametrize("number", NO_LOCKS, ids=lambda number: errno.errorcode[number])
def test_without_locks_one_of_many_gets_through(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, number)
    for attempt in range(4):
        if attempt % 2:  # over the record of a dead process, which all of them want to replace
            owner_file(tmp_path / "owner.json", pid=2**22 + 1, machine=this_machine(), host=socket.gethostname())
        start = threading.Barrier(8)
        holds = [a_hold(tmp_path) for _ in range(8)]
        found: list[Holder | None] = [None] * 8

        def take(i: int, start: threading.Barrier = start, holds: list[LeaseLock] = holds) -> None:
            start.wait()
            found[i] = holds[i].try_acquire()  # noqa: B023 - joined below

        threads = [threading.Thread(target=take, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [i for i in range(8) if found[i] is None]
        assert len(winners) == 1, (attempt, winners)
        holds[winners[0]].check()
        holds[winners[0]].release()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "owner.json"]


def test_a_reused_pid_is_not_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.ENOLCK)
    here = {"machine": this_machine(), "host": socket.gethostname()}
    started = psutil.Process().create_time()
    owner_file(tmp_path / "owner.json", started=started, **here)
    assert a_hold(tmp_path).try_acquire() is not None  # this very process
    owner_file(tmp_path / "owner.json", started=started - 3600, **here)  # the same number, an hour ago
    hold = a_hold(tmp_path)
    assert hold.try_acquire() is None
    hold.release()


def test_a_process_that_may_not_be_read_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = psutil.Process()
    started, ticks = mine.create_time(), start_ticks(mine.pid)

    def denied(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "status", denied)
    assert process_alive(mine.pid, started, ticks)
    monkeypatch.setattr("engine.storage.processes.start_ticks", lambda pid: None)  # as on macOS
    assert process_alive(mine.pid, started, ticks)
    assert not process_alive(mine.pid, started - 60, ticks)
    monkeypatch.setattr(psutil.Process, "create_time", denied)
    assert process_alive(mine.pid, started, ticks)


def test_a_clock_that_was_set_kills_no_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch, errno.ENOLCK)
    mine = this_process("t")
    assert mine.ticks is not None
    here = {"machine": mine.machine, "host": mine.host}
    owner_file(tmp_path / "owner.json", started=mine.started - 3600, ticks=mine.ticks, **here)
    assert a_hold(tmp_path).try_acquire() is not None  # this very process
    owner_file(tmp_path / "owner.json", started=mine.started, ticks=mine.ticks - 1, **here)  # one before it
    hold = a_hold(tmp_path)
    assert hold.try_acquire() is None
    hold.release()


@pytest.mark.slow
def test_another_host_is_believed_while_its_file_changes(tmp_path: Path, either: str, quick: None) -> None:
    """Its lock may not reach here. No clock is trusted: the file's times may be of any year."""
    record = tmp_path / "owner.json"
    owner_file(record)
    hold = a_hold(tmp_path)
    with touched(record):
        until = time.monotonic() + 2
        while time.monotonic() < until:
            owner = hold.try_acquire()
            assert owner is not None and owner.host == "far-box"
            time.sleep(0.02)
        assert hold.alive
    begun = time.monotonic()
    while hold.try_acquire() is not None:
        time.sleep(0.02)
        assert time.monotonic() - begun < 60
    assert time.monotonic() - begun > 0.4, "given up too soon"
    hold.release()


def test_a_holder_that_was_given_up_notices(tmp_path: Path, either: str) -> None:
    hold = a_hold(tmp_path)
    assert hold.try_acquire() is None
    owner_file(tmp_path / "owner.json", token="another")
    with pytest.raises(LostHoldError, match="taken over by process"):
        hold.check()
    hold.release()
    left = read_holder(tmp_path / "owner.json")
    assert left is not None and left.token == "another" and left.released is None, "another's record was written over"


@pytest.mark.parametrize("how", ["ENOSPC", "EDQUOT"])
def test_a_refused_record_leaves_no_file(
    tmp_path: Path, either: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    class Full(System):
        def write(self, descriptor: int, data: bytes | memoryview) -> int:
            raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)))

    monkeypatch.setattr(disk, "system", Full())
    with pytest.raises(DiskError):
        a_hold(tmp_path).try_acquire()
    assert not list(tmp_path.glob("*.tmp-*"))


@pytest.mark.slow
def test_a_damaged_record_keeps_others_out_only_while_it_beats(tmp_path: Path, either: str, quick: None) -> None:
    record = tmp_path / "owner.json"
    for number, text in enumerate((b"", b"{", b"[]", b'{"pid": []}', b"\xff" * 40), 1):
        record.write_bytes(text)
        hold = a_hold(tmp_path)
        with touched(record):
            for _ in range(20):
                assert hold.try_acquire() is not None
                time.sleep(0.05)
        begun = time.monotonic()
        while hold.try_acquire() is not None:
            time.sleep(0.02)
            assert time.monotonic() - begun < 60
        assert time.monotonic() - begun > 0.4, "given up too soon"
        hold.release()
        kept = [path for path in (tmp_path / "damaged").iterdir() if path.read_bytes() == text]
        assert len(kept) == 1 and len(list((tmp_path / "damaged").iterdir())) == number, "a damaged file was deleted"


def test_one_failed_read_gives_no_live_holder_away(
    tmp_path: Path, either: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system may answer ESTALE at any moment."""
    record = tmp_path / "owner.json"
    owner_file(record)
    before = record.read_bytes()

    def stale(path: Path) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with touched(record), monkeypatch.context() as patched:
        patched.setattr("engine.storage.holder.read_json", stale)
        assert a_hold(tmp_path).try_acquire() is not None
    assert record.read_bytes() == before


def test_one_failed_read_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = a_hold(tmp_path)
    assert hold.try_acquire() is None
    with monkeypatch.context() as patched:
        patched.setattr("engine.storage.holder.read_json", read_only)
        hold.check()
    hold.release()
    (tmp_path / "owner.json").write_text("{")
    a_hold(tmp_path).release()  # never acquired
    assert (tmp_path / "owner.json").read_text() == "{"


# --- runs


def begin(workspace: Workspace, run: Run, *changes: str) -> Any:
    return drive(workspace, run, workspace.settings(overrides=(*TINY, "distill.iterations=100000", *changes), run=run))


def until(events: Iterator[Event], kind: type[Event], count: int = 1) -> None:
    for event in events:
        count -= isinstance(event, kind)
        if not count:
            return


@pytest.mark.slow
def test_a_run_driven_on_another_host_is_refused(workspace: Workspace, tiny_run: Drive, quick: None) -> None:
    run = tiny_run("r")
    owner_file(run.folder / "driver.json")
    before = run.journal_file.read_bytes()
    with touched(run.folder / "driver.json"), pytest.raises(BusyError) as caught:
        until(begin(workspace, run), RunStarted)
    assert "process" in caught.value.message and "on far-box of ada since 20" in caught.value.message
    assert run.journal_file.read_bytes() == before
    events = begin(workspace, run)  # it died: its file stands still
    until(events, IterationDone)
    events.close()
    assert not is_driven(run)


@pytest.mark.slow
def test_a_second_driver_of_this_host_is_refused(
    workspace: Workspace, tiny_run: Drive, either: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.storage.lock.PATIENCE", 0.3)
    run = tiny_run("r")
    with run_to_end(acquire_run(run)):
        assert is_driven(run)
        match = f"already being driven by process {os.getpid()} on "
        with pytest.raises(BusyError, match=match), run_to_end(acquire_run(run)):
            pass
    assert not is_driven(run)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["renamed", "deleted", "taken over"])
def test_a_run_that_is_no_longer_ours_is_not_written_to(
    what: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("SOONEST", "RESTING"):  # a frame after every iteration
        monkeypatch.setattr(f"engine.runs.preview_writer.{pause}", 0)
    run = workspace.run("r")
    events = begin(workspace, run, "distill.checkpoint_every=1000000", "evaluate.every=1000000")
    until(events, IterationDone, 3)
    there = run.folder
    if what == "renamed":
        there = run.folder.rename(run.folder.with_name("better"))
    elif what == "deleted":
        shutil.rmtree(run.folder)
    else:
        owner_file(run.folder / "driver.json", token="another")
        journal = run.journal_file.read_bytes()
        run.heartbeat_file.write_text("another's")
    with pytest.raises((UsageError, BusyError)) as caught:
        until(events, RunStarted)
    if what == "renamed":
        assert f"was moved to {there}" in caught.value.message and "--run better" in caught.value.hint
        assert not run.folder.exists(), "its old place was made again"
        again = begin(workspace, Run(there))
        until(again, IterationDone)
        again.close()
    elif what == "deleted":
        assert "was deleted" in caught.value.message and not run.folder.exists()
    else:
        assert "taken over by process" in caught.value.message and "far-box" in caught.value.message
        lines = run.journal_file.read_bytes()[len(journal) :].decode().splitlines()
        assert not any("RunFailed" in line or "RunStopped" in line for line in lines)
        assert run.checkpoints() == [0], "a checkpoint was written over another's"
        assert run.heartbeat_file.read_text() == "another's"


@pytest.mark.slow
def test_a_workspace_that_is_moved_while_its_run_starts_is_not_made_again(workspace: Workspace, tmp_path: Path) -> None:
    events = begin(workspace, workspace.run("r"))
    next(events)
    workspace.folder.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="There is no folder"):
        list(events)
    assert not workspace.folder.exists()


# --- teachers


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TeachersPlanned, TeacherPublished])
def test_teachers_whose_workspace_is_moved_are_not_trained_elsewhere(
    workspace: Workspace, tmp_path: Path, kind: type[Event]
) -> None:
    moved = tmp_path / "moved"
    settings = workspace.settings(overrides=TINY).settings
    events = teach(workspace, settings)
    until(events, kind)
    workspace.folder.rename(moved)
    with pytest.raises(UsageError, match="was moved or deleted"):
        list(events)
    assert not workspace.folder.exists()
    list(teach(Workspace(moved), settings))
    assert len(list(moved.rglob("trajectory-*.safetensors"))) == settings.teachers.count


@pytest.mark.slow
def test_a_teacher_claimed_on_a_host_that_died_is_trained_here(
    workspace: Workspace, tiny_run: Drive, quick: None
) -> None:
    run = tiny_run("r", until=lambda event: isinstance(event, TeacherPublished))
    folder = next((workspace.folder / "buffers").iterdir())
    owner_file(folder / ".trajectory-0001.owner.json")
    settings = run.frozen().settings
    waited = []
    with touched(folder / ".trajectory-0001.owner.json"):
        events = teach(workspace, settings)
        for event in events:
            if isinstance(event, Progress) and event.detail.startswith("waiting for"):
                waited.append(event.detail)
                if len(waited) == 4:
                    break
    assert "on far-box of ada since 20" in waited[0]
    assert any(isinstance(event, TeacherPublished) and event.trajectory == 1 for event in events)


@pytest.mark.slow
def test_two_processes_share_the_teachers(workspace: Workspace, tiny_run: Drive, either: str) -> None:
    run = tiny_run("r", "teachers.count=6", until=lambda event: isinstance(event, RunStarted))
    settings = run.frozen().settings
    published: list[int] = []

    def work() -> None:
        for event in teach(workspace, settings):
            if isinstance(event, TeacherPublished):
                published.append(event.trajectory)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(published) == list(range(6)), "each is trained once"


# --- the dataset cache and exports


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_read_only_cache_opens_and_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_to_end(prepare_dataset(DataRequest("digits"), cache=tmp_path))
    monkeypatch.setattr(cache, "KernelLock", read_only)
    monkeypatch.setattr(space, "write_tensors", read_only)
    opened = run_to_end(prepare_dataset(DataRequest("digits"), cache=tmp_path))
    assert opened.fingerprint == made.fingerprint
    assert space.fit_space(opened, None, zca=False).tensors()["mean"].numel() == 1
    with pytest.raises(DataError, match=r"cannot be written.*TESLA_CACHE"):
        run_to_end(prepare_dataset(DataRequest("digits", resolution=16), cache=tmp_path))


def test_whoever_comes_second_waits_for_the_decoder(tmp_path: Path, either: str) -> None:
    first = prepare_dataset(DataRequest("digits"), cache=tmp_path)
    assert next(first) is not None  # in the middle of it
    second = prepare_dataset(DataRequest("digits"), cache=tmp_path)
    seen = next(second)
    if either == "locks":
        while not (isinstance(seen, Progress) and "another process" in seen.detail):
            seen = next(second)
    one = run_to_end(first)
    two = run_to_end(second)
    assert one.folder == two.folder and one.fingerprint == two.fingerprint
    assert not list(tmp_path.rglob("*.tmp-*"))


@pytest.mark.slow
def test_two_exports_to_one_folder(workspace: Workspace, tiny_run: Drive, tmp_path: Path) -> None:
    run = tiny_run("r")
    outcomes: list[object] = []
    start = threading.Barrier(2)

    def work() -> None:
        start.wait()
        try:
            outcomes.append(run_to_end(exporting(workspace, run, tmp_path / "out")))
        except UsageError as error:
            outcomes.append(error)

    with ExitStack() as stack:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
    assert sum(isinstance(outcome, UsageError) for outcome in outcomes) == 1
    assert (tmp_path / "out" / "recipe.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]
