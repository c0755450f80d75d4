"""A run in MLflow. A tag of its run there says which line of the journal came last, so that the next call resumes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import UsageError
from engine.runs.run import Run
from engine.tools.tracking.follow import End, Named, Row, Tracker, failed, missing, service

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}
"""MLflow's word for the state of a run; RUNNING for others."""


@contextmanager
def open_mlflow(run: Run, experiment: str) -> Iterator[Tracker]:
    """A tracker that sends a run to an experiment of MLflow, where MLFLOW_TRACKING_URI says.

    Raises:
        UsageError: the package `mlflow-skinny` is not installed, or the store is a folder of files.
        TeslaError: the server or the store refuses, or is out of reach.
    """
    try:
        from mlflow import MlflowClient, entities
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise missing("mlflow") from error
    with service("mlflow", experiment, run) as named:
        try:
            client = MlflowClient()
            if client.tracking_uri.startswith(("file:", "/", ".")):
                why = "MLflow's store of files cannot hold curves below another, as accuracy/test/convnet/random."
                raise UsageError(why, "Use a server or a database: MLFLOW_TRACKING_URI=sqlite:///mlflow.db")
            yield _Metrics(client, entities, named, experiment)
        except MlflowException as error:
            raise failed("MLflow", error) from error


class _Metrics(Tracker):
    def __init__(self, client: Any, entities: Any, named: Named, experiment: str) -> None:
        key, self._entities = named.key, entities
        found = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if found is None else found.experiment_id
        known = client.search_runs([place], f"tags.`tesla.run` = '{key}'", max_results=1)
        ours = known[0] if known else client.create_run(place, int(key, 16), {"tesla.run": key}, named.title)
        self.lines, self.where = int(ours.data.tags.get("tesla.line", 0)), f"the experiment {experiment} in MLflow"
        self._client, self._id, self._line, self._broken = client, ours.info.run_id, self.lines, False
        self._waiting: list[object] = []
        new = [entities.Param(k, str(value)) for k, value in named.config.items() if k not in ours.data.params]
        for start in range(0, len(new), 100):  # of a request; a setting that is there cannot change
            client.log_batch(self._id, params=new[start : start + 100])
        client.update_run(self._id, "RUNNING")

    def take(self, row: Row) -> None:
        time, make = int(row.entry.time * 1000), self._entities.Metric
        self._waiting += [make(number.name, number.value, time, number.step) for number in row.numbers]
        if (picture := row.picture()) is not None:
            self._client.log_image(self._id, picture.image, key="images", step=picture.iteration, timestamp=time)
            self.points += 1
        self._line = row.line
        if len(self._waiting) >= 900:  # of a request, which takes 1,000
            self.flush()

    def flush(self, run: Run | None = None) -> None:
        if self._line > self.lines:
            self._broken = True
            tags = [self._entities.RunTag("tesla.line", str(self._line))]
            self._client.log_batch(self._id, self._waiting, tags=tags)
            self.points += len(self._waiting)
            self._waiting, self.lines, self._broken = [], self._line, False

    def close(self, end: End) -> None:
        if self._broken:
            return  # another request would wait as long as the one that failed
        self.flush()
        self._client.set_tag(self._id, "tesla.state", end.state)
        if end.state in STATUS:
            self._client.set_terminated(self._id, STATUS[end.state], int(end.time * 1000))
