"""Stand-ins for wandb, trackio and mlflow: what `tesla log` calls of them, with their names, arguments and rules.

`tests/engine/tools/test_trackers.py` compares the signatures with those of the real packages where these are installed.
What was written is in `ROWS`, `IMAGES`, `CONFIG` and `STATES`, whichever the service.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass
class Kept:
    """What a service has of one run."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of W&B and Trackio, with the step as `step`."""
    config: dict[str, Any] = field(default_factory=dict)
    """Settings; of MLflow, parameters."""
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    """Of MLflow: name, value, step."""
    images: list[int] = field(default_factory=list)
    """Of MLflow: iterations."""
    tags: dict[str, str] = field(default_factory=dict)
    ended: list[Any] = field(default_factory=list)
    """How it was closed: exit codes, statuses."""


class Picture:
    """`wandb.Image` and `trackio.Image`."""

    def __init__(self, image: Any, /, *, caption: str | None = None) -> None:
        self.size, self.caption = image.size, caption


class RowsRun:
    """A run of W&B or Trackio: rows with ascending steps."""

    def __init__(self, kept: Kept, url: str | None, folder: Path | None = None) -> None:
        self.kept, self.url, self.offline = kept, url, url is None
        self.step = self._next_step = kept.rows[-1]["step"] + 1 if kept.rows else 0
        self.settings = SimpleNamespace(sync_dir=folder)
        self.axes: dict[str, str | None] = {}

    def log(self, values: dict[str, Any], /, step: int | None = None) -> None:
        """W&B drops a row whose step is not above the last one, with a warning; Trackio keeps it twice."""
        assert step is not None and step >= self._next_step, f"row {step} again"
        self._next_step = step + 1
        self.kept.rows.append({**values, "step": step})

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def finish(self, exit_code: int | None = None) -> None:
        self.kept.ended.append(exit_code)


def wandb_module(folder: Path) -> tuple[ModuleType, dict[str, Kept]]:
    """`wandb`, whose mode is the attribute `mode` and which writes offline runs below a folder, and its runs by id."""
    runs: dict[str, Kept] = {}
    module: Any = ModuleType("wandb")

    class Error(Exception):
        pass

    def settings_of(**settings: Any) -> SimpleNamespace:
        assert settings["silent"] and settings["console"] == "off"
        return SimpleNamespace(mode=module.mode, wandb_dir=str(folder / "wandb"))

    def init(
        *, project: str, id: str, name: str, config: dict[str, Any], resume: str, settings: SimpleNamespace,  # noqa: A002
    ) -> RowsRun:  # fmt: skip
        if module.mode == "no key":
            raise Error("No API key configured. Use `wandb login` to log in.")
        assert resume == "allow" and "/" not in id
        if module.mode == "offline":
            runs[id] = Kept()
            (own := folder / "wandb" / f"offline-run-20260101_000000-{id}").mkdir(parents=True)
        kept = runs.setdefault(id, Kept())
        kept.config |= config
        return RowsRun(kept, None, own) if module.mode == "offline" else RowsRun(kept, f"https://wandb/{project}/{id}")

    module.mode, module.Error, module.Settings, module.Image, module.init = "online", Error, settings_of, Picture, init
    module.setup = lambda settings: SimpleNamespace(settings=settings)
    return module, runs


def trackio_module(folder: Path) -> tuple[ModuleType, dict[str, Kept]]:
    """`trackio`, which prints what it does, and its runs by name."""
    runs: dict[str, Kept] = {}
    module: Any = ModuleType("trackio")

    def init(
        project: str, name: str, *, config: dict[str, Any], resume: str, embed: bool, auto_log_gpu: bool,
        auto_log_cpu: bool,
    ) -> RowsRun:  # fmt: skip
        print(f"* Trackio project initialized: {project}")
        if set(project) & set("/\\"):
            raise ValueError(f"Invalid project name {project!r}")
        assert (resume, embed, auto_log_gpu, auto_log_cpu) == ("allow", False, False, False) and "/" not in name
        kept = runs.setdefault(name, Kept())
        kept.config |= config
        module.run = RowsRun(kept, None)
        return module.run

    def finish() -> None:
        print("* Run finished. Uploading logs to Trackio (please wait...)")
        module.run.finish()

    module.init, module.finish, module.Image, module.TRACKIO_DIR = init, finish, Picture, folder
    return module, runs


@dataclass(frozen=True)
class Metric:
    """`mlflow.entities.Metric`."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class Pair:
    """`mlflow.entities.Param` and `RunTag`."""

    key: str
    value: str


class MlflowException(Exception):  # noqa: N818 - its name there
    """`mlflow.exceptions.MlflowException`."""


class MlflowClient:
    """`mlflow.MlflowClient`; one server, whose runs are in `runs`, and which fails where `down` is set."""

    runs: dict[str, Kept]
    down = False
    tracking_uri = "http://server"

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        self._reach()
        return SimpleNamespace(experiment_id="1") if self.runs else None

    def create_experiment(self, name: str) -> str:
        return "1"

    def search_runs(
        self, experiment_ids: list[str], filter_string: str = "", *, max_results: int
    ) -> list[SimpleNamespace]:
        key = filter_string.removeprefix("tags.`tesla.run` = '").removesuffix("'")
        return [_run_of(id_, kept) for id_, kept in self.runs.items() if kept.tags["tesla.run"] == key][:max_results]

    def create_run(
        self, experiment_id: str, start_time: int | None = None, tags: dict[str, str] | None = None,
        run_name: str | None = None,
    ) -> SimpleNamespace:  # fmt: skip
        assert start_time is not None and start_time > 10**12, "milliseconds"
        id_ = f"run-{len(self.runs)}"
        self.runs[id_] = Kept(tags=dict(tags or {}))
        return _run_of(id_, self.runs[id_])

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric] = (), params: Sequence[Pair] = (), tags: Sequence[Pair] = ()
    ) -> None:
        self._reach()
        assert len(metrics) <= 1000 and len(params) <= 100 and len(tags) <= 100, "MLflow refuses more"
        kept = self.runs[run_id]
        assert not {param.key for param in params} & kept.config.keys(), "a parameter cannot change"
        kept.config |= {param.key: param.value for param in params}
        kept.metrics += [(metric.key, metric.value, metric.step) for metric in metrics]
        kept.tags |= {tag.key: tag.value for tag in tags}

    def log_image(self, run_id: str, image: Any, *, key: str, step: int, timestamp: int) -> None:
        assert key == "images" and min(image.size) >= 32
        self.runs[run_id].images.append(step)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._reach()
        self.runs[run_id].tags[key] = value

    def update_run(self, run_id: str, status: str | None = None) -> None:
        self.runs[run_id].ended.append(status)

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        self.runs[run_id].ended.append(status)

    def _reach(self) -> None:
        if self.down:
            raise MlflowException("API request to http://server failed with exception: refused")


def mlflow_modules() -> tuple[dict[str, ModuleType], type[MlflowClient]]:
    """`mlflow` and its modules by name, and the class of its client with the runs."""

    class Client(MlflowClient):
        runs: dict[str, Kept] = {}  # noqa: RUF012 - one server

    names = ("mlflow", "mlflow.entities", "mlflow.exceptions")
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    modules["mlflow"].MlflowClient, modules["mlflow"].entities = Client, modules["mlflow.entities"]
    modules["mlflow.entities"].Metric, modules["mlflow.entities"].Param = Metric, Pair
    modules["mlflow.entities"].RunTag = Pair
    modules["mlflow.exceptions"].MlflowException = MlflowException
    return modules, Client


def _run_of(id_: str, kept: Kept) -> SimpleNamespace:
    data = SimpleNamespace(tags=dict(kept.tags), params=dict(kept.config))
    return SimpleNamespace(info=SimpleNamespace(run_id=id_), data=data)
