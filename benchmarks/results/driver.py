"""Running an experiment: ordinary runs through `tesla run`, several at once, what is finished is skipped."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks.results.collect import differences
from benchmarks.results.commits import write_commit
from benchmarks.results.experiments import Experiment, Planned, choose_rate
from benchmarks.results.rows import duration
from engine.errors import TeslaError
from engine.runs.history import read_history
from engine.runs.status import run_status
from engine.runs.workspace import Workspace

TESLA = (sys.executable, "-m", "tesla_tui.main")
POLL = 0.2
TAIL = 15
"""Lines of a log that are shown where a run failed."""


@dataclass(frozen=True)
class Job:
    """A command, and the run that it is for."""

    name: str
    words: Sequence[str]


class Driver:
    """Runs an experiment in a workspace. Ctrl-C saves what runs and stops; the same command resumes.

    Args:
        experiment: the experiment.
        folder: its workspace; it is created if it does not exist.
        only: names of the members to run; empty: all.
        workers: processes at once.
        say: called with each line of progress.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, only: Sequence[str], workers: int, say: Callable[[str], None]
    ) -> None:
        self.experiment, self.folder, self.workers, self.say = experiment, folder, workers, say
        self.planned = [run for run in experiment.planned if not only or run.member.name in only]
        self.failed: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False

    def run(self) -> int:
        """Run what is not finished; the exit code: 0, 1 if something failed, 130 if it was stopped."""
        handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if self.experiment.runs_of:
                self._work(self._evaluations())
            else:
                self._measure()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self._stopping:
            self.say("Stopped and saved. Run the same command to resume.")
            return 130
        if self.failed:
            self.say(f"{len(self.failed)} failed: {', '.join(self.failed)}. Logs are in {self.folder / 'logs'}.")
        return 1 if self.failed else 0

    def _measure(self) -> None:
        """The searches, and then the runs whose rates they found."""
        if not (self.folder / "tesla.toml").exists():
            sets = [word for text in self.experiment.init for word in ("--set", text)]
            words = ["init", str(self.folder), "--dataset", self.experiment.dataset, *sets]
            done = subprocess.run([*TESLA, *words], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"The workspace was not created:\n{done.stdout}{done.stderr}")
        self._work([self._job(run, None) for run in self.planned if run.rate is not None and not self.done(run)])
        if self._stopping:
            return
        chosen = chosen_rates(self.experiment, self.folder)
        jobs = []
        for run in self.planned:
            if run.rate is not None or self.done(run):
                continue
            rate = chosen.get(run.member.name)
            if run.waits and rate is None:
                self.say(f"{run.name}: not started, the search of its rate is not finished")
                self.failed.append(run.name)
            else:
                jobs.append(self._job(run, rate))
        self._work(jobs)

    def _evaluations(self) -> list[Job]:
        """Tests with other networks, of the finished runs that lack one."""
        workspace, jobs = Workspace(self.folder), []
        for planned in self.planned:
            run = workspace.run(planned.name)
            if not self.done(planned):
                self.say(f"{run.name}: not finished; run experiment {self.experiment.runs_of} first")
                self.failed.append(run.name)
                continue
            measured = {r.network for r in run.evaluations() if (r.split, r.subject) == ("test", "distilled")}
            if wanted := [name for name in self.experiment.networks if name not in measured]:
                networks = [word for name in wanted for word in ("--network", name)]
                jobs.append(Job(run.name, ["evaluate", str(self.folder), "--run", run.name, *networks]))
        return jobs

    def _job(self, run: Planned, rate: float | None) -> Job:
        return Job(run.name, run.words(str(self.folder), rate))

    def done(self, planned: Planned) -> bool:
        """Whether a run is finished, with the settings of the experiment. Otherwise `tesla run` says what is wrong."""
        run = Workspace(self.folder).run(planned.name)
        if not run.exists:
            return False
        try:
            return run_status(run).finished and not differences(self.experiment, planned, run.frozen().flat())
        except TeslaError:
            return False

    def _work(self, jobs: Sequence[Job]) -> None:
        """Run jobs, `workers` at once, until all have ended or it is stopped."""
        waiting, began, ended = list(jobs), time.monotonic(), 0
        while (waiting and not self._stopping) or self._running:
            while waiting and not self._stopping and len(self._running) < self.workers:
                self._start(waiting.pop(0))
            time.sleep(POLL)
            for name, process in list(self._running.items()):
                if process.poll() is None:
                    continue
                del self._running[name]
                ended += 1
                if self._stopping:
                    continue
                left = (time.monotonic() - began) / ended * (len(jobs) - ended)
                words = "finished" if process.returncode == 0 else f"failed with exit code {process.returncode}"
                about = f"; about {duration(left)} left" if ended < len(jobs) else ""
                self.say(f"[{ended}/{len(jobs)}] {name} {words}{about}")
                if process.returncode:
                    self.failed.append(name)
                    self.say(self._tail(name))

    def _start(self, job: Job) -> None:
        log = self.folder / "logs" / f"{job.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        write_commit(self.folder, job.name)
        with log.open("ab") as file:
            # Its own session: Ctrl-C in the terminal reaches it once, through `_stop`.
            self._running[job.name] = subprocess.Popen(
                [*TESLA, *job.words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def _tail(self, name: str) -> str:
        lines = (self.folder / "logs" / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL:])

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for process in self._running.values():
            process.send_signal(signal.SIGINT)


def chosen_rates(experiment: Experiment, folder: Path) -> dict[str, float | None]:
    """The rate that the search found, by member; None where it is not finished."""
    workspace = Workspace(folder)
    held_out: dict[str, float] = {}
    for planned in experiment.planned:
        run = workspace.run(planned.name)
        if planned.rate is None or not run.exists:
            continue
        history = read_history(run)
        best = history.best()
        if best is not None and history.iteration >= history.iterations:
            held_out[planned.name] = best.mean
    return {member.name: choose_rate(experiment, member, held_out) for member in experiment.members if member.search}
