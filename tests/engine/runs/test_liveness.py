"""Whether a run is driven: by a process of this machine, and by one of another whose clock may show anything."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.errors import BusyError, UnreadableFileError, UsageError
from engine.runs.heartbeat import Heartbeat, heartbeat
from engine.runs.lease import acquire_run
from engine.runs.liveness import LOOK, driver_alive, driver_of, is_driven, liveness, watch_drivers
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.storage import beats
from engine.storage.atomic import disk
from engine.storage.beats import GAP, LATE, BeatWatcher, beating
from engine.storage.holder import Holder, this_process
from engine.storage.lock import KernelLock, is_locked
from engine.storage.processes import this_machine
from engine.tools.doctor import examine_workspace
from tesla_tui.process.detached import ask_to_stop, start_detached
from tesla_tui.watch.feed import RunFeed
from tests.faults import Refusing
from tests.processes import tesla_here

Drive = Callable[..., Run]
Tesla = Callable[..., tuple[int, str]]
CLOCKS: dict[str, Callable[[int], float]] = {
    "20 s behind": lambda n: time.time() - 20,
    "an hour ahead": lambda n: time.time() + 3600,
    "backwards": lambda n: 1e9 - 7 * n,
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Death is believed after half a second without a beat."""
    monkeypatch.setattr(beats, "LATE", 0.5)


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tesla:
    monkeypatch.setenv("COLUMNS", "300")

    return tesla_here(capsys, monkeypatch)


def far_record(run: Run, **facts: object) -> None:
    """What a driver on another machine leaves when it takes the run."""
    known = {"pid": 4711, "host": "elsewhere", "since": 1e9, "user": "ada", "machine": "elsewhere", "token": "t"}
    (run.folder / "driver.json").write_text(json.dumps(asdict(Holder(**{**known, **facts}))))  # type: ignore[arg-type]


def far_heartbeat(run: Run, clock: float) -> None:
    text = json.dumps(asdict(Heartbeat(pid=4711, host="elsewhere", beat=clock, moved=clock, stage="distillation")))
    temp = run.folder / ".far-heartbeat"
    temp.write_text(text)
    os.utime(temp, (clock, clock))
    temp.replace(run.heartbeat_file)


@contextmanager
def far_driver(run: Run, clock: Callable[[int], float], *, touches: bool = True, **facts: object) -> Iterator[None]:
    """A driver on another machine that lives, whose clock also stamps its files."""
    far_record(run, **facts)
    far_heartbeat(run, clock(0))
    stop = threading.Event()

    def beat() -> None:
        n = 0
        while not stop.wait(0.05):
            n += 1
            if touches:
                os.utime(run.folder / "driver.json", (clock(n), clock(n)))
            far_heartbeat(run, clock(n))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def look(run: Run) -> bool | None:
    for _ in watch_drivers([run], 30):
        pass
    return driver_alive(run)


def damage(run: Run) -> Path:
    path = run.folder / "checkpoints" / f"{max(run.checkpoints()):07d}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    return path


def files(folder: Path) -> dict[str, bytes]:
    """All but what the other driver writes."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and path.name not in (".pulse.json", ".far-heartbeat"):
                found[str(path)] = path.read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
def test_a_driver_on_another_machine(
    clock: Callable[[int], float], tiny_run: Drive, workspace: Workspace, tesla: Tesla, quick: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Seen alive while it beats, whatever its clock says, by all who ask; and dead soon after it stops."""
    run = tiny_run("r")
    damaged = damage(run)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process of this machine was signalled"))
    feed = RunFeed(run)
    with far_driver(run, clock):
        before = files(workspace.folder)
        assert look(run) is True and is_driven(run)
        assert liveness(run) == "running" and run_status(run).state == "running"
        end = time.monotonic() + 4 * beats.LATE
        while time.monotonic() < end:
            assert look(run) is True
            feed.poll()
            assert feed.state == "running" and feed.driver == driver_of(run)
            time.sleep(0.05)
        with pytest.raises(UsageError, match=r"on elsewhere of ada since .* on another machine"):
            ask_to_stop(run)
        with pytest.raises(UsageError, match="already being driven by process 4711 on elsewhere"):
            start_detached(workspace.folder, run, [])
        with (
            pytest.raises(BusyError, match="already being driven by process 4711 on elsewhere"),
            run_to_end(acquire_run(run)),
        ):
            pass
        code, said = tesla("stop", workspace.folder)
        assert code == 2 and "on another machine" in said
        code, said = tesla("status", workspace.folder)
        assert code == 0 and "running" in said
        code, said = tesla("doctor", workspace.folder, "--repair")
        assert code == 1 and damaged.name in said and "It is running now" in said
        assert files(workspace.folder) == before, "a file was changed under a live driver"
    stopped = time.monotonic()
    assert is_driven(run), "believed dead at once"
    while is_driven(run):
        time.sleep(0.02)
        assert time.monotonic() - stopped < 60
    assert liveness(run) == "" and run_status(run).state != "running"
    feed.poll()
    assert not feed.live
    code, said = tesla("doctor", workspace.folder, "--repair")
    assert "Moved to" in said and not damaged.exists()


@pytest.mark.slow
def test_a_repair_watches_before_it_believes_in_death(
    tiny_run: Drive, workspace: Workspace, tesla: Tesla, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a driver that beats rarely, and of one that was never seen before."""
    monkeypatch.setattr(beats, "LATE", 3.0)
    run = tiny_run("r")
    damaged = damage(run)
    far_record(run)
    code, said = tesla("doctor", workspace.folder)
    assert code == 1 and damaged.exists() and "--repair" in said
    with far_driver(run, lambda n: 1e9 + n // 30):  # a beat every 1.5 s
        code, said = tesla("doctor", workspace.folder, "--repair")
        assert code == 1 and "It is running now" in said and damaged.exists()
    started = time.monotonic()
    beats.WATCHER._seen.clear()  # as in a new process
    code, said = tesla("doctor", workspace.folder, "--repair")
    assert "r: watching for a heartbeat of process 4711 on elsewhere" in said
    assert time.monotonic() - started > 2.9 and not damaged.exists()


@pytest.mark.slow
def test_one_look_claims_neither_life_nor_death(tiny_run: Drive, workspace: Workspace, tesla: Tesla) -> None:
    """`tesla status` looks for as long as a living driver needs to show itself, and says what it saw."""
    run = tiny_run("r")
    far_record(run)
    started = time.monotonic()
    code, said = tesla("status", workspace.folder)
    assert code == 0 and time.monotonic() - started > 2
    assert "r: watching for a heartbeat of process 4711 on elsewhere of ada" in said
    assert "stalled" in said and "r: no heartbeat of process 4711 on elsewhere" in said
    assert driver_alive(run) is None and is_driven(run)
    with pytest.raises(UsageError, match="on another machine, and gives no heartbeat"):
        ask_to_stop(run)


def test_a_last_beat_that_nobody_saw_is_no_life(tiny_run: Drive, quick: None) -> None:
    """The first look finds a change since an earlier one: it may be the last thing that the driver did."""
    run = tiny_run("r")
    far_record(run)
    far_heartbeat(run, 1e9)
    assert driver_alive(run) is None
    far_heartbeat(run, 1e9 + 1)
    with run_to_end(acquire_run(run)) as lease:
        lease.check()


def test_a_record_of_this_host_name_and_another_machine(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """From before the last boot, or of another host with that name that beats rarely: a short look shows no end."""
    monkeypatch.setattr(beats, "LATE", 2 * LOOK)
    run = tiny_run("r")
    far_record(run, host=socket.gethostname(), machine="an earlier boot")
    assert liveness(run) == "stalled"
    for _ in watch_drivers([run], 1.2 * LOOK):
        pass
    assert liveness(run) == "stalled" and driver_alive(run) is None
    with pytest.raises(UsageError, match="another machine"):
        ask_to_stop(run)  # its process id is another process here
    assert look(run) is False and liveness(run) == ""


def test_a_damaged_record_of_a_driver_that_beats(
    tiny_run: Drive, workspace: Workspace, tesla: Tesla, quick: None
) -> None:
    """Its heartbeat file says that it lives; once that stands still, a repair moves the record aside."""
    run = tiny_run("r")
    damaged = damage(run)
    with far_driver(run, lambda n: 1e9 + n, touches=False):
        (run.folder / "driver.json").write_text("{")
        before = files(workspace.folder)
        assert look(run) is True and liveness(run) == "running"
        code, said = tesla("doctor", workspace.folder, "--repair")
        assert code == 1 and "It is running now" in said
        assert files(workspace.folder) == before and run.heartbeat_file.exists()
        with pytest.raises(UsageError, match="another machine") as caught:
            ask_to_stop(run)
        assert "kill" not in caught.value.hint, "there is no process 0"
    stopped = time.monotonic()
    while is_driven(run):
        time.sleep(0.02)
        assert time.monotonic() - stopped < 60
    code, said = tesla("doctor", workspace.folder, "--repair")
    assert code == 0 and not damaged.exists() and not run.heartbeat_file.exists(), said
    assert (run.folder / "damaged" / "driver.json").read_text() == "{"
    driver = driver_of(run)
    assert driver is not None and driver.mine and driver.released is not None


@pytest.mark.parametrize("broken", ["manifest.json", "tesla.toml"])
def test_files_of_all_runs_are_not_repaired_while_one_is_driven(
    broken: str, tiny_run: Drive, workspace: Workspace, tesla: Tesla, quick: None
) -> None:
    run = tiny_run("r")
    path = next(workspace.folder.rglob(broken))
    good = path.read_bytes()
    path.write_bytes(b"")
    findings = [found for found in examine_workspace(workspace.folder) if not found.good]
    with far_driver(run, lambda n: 1e9 + n):
        before = files(workspace.folder)
        code, said = tesla("doctor", workspace.folder, "--repair")
        assert code == 1 and "The run r is being driven now: stop it first." in said
        assert findings[0].repair is not None
        with pytest.raises(BusyError, match="on elsewhere"):  # examined before the driver came
            findings[0].repair()
        assert files(workspace.folder) == before
    path.write_bytes(good)  # as a driver does that came and went since
    assert "nothing was changed" in findings[0].repair() and path.read_bytes() == good
    path.write_bytes(b"")
    code, said = tesla("doctor", workspace.folder, "--repair")
    assert code == 0 and path.stat().st_size, said


def test_a_heartbeat_file_of_a_driver_that_may_live(tiny_run: Drive, workspace: Workspace) -> None:
    run = tiny_run("r")
    far_heartbeat(run, 1e9)
    far_record(run)
    words = " ".join(found.words for found in examine_workspace(workspace.folder))
    assert "left by a driver that gives no heartbeat, or that still runs elsewhere." in words and "killed" not in words
    far_record(run, released=1e9)
    words = " ".join(found.words for found in examine_workspace(workspace.folder))
    assert "left by a driver that was killed." in words


@pytest.mark.parametrize("how", ["EACCES", "EMFILE", "ESTALE"])
def test_a_lock_that_cannot_be_read_is_not_free(tiny_run: Drive, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    run = tiny_run("r")
    (run.folder / "driver.json").write_bytes(this_process("t").encoded())
    assert driver_alive(run) is False, "nobody has the lock"

    monkeypatch.setattr(disk, "system", Refusing(".driver.lock$", how, times=2))
    with pytest.raises(UnreadableFileError, match=r"\.driver\.lock cannot be read"):
        is_locked(run.folder / ".driver.lock")
    assert driver_alive(run) is True


def test_a_driver_that_lost_its_run_leaves_the_heartbeat_of_the_next(
    tiny_run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "EVERY", 0.02)
    run = tiny_run("r")
    with run_to_end(acquire_run(run)) as lease, heartbeat(run.heartbeat_file, lease.stands):
        far_record(run)
        time.sleep(0.1)  # a beat in progress ends
        far_heartbeat(run, 1e9)
        theirs = run.heartbeat_file.read_bytes()
        time.sleep(0.3)
        assert run.heartbeat_file.read_bytes() == theirs
    assert run.heartbeat_file.read_bytes() == theirs


@pytest.mark.slow
def test_a_driver_of_version_0_1_0(tiny_run: Drive, quick: None) -> None:
    """It leaves its record when it stops, does not touch it while it drives, and removes its heartbeat at the end."""
    run = tiny_run("r")
    old = {"machine": "", "token": "", "user": ""}
    far_record(run, **old)
    assert driver_alive(run) is False and liveness(run) == ""
    with far_driver(run, lambda n: 1e9 + n, touches=False, **old):
        assert look(run) is True and liveness(run) == "running"
        with pytest.raises(BusyError, match="on elsewhere"), run_to_end(acquire_run(run)):
            pass
    assert is_driven(run)
    with run_to_end(acquire_run(run)):  # it stopped beating
        driver = driver_of(run)
        assert driver is not None and driver.mine
    assert not is_driven(run)


DRIVER = """
import sys, time
from pathlib import Path
from engine.runs.heartbeat import heartbeat
from engine.runs.run import Run
from engine.runs.lease import acquire_run
from engine.runtime.generators import run_to_end
run = Run(Path(sys.argv[1]))
with run_to_end(acquire_run(run)), heartbeat(run.heartbeat_file):
    print("driving", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_suspended_and_a_killed_driver_of_this_machine_are_seen_at_once(tiny_run: Drive) -> None:
    run = tiny_run("r")
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(run.folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == b"driving"
            assert liveness(run) == "running"
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert liveness(run) == "stalled" and is_driven(run), "suspended is not dead"
            process.send_signal(signal.SIGCONT)
            os.waitid(os.P_PID, process.pid, os.WCONTINUED)
            assert liveness(run) == "running"
        finally:
            process.kill()
            process.wait()
        started = time.monotonic()
        assert liveness(run) == "" and driver_alive(run) is False
        assert time.monotonic() - started < beats.LATE, "it watched a process of this machine"
        assert run.heartbeat_file.exists(), "nothing was left to judge by"


@pytest.mark.slow
def test_a_driver_that_holds_the_lock_but_does_not_beat_is_stalled(tiny_run: Drive, quick: None) -> None:
    run = tiny_run("r")
    far_heartbeat(run, time.time())
    far_record(run, host=socket.gethostname(), machine=this_machine(), pid=os.getpid())
    with KernelLock(run.folder / ".driver.lock") as lock:
        assert lock.try_acquire()
        assert liveness(run) == "running"
        end = time.monotonic() + 60
        while liveness(run) != "stalled":
            assert time.monotonic() < end
            time.sleep(0.02)
        far_heartbeat(run, time.time() - 300)
        assert liveness(run) == "running"
    assert liveness(run) == ""


@pytest.mark.slow
def test_progress_tells_paused_and_stalled_from_running(tiny_run: Drive) -> None:
    run = tiny_run("r")

    def write(**facts: object) -> None:
        run.heartbeat_file.write_text(json.dumps({"pid": 1, "host": "h", "beat": 2000.0, "moved": 2000.0, **facts}))

    write(paused=True)
    assert liveness(run) == "", "a heartbeat file alone is no driver"
    with run_to_end(acquire_run(run)):
        assert liveness(run) == "paused" and run_status(run).state == "paused"
        write(moved=1000.0)
        assert liveness(run) == "stalled"
        write()
        assert liveness(run) == "running"
        run.heartbeat_file.unlink()
        assert liveness(run) == "running"


def test_only_time_spent_looking_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk or a store that hangs holds up beats and looks alike: the first look after it must not find all dead."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watcher = BeatWatcher()
    assert watcher.look("a", 1) is None
    assert watcher.look("a", 1) is None
    assert watcher.look("a", 2) is True
    now += LATE - 1  # nobody looked
    assert watcher.look("a", 2) is True and watcher.silence("a") == GAP
    now += 10 * LATE
    assert watcher.look("a", 2) is None, "the last change is too old to prove life, and one look to prove death"
    while watcher.silence("a") <= LATE:
        now += 1.0
        found = watcher.look("a", 2)
    assert found is False
    assert watcher.look("a", 1) is True and watcher.look("b", 1) is None


def test_one_thread_beats_for_all_and_one_failure_silences_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "EVERY", 0.01)
    counts = {"first": 0, "second": 0}

    def failing() -> None:
        counts["first"] += 1
        raise ValueError

    def counting() -> None:
        counts["second"] += 1

    def threads() -> int:
        return sum(thread.name == "tesla-heartbeat" for thread in threading.enumerate())

    end = time.monotonic() + 60
    while threads():  # one of an earlier test ends at its next beat
        assert time.monotonic() < end
        time.sleep(0.01)
    with beating(failing):
        with beating(counting):
            while min(counts.values()) < 3:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert threads() == 1
        last = counts["second"]
        time.sleep(0.1)
        assert counts["second"] == last, "it went on after its block"
    while threads():
        assert time.monotonic() < end
        time.sleep(0.01)
