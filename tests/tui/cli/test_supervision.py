"""Nothing is left of a job of several processes whose launcher or one of whose workers is killed or stopped."""

import asyncio
import re
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from engine.events import IterationDone, RunFailed
from engine.runs.liveness import is_driven
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings
from tests.processes import HANGS, wait_for
from tests.runs import events
from tests.supervision import Job, kill_launcher

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Workspace.create(tmp_path / "ws", resolve_settings(), set()).folder


@pytest.mark.parametrize(
    ("kind", "delay"),
    [
        ("workers", 0.0), ("workers", 1.0), ("workers", 2.5), ("workers", 5.0),
        ("torchrun", 0.5), ("torchrun", 3.0), ("seeds", 2.0), ("detached", 1.5), ("plan", 0.2), ("bench", 0.2),
    ],
)  # fmt: skip
def test_a_killed_launcher_leaves_no_process(folder: Path, kind: str, delay: float) -> None:
    left, _, _ = kill_launcher(kind, folder, delay)
    assert left == []


@pytest.mark.parametrize(
    ("rank", "how", "said"),
    [
        (1, signal.SIGKILL, r"Worker 1 \(process \d+\) was ended by SIGKILL"),
        (0, signal.SIGKILL, r"Worker 0 \(process \d+\) was ended by SIGKILL"),
        (1, signal.SIGSTOP, r"Worker 1 .*(did not start within|does not respond)"),
    ],
)
def test_a_worker_lost_while_the_workers_meet_ends_all_in_one_sentence(
    folder: Path, rank: int, how: signal.Signals, said: str
) -> None:
    job = Job("workers", folder)
    try:
        job.worker(1 - rank)
        job.worker(rank).send_signal(how)
        assert job.left_after(HANGS) == []
        assert_one_sentence(job, said)
    finally:
        job.end()


@pytest.mark.parametrize(
    ("rank", "how", "said"),
    [
        (0, signal.SIGKILL, r"Worker 0 \(process \d+\) was ended by SIGKILL"),
        (0, signal.SIGSTOP, r"Worker 0 \(process \d+ on \S+\) was lost: it does not respond"),
        (1, signal.SIGSTOP, r"Worker 1 \(process \d+ on \S+\) was lost: it does not respond"),
    ],
)
def test_a_worker_lost_in_the_middle_ends_all_in_one_sentence(
    folder: Path, rank: int, how: signal.Signals, said: str
) -> None:
    job = Job("workers", folder)
    run = Run(folder / "runs" / "r")
    try:
        wait_for(lambda: sum(isinstance(event, IterationDone) for event in events(run)) >= 2, job.process)
        job.worker(rank).send_signal(how)
        assert job.left_after(HANGS) == []
        assert_one_sentence(job, said)
        assert not is_driven(run)
        if how == signal.SIGSTOP:
            failure = events(run)[-1]
            assert isinstance(failure, RunFailed) and re.search(said, failure.message)
            assert max(run.checkpoints()) >= 2
    finally:
        job.end()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_worker_does_not_hold_up_the_end(folder: Path, rank: int) -> None:
    job = Job("workers", folder)
    run = Run(folder / "runs" / "r")
    try:
        wait_for(lambda: sum(isinstance(event, IterationDone) for event in events(run)) >= 2, job.process)
        job.worker(rank).send_signal(signal.SIGSTOP)
        job.process.send_signal(signal.SIGTERM)  # after which workers may save for ten minutes
        assert job.left_after(HANGS) == []
        assert job.process.wait() == 143 and "Resume with:" in job.said()
    finally:
        job.end()


def assert_one_sentence(job: Job, said: str) -> None:
    assert job.process.wait() == 1
    words = job.said()
    assert len(re.findall(r"Error: ", words)) == 1 and "Traceback" not in words, words
    assert len(re.findall(r"Worker \d", words)) == 1 and re.search(said, words), words


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_that_ends_leaves_no_screens(folder: Path, how: signal.Signals) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = Job("serve", folder, "--port", str(port))

    async def browse() -> None:
        screens = f"ws://127.0.0.1:{port}/ws?width=100&height=30"
        async with aiohttp.ClientSession() as session, session.ws_connect(screens) as browser:
            await browser.receive()
            job.child()
            job.process.send_signal(how)

    try:
        wait_for(lambda: "http://" in job.said() and is_open(port), job.process)
        asyncio.run(browse())
        assert job.left_after() == []
        assert job.process.wait() == (-signal.SIGKILL if how == signal.SIGKILL else 0)
        assert job.said().endswith("detached runs continue."), job.said()
    finally:
        job.end()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
