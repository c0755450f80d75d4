"""W&B, Trackio and MLflow get what the journal says: through stand-ins, and through the packages where installed."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BusyError, TeslaError, UsageError
from engine.events import IterationDone, RunStarted
from engine.runs.journal import JournalWriter, read_journal
from engine.runs.lease import acquire_run
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.tools.tracking import follow as following
from engine.tools.tracking.follow import follow
from engine.tools.tracking.mlflow import open_mlflow
from engine.tools.tracking.series import final_numbers
from engine.tools.tracking.trackio import open_trackio
from engine.tools.tracking.wandb import open_wandb
from tests import stand_ins
from tests.conftest import Drive
from tests.processes import COMMAND, HANGS

pytestmark = pytest.mark.slow

OPEN: dict[str, Callable[..., Any]] = {"wandb": open_wandb, "trackio": open_trackio, "mlflow": open_mlflow}
Curves = dict[str, list[tuple[int, float]]]


@dataclass
class Service:
    """A service with a stand-in for its package."""

    name: str
    module: Any
    runs: dict[str, stand_ins.Kept]

    def log(self, run: Run, *, once: bool = True) -> int:
        """What `tesla log` does; the number of points written."""
        with OPEN[self.name](run, "proj") as tracker:
            run_to_end(follow(run, [tracker], once=once))
            return int(tracker.points)

    @property
    def kept(self) -> stand_ins.Kept:
        (only,) = self.runs.values()
        return only

    @property
    def curves(self) -> Curves:
        """The numbers it has."""
        found: Curves = {}
        for row in self.kept.rows:
            for key in filter(lambda key: "/" in key, row):
                found.setdefault(key, []).append(
                    (row["epoch" if key.startswith("teachers/") else "iteration"], row[key])
                )
        for key, value, step in self.kept.metrics:
            found.setdefault(key, []).append((step, value))
        return found

    @property
    def images(self) -> list[int]:
        """The iterations whose images it has."""
        return self.kept.images or [row["iteration"] for row in self.kept.rows if "images" in row]

    @property
    def state(self) -> str:
        """The last state that it was told."""
        states = [row["state"] for row in self.kept.rows if "state" in row]
        return self.kept.tags.get("tesla.state") or states[-1]


@pytest.fixture(params=list(OPEN))
def service(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if request.param == "mlflow":
        modules, client = stand_ins.mlflow_modules()
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return Service("mlflow", client, client.runs)
    make = stand_ins.wandb_module if request.param == "wandb" else stand_ins.trackio_module
    module, runs = make(tmp_path)
    monkeypatch.setitem(sys.modules, request.param, module)
    return Service(request.param, module, runs)


def curves_of(run: Run) -> Curves:
    """The numbers in the journal."""
    found: Curves = {}
    for number in final_numbers(entry for entry, _ in read_journal(run.journal_file)):
        found.setdefault(number.name, []).append((number.step, number.value))
    return found


def lose(run: Run, *iterations: int) -> None:
    """Add iterations that a driver did after its last checkpoint, before it was killed."""
    done = next(e.event for e, _ in read_journal(run.journal_file) if isinstance(e.event, IterationDone))
    writer = JournalWriter(run.journal_file)
    for iteration in iterations:
        writer.append(IterationDone(**{**vars(done), "iteration": iteration, "loss": 999.0}))


def started(run: Run) -> RunStarted:
    return next(e.event for e, _ in read_journal(run.journal_file) if isinstance(e.event, RunStarted))


def test_a_finished_run_is_there_once_however_often_it_is_sent(service: Service, tiny_run: Drive) -> None:
    run = tiny_run()
    points = service.log(run)
    assert service.curves == curves_of(run)
    assert {"distillation/loss", "accuracy/test/convnet", "accuracy/test/convnet/random", "teachers/loss/0001"} <= set(
        service.curves
    )
    assert service.images == [0, 3, 4, 6]
    assert points == sum(map(len, service.curves.values())) + 4
    assert service.state == "finished" and service.kept.ended[-1] in (0, None, "FINISHED")
    config = {key: str(value) for key, value in service.kept.config.items()}
    assert config == {key: str(value) for key, value in run.frozen().flat().items()}
    before = repr((service.kept.rows, service.kept.metrics, service.images))
    assert service.log(run) == 0
    assert repr((service.kept.rows, service.kept.metrics, service.images)) == before


def test_it_follows_and_a_later_call_resumes(
    service: Service, tiny_run: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK", 0.01)
    run = tiny_run("r", until=lambda event: isinstance(event, IterationDone))
    with run_to_end(acquire_run(run)):
        with OPEN[service.name](run, "proj") as tracker:
            log = follow(run, [tracker])
            assert next(log).done == 1  # type: ignore[attr-defined]
            with pytest.raises(BusyError, match="Another `tesla log`"), OPEN[service.name](run, "proj"):
                pass
            writer = JournalWriter(run.journal_file)
            writer.append(RunStarted(**{**vars(started(run)), "resumed_from": 1}))
            lose(run, 2)
            assert next(log).done == 2  # type: ignore[attr-defined]
            assert service.curves["distillation/loss"][-1] == (2, 999.0)
            log.close()  # Ctrl-C
        assert service.state == "running" and service.kept.ended[-1] in (0, None, "RUNNING")
        lose(run, 3)
    service.log(run)
    assert service.curves["distillation/loss"][1:] == [(2, 999.0), (3, 999.0)]
    assert service.curves == curves_of(run)
    assert service.state == "interrupted" and service.kept.ended[-1] in (0, None, "KILLED")
    length = len(service.kept.rows)
    assert service.log(run) == 0 and len(service.kept.rows) == length


def test_lost_iterations_are_not_sent(service: Service, tiny_run: Drive) -> None:
    run = tiny_run("r", until=lambda event: isinstance(event, IterationDone) and event.iteration == 3)
    lose(run, 4, 5)
    tiny_run("r")
    service.log(run)
    assert [step for step, _ in service.curves["distillation/loss"]] == [1, 2, 3, 4, 5, 6]
    assert service.curves == curves_of(run)
    assert 999.0 not in [value for _, value in service.curves["distillation/loss"]]


def test_a_failed_run_is_failed_there(service: Service, workspace: Workspace, tiny_run: Drive) -> None:
    with pytest.raises(TeslaError):
        tiny_run("r", "distill.iterations=200", "distill.max_loss=1e-6")
    service.log(workspace.run("r"))
    assert service.state == "failed" and service.kept.ended[-1] in (1, None, "FAILED")


def test_a_missing_package_is_one_sentence(service: Service, tiny_run: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run("r", until=lambda event: isinstance(event, IterationDone))
    for name in [name for name in sys.modules if name.partition(".")[0] == service.name]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"pip install 'tesla-tui\[{service.name}\]'"):
        service.log(run)


def test_offline_wandb_refuses_a_second_time_and_a_missing_key_is_a_sentence(
    tiny_run: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    module, runs = stand_ins.wandb_module(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    service: Any = Service("wandb", module, runs)
    run = tiny_run("r", until=lambda event: isinstance(event, IterationDone))
    service.module.mode = "no key"
    with pytest.raises(TeslaError, match=r"No API key.*`wandb login`.*WANDB_MODE=offline"):
        service.log(run)
    service.module.mode = "disabled"
    with pytest.raises(UsageError, match="switches W&B off"):
        service.log(run)
    service.module.mode = "offline"
    service.log(run)
    with pytest.raises(UsageError, match=r"has this run already.*wandb sync"):
        service.log(run)
    assert service.curves == curves_of(run)


def test_a_server_that_is_away_costs_no_row(tiny_run: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    modules, client = stand_ins.mlflow_modules()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    service = Service("mlflow", client, client.runs)
    run = tiny_run()
    with OPEN["mlflow"](run, "proj") as tracker:
        log = follow(run, [tracker], once=True)
        client.down = True
        with pytest.raises(stand_ins.MlflowException):
            next(log)
    with pytest.raises(TeslaError, match=r"refused.*Nothing is lost: the same command"):
        service.log(run)
    client.down = False
    client.tracking_uri = "file:///tmp/mlruns"
    with pytest.raises(UsageError, match=r"store of files.*sqlite:///"):
        service.log(run)
    client.tracking_uri = "http://server"
    service.log(run)
    assert service.curves == curves_of(run) and service.state == "finished"


def test_the_command_prints_only_csv_where_that_is_asked_for(
    tiny_run: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tesla_tui.main import main

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    module, runs = stand_ins.trackio_module(tmp_path)
    monkeypatch.setitem(sys.modules, "trackio", module)
    run = tiny_run()
    words = ["tesla", "log", str(run.folder.parents[1]), "--csv", "-", "--trackio", "proj", "--once"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    out, err = capsys.readouterr()
    assert "Trackio" not in out and out.count("distillation/loss,") == 6
    assert "Wrote" in err and "trackio show --project proj" in err
    assert len(runs) == 1


@pytest.mark.parametrize("name", OPEN)
def test_a_consumer_is_under_80_lines(name: str) -> None:
    assert len(inspect.getsource(importlib.import_module(f"engine.tools.tracking.{name}")).splitlines()) < 80


# --- the real packages


@pytest.fixture
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """The real package, or a skip; whatever it warns of when it is imported is its own affair."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip(request.param, exc_type=ImportError)


@pytest.mark.parametrize("real", ["wandb"], indirect=True)
def test_the_stand_in_has_wandbs_signatures(real: Any, tmp_path: Path) -> None:
    module, _ = stand_ins.wandb_module(tmp_path)
    fits(module.init, real.init)
    fits(module.setup, real.setup)
    fits(stand_ins.Picture.__init__, real.Image.__init__)
    for name in ("log", "define_metric", "finish"):
        fits(getattr(stand_ins.RowsRun, name), getattr(real.Run, name))
    assert {"silent", "console", "x_disable_stats", "disable_git", "disable_code"} <= set(real.Settings.model_fields)
    assert issubclass(real.errors.UsageError, real.Error) and issubclass(real.errors.CommError, real.Error)


@pytest.mark.parametrize("real", ["trackio"], indirect=True)
def test_the_stand_in_has_trackios_signatures(real: Any, tmp_path: Path) -> None:
    module, _ = stand_ins.trackio_module(tmp_path)
    fits(module.init, real.init)
    fits(module.finish, real.finish)
    fits(stand_ins.RowsRun.log, real.Run.log)
    fits(stand_ins.Picture.__init__, real.Image.__init__)
    assert "self._next_step = 0 if max_step is None else max_step + 1" in inspect.getsource(real.Run.__init__)


@pytest.mark.parametrize("real", ["mlflow"], indirect=True)
def test_the_stand_in_has_mlflows_signatures(real: Any) -> None:
    for name, ours in vars(stand_ins.MlflowClient).items():
        if inspect.isfunction(ours) and not name.startswith("_"):
            fits(ours, getattr(real.MlflowClient, name))
    fits(stand_ins.Metric.__init__, importlib.import_module("mlflow.entities").Metric.__init__)
    fits(stand_ins.Pair.__init__, importlib.import_module("mlflow.entities").Param.__init__)


def fits(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    """The real function takes what a stand-in does: arguments of these names, those by position at their places."""
    real = [name for name in inspect.signature(theirs).parameters if name != "self"]
    mine = [p for name, p in inspect.signature(ours).parameters.items() if name != "self"]
    assert {p.name for p in mine if p.kind is not p.POSITIONAL_ONLY} <= set(real), (ours, real)
    for place, parameter in enumerate(mine):
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert real[place] == parameter.name, (ours, real)


@pytest.mark.parametrize("real", list(OPEN), indirect=True)
def test_the_real_package_has_what_the_journal_says(real: Any, tiny_run: Drive, tmp_path: Path) -> None:
    """Offline; the command runs in its own process, as its package leaves threads and processes of its own."""
    if real.__name__ == "mlflow":
        pytest.importorskip("sqlalchemy", reason="mlflow-skinny alone has no database")
    run = tiny_run()
    places = {
        "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(Path(__file__).parents[3]),
    }  # fmt: skip
    words = [*COMMAND, "log", str(run.folder.parents[1]), f"--{real.__name__}", "proj"]
    for code in (0, 2 if real.__name__ == "wandb" else 0):
        done = subprocess.run(  # in a folder of its own, where MLflow puts the images
            words, env={**os.environ, **places}, cwd=tmp_path, capture_output=True, text=True, timeout=HANGS
        )
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
    read = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READERS[real.__name__]], env={**os.environ, **places},
        cwd=tmp_path, capture_output=True, text=True, timeout=HANGS, check=True,
    )  # fmt: skip
    found: dict[str, list[list[Any]]] = json.loads(read.stdout.splitlines()[-1])
    wanted = {name: sorted(map(list, points)) for name, points in curves_of(run).items()}
    assert {name: sorted(points) for name, points in found.items()} == wanted


READ_ROWS = """
import json
found = {}
for row in rows:
    for key in row:
        if key.startswith(("distillation/", "accuracy", "teachers/")):
            found.setdefault(key, []).append([row["epoch" if key.startswith("teachers/") else "iteration"], row[key]])
print(json.dumps(found))
"""
READERS = {
    "wandb": """
import json
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record

(file,) = Path("wandb").glob("offline-run-*/*.wandb")
data, at, whole, rows = file.read_bytes(), 7, b"", []
while at + 7 <= len(data):  # LevelDB's log format, whose blocks have 32 KiB
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    whole += data[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):
        record, whole = Record.FromString(whole), b""
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
"""
    + READ_ROWS,
    "trackio": """
import trackio
(run,) = trackio.Api().runs("proj")
rows = trackio.SQLiteStorage.get_logs("proj", run_id=run.id)
"""
    + READ_ROWS,
    "mlflow": """
import json
from mlflow import MlflowClient
client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("proj").experiment_id])
history = client.get_metric_history
found = {key: [[m.step, m.value] for m in history(run.info.run_id, key)] for key in run.data.metrics}
assert run.info.status == "FINISHED" and len(client.list_artifacts(run.info.run_id, "images")) == 8
print(json.dumps(found))
""",
}
"""What reads a run back, with the package's own classes."""
