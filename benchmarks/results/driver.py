"""Running an experiment: ordinary runs through `tesla run`, several at once; what is finished is skipped."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from benchmarks.results.experiments import Experiment, Planned
from benchmarks.results.records import LOGS, Record, collect, differences, tests_of_networks, this_commit, usable
from benchmarks.results.tables import best_rate, duration
from engine.errors import TeslaError
from engine.runs.status import run_status
from engine.runs.workspace import Workspace

TESLA = (sys.executable, "-m", "tesla_tui.main")
POLL = 0.2
TAIL = 15
"""Lines of a log that are shown where a run failed."""
UNKNOWN = "RATE"
"""Stands for a rate that the search has not decided yet."""


def chosen_rates(experiment: Experiment, folder: Path, kept: Sequence[Record] = ()) -> dict[str, float | None]:
    """The rate that the search found, by member; None where it is not finished."""
    searched = [member for member in experiment.members if member.search]
    there = searched and (folder / "tesla.toml").exists()
    records = collect(experiment, folder, kept=kept).records if there else list(usable(experiment, kept).values())
    return {member.name: best_rate(experiment, member, records) for member in searched}


def commands(experiment: Experiment, folder: Path, only: Sequence[str] = (), kept: Sequence[Record] = ()) -> list[str]:
    """The command of the workspace and of every run, for a shell."""
    chosen, calls = chosen_rates(experiment, folder, kept), []
    if not experiment.runs_of:
        calls.append(_init(experiment, folder))
    for run in experiment.planned:
        if experiment.runs_of:
            words = _evaluate(experiment, folder, run, experiment.networks)
        else:
            words = run.words(folder, chosen.get(run.member.name) or UNKNOWN)
        if not only or run.member.name in only:
            calls.append(words)
    return [shlex.join(["tesla", *words]) for words in calls]


def _init(experiment: Experiment, folder: Path) -> list[str]:
    sets = [word for text in experiment.init for word in ("--set", text)]
    return ["init", str(folder), "--dataset", experiment.dataset, *sets]


def _evaluate(experiment: Experiment, folder: Path, run: Planned, networks: Sequence[str]) -> list[str]:
    networks = [word for name in networks for word in ("--network", name)]
    return ["evaluate", str(folder), "--run", run.name, *networks, *(w for s in experiment.tests for w in ("--set", s))]


class Driver:
    """Runs an experiment in a workspace. Ctrl-C saves what runs and stops; the same command resumes.

    Args:
        experiment: the experiment.
        folder: its workspace; it is created if it does not exist.
        only: names of the members to run; empty: all.
        workers: processes at once.
        say: called with each line of progress.
        kept: runs that were measured before, in another folder, and are not measured again.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        only: Sequence[str],
        workers: int,
        say: Callable[[str], None],
        kept: Sequence[Record] = (),
    ) -> None:
        self.experiment, self.folder, self.workers, self.say = experiment, folder, workers, say
        self.kept = usable(experiment, kept)
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
            self.say(f"{len(self.failed)} failed: {', '.join(self.failed)}. Logs are in {self.folder / LOGS}.")
        return 1 if self.failed else 0

    def _measure(self) -> None:
        """The searches, and then the runs whose rates they found."""
        if not (self.folder / "tesla.toml").exists():
            done = subprocess.run([*TESLA, *_init(self.experiment, self.folder)], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"The workspace was not created:\n{done.stdout}{done.stderr}")
        left = [run for run in self.planned if not self.done(run)]
        self._work({run.name: run.words(self.folder, None) for run in left if run.rate is not None})
        if self._stopping:
            return
        chosen, jobs = chosen_rates(self.experiment, self.folder, list(self.kept.values())), {}
        for run in (run for run in left if run.rate is None):
            rate = chosen.get(run.member.name)
            if run.waits and rate is None:
                self.say(f"{run.name}: not started, the search of its rate is not finished")
                self.failed.append(run.name)
            else:
                jobs[run.name] = run.words(self.folder, rate)
        self._work(jobs)

    def _evaluations(self) -> dict[str, list[str]]:
        """Tests with other networks, of the finished runs that lack one."""
        jobs = {}
        for planned in self.planned:
            if not self.done(planned):
                self.say(f"{planned.name}: not finished; run experiment {self.experiment.runs_of} first")
                self.failed.append(planned.name)
                continue
            run = Workspace(self.folder).run(planned.name)
            subjects = {"distilled", "random"} if run.frozen().settings.evaluate.baseline else {"distilled"}
            found = {(r.network, r.subject) for r in tests_of_networks(self.experiment, run)}
            if wanted := [n for n in self.experiment.networks if not {(n, s) for s in subjects} <= found]:
                jobs[planned.name] = _evaluate(self.experiment, self.folder, planned, wanted)
        return jobs

    def done(self, planned: Planned) -> bool:
        """Whether a run is finished, with the settings of the experiment. Otherwise `tesla run` says what is wrong."""
        run = Workspace(self.folder).run(planned.name)
        if not run.exists:
            return planned.name in self.kept and not self.experiment.runs_of
        try:
            return run_status(run).finished and not differences(self.experiment, planned, run.frozen().flat())
        except TeslaError:
            return False

    def _work(self, jobs: dict[str, list[str]]) -> None:
        """Run commands of `tesla`, `workers` at once, until all have ended or it is stopped."""
        waiting, began, ended = list(jobs.items()), time.monotonic(), 0
        while (waiting and not self._stopping) or self._running:
            while waiting and not self._stopping and len(self._running) < self.workers:
                self._start(*waiting.pop(0))
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
                    lines = (self.folder / LOGS / f"{name}.log").read_text(errors="replace").splitlines()
                    self.say("\n".join(f"    {line}" for line in lines[-TAIL:]))

    def _start(self, name: str, words: Sequence[str]) -> None:
        log = self.folder / LOGS / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        recorded, commit = log.with_suffix(".commit"), this_commit()
        if commit and not recorded.exists():  # a run that resumes keeps the commit that it was started with
            recorded.write_text(commit)
        with log.open("ab") as file:
            # Its own session: Ctrl-C in the terminal reaches it once, through `_stop`.
            self._running[name] = subprocess.Popen(
                [*TESLA, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
