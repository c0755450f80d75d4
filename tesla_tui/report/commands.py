"""The commands of a report, which repeat its run on another machine."""

from typing import Any

from engine.errors import quoted, tesla
from tesla_tui.render.words import clean
from tesla_tui.report.facts import Facts


def commands(facts: Facts) -> list[str]:
    """The commands, in the order to run them."""
    effective, name = facts.effective, facts.workspace.folder.resolve().name
    flat, origins = effective.flat(), effective.origins
    dataset = flat["dataset.path"] if flat["dataset.name"] == "folder" else flat["dataset.name"]
    lines = [tesla("init", name, "--dataset", dataset)]
    if facts.imported is not None:
        files = [str(file["name"]) for file in facts.imported.files]
        sets = [
            f"{key}={option_value(value)}" for key, value in facts.imported.settings.items() if key != "network.name"
        ]
        lines.append(_command(["tesla", "import-buffers", name, *files, "--name", facts.imported.name], sets))
    placed = {"distill.ipc", "dataset.name"} | ({"dataset.path"} if flat["dataset.name"] == "folder" else set())
    own = [key for key in flat if not _given(origins[key]) and key not in placed and flat[key] is not None]
    if facts.origin is not None:
        files = [str(file["name"]) for file in facts.origin.files]
        step = [] if facts.origin.lr is None else ["--lr", f"{facts.origin.lr:.9g}"]
        space = ["--space", facts.origin.space.partition(",")[0]]
        fixed = {"labels.kind", "distill.student_lr", "dataset.zca"}
        sets = [f"{key}={option_value(flat[key])}" for key in own if key not in fixed]
        words = [*files, *step, *space, *facts.origin.options, "--run", facts.run.name]
        lines.append(_command(["tesla", "import-images", name, *words], sets))
        lines.append(tesla("evaluate", name, "--run", facts.run.name))
        return lines
    sets = [f"{key}={option_value(flat[key])}" for key in own]
    threads = facts.view.environment.get("threads")
    if flat["compute.threads"] == "auto" and threads is not None and facts.view.environment.get("device") == "cpu":
        sets.append(f"compute.threads={threads}")
    run = ["tesla", "run", name, "--run", facts.run.name, "--ipc", str(flat["distill.ipc"])]
    lines.append(_command(run, sets))
    tested = list(dict.fromkeys(m.result.network for m in facts.tests))
    extra = [network for network in tested if network not in (flat["evaluate.networks"] or [flat["network.name"]])]
    if extra:
        words = [word for network in extra for word in ("--network", network)]
        lines.append(tesla("evaluate", name, "--run", facts.run.name, *words))
    return lines


def option_value(value: Any) -> str:
    """A setting as `--set` takes it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return clean(",".join(value)) if all(isinstance(item, str) for item in value) else str(value)
    return clean(str(value))


def _command(words: list[str], sets: list[str]) -> str:
    """A command with its settings, a line each."""
    return " \\\n    ".join([quoted(*words), *(f"--set {quoted(text)}" for text in sets)])


def _given(origin: str) -> bool:
    """Whether another machine gets this value without being told."""
    return origin == "default" or origin.startswith(("preset ", "buffer "))
