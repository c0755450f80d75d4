"""The sentences and tables of a report."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import counted
from engine.events import EvaluationDone
from engine.runs.data_record import DataDetails
from engine.runs.judgement import difference, outcome_words, outcomes
from engine.settings import AugmentSettings
from engine.settings.decoders import random_words
from engine.storage.filesystem import format_bytes
from tesla_tui.render.words import accuracy_of, clean, duration, teachers_words
from tesla_tui.report.commands import option_value
from tesla_tui.report.facts import Facts, Measured
from tesla_tui.watch.result import peak_words

MOST_NAMES = 20
"""Classes that are named."""


@dataclass(frozen=True)
class Bar:
    """An accuracy as a bar."""

    name: str
    value: float
    """Percent."""
    words: str
    ours: bool


@dataclass(frozen=True)
class Setting:
    """A row of the table of settings."""

    key: str
    value: str
    origin: str
    own: bool
    """Not the default."""


def summary(facts: Facts) -> str:
    """The run in a sentence or two."""
    settings = facts.effective.settings
    ipc = settings.distill.ipc
    classes = facts.view.data.classes if facts.view.data else None
    images = f"{ipc} image{'s' if ipc > 1 else ''} per class" + (f" ({classes * ipc} in total)" if classes else "")
    factor = settings.distill.formation
    if factor > 1:
        images += f", each of which holds {factor} x {factor} smaller ones,"
    name = clean(dataset_name(facts))
    best = _result(facts, "distilled")
    base = _result(facts, "random")
    if best is not None:
        words = f"Networks trained on {images} reach {_with_count(best)} on the test images of {name}"
        if base is not None:
            words += f"; on as many {random_words(factor)}, {_with_count(base)}"
        if len(best.accuracies) > 1:
            words += "; ± is the sample standard deviation over n networks of this run"
        words += ". "
        return words + clean(outcome_words(outcomes([best], [base] if base else [], unimproved=facts.unimproved)))
    if facts.holdout is not None:
        words = f"Not measured on the test images yet. Networks trained on {images} reach {_with_count(facts.holdout)}"
        words += f" on held-out training images of {name}"
        if facts.holdout_random is not None:
            words += f"; on as many {random_words(factor)}, {_with_count(facts.holdout_random)}"
        return words + "."
    return f"{name} with {images}. Not measured yet."


def headline(facts: Facts) -> tuple[str, str]:
    """The main figure of the report, and what it measures."""
    best = _result(facts, "distilled")
    none = ": no improvement found" if facts.unimproved else ""
    for result, words in ((best, "test accuracy"), (facts.holdout, "held-out accuracy")):
        if result is not None:
            return _percent(result), f"{words}, n = {len(result.accuracies)}{none}"
    if facts.view.iterations:
        return f"{facts.view.iteration:,} of {facts.view.iterations:,}", "iterations"
    return "—", "not measured yet"


def bars(facts: Facts) -> list[Bar]:
    """Random real and distilled images, with the teachers' network or else the first."""
    random = random_words(facts.effective.settings.distill.formation)
    pairs = [
        (random, _result(facts, "random"), False),
        ("distilled images", _result(facts, "distilled"), True),
    ]
    if pairs[1][1] is None:
        pairs = [(random, facts.holdout_random, False), ("distilled images", facts.holdout, True)]
    return [Bar(name, 100 * r.mean, _with_count(r), ours) for name, r, ours in pairs if r]


def state_words(facts: Facts) -> str:
    """Where the run stands."""
    view = facts.view
    iterations = view.iterations or facts.effective.settings.distill.iterations
    done = f"iteration {view.iteration:,} of {iterations:,}"
    match facts.state:
        case "finished":
            return f"finished, {view.iterations:,} iterations"
        case "imported":
            return "made elsewhere and imported"
        case "failed":
            return f"failed at {done}: {clean(view.failure)}"
        case "running" | "paused" | "stalled":
            return f"{facts.state} now, {done}"
        case "new":
            return "not started"
    return f"{facts.state} at {done}"


def settings_table(facts: Facts) -> list[Setting]:
    """Every setting with its origin."""
    flat, origins = facts.effective.flat(), facts.effective.origins
    return [
        Setting(key, option_value(value), clean(origins[key]), origins[key] != "default") for key, value in flat.items()
    ]


def evaluation_rows(found: Iterable[Measured], unimproved: bool) -> list[dict[str, Any]]:
    """Test accuracies as table rows; ours before the random images of the same network and protocol."""

    def same(measured: Measured) -> tuple[str, str, int]:
        return _protocol(measured), measured.result.network, len(measured.result.accuracies)

    rows = []
    ordered = sorted(found, key=same)
    base = {same(m): m.result for m in ordered if m.result.subject == "random"}
    for measured in ordered:
        r = measured.result
        other = base.get(same(measured))
        ours = r.subject == "distilled"
        rows.append(
            {
                "ours": ours,
                "subject": f"distilled, iteration {r.iteration:,}" if ours else random_words(r.formation),
                "network": clean(r.network),
                "accuracy": accuracy_of(r),
                "gained": _gained(r, other, unimproved) if ours and other else "",
                "range": f"{100 * min(r.accuracies):.1f} to {100 * max(r.accuracies):.1f}" if r.accuracies else "",
                "count": len(r.accuracies),
                "protocol": _protocol(measured) + ("" if r.lr is None else f", learning rate {r.lr:.3g}"),
            }
        )
    return rows


def costs(facts: Facts) -> list[tuple[str, str]]:
    """What it took."""
    c = facts.view.costs
    rows: list[tuple[str, str]] = []
    if facts.driven is not None and facts.origin is None:
        drives = len(facts.view.drives)
        rows.append(("Wall time", duration(facts.driven) + (f" in {drives} sessions" if drives > 1 else "")))
    if c.teacher_epochs:
        rows.append(("Teachers", f"{duration(c.teachers)} for {counted(c.teacher_epochs, 'epoch')}"))
    elif facts.imported is not None:
        rows.append(("Teachers", "imported"))
    elif facts.view.plan is not None and facts.view.plan.missing == 0:
        rows.append(("Teachers", "none: trained by another run of this workspace"))
    if c.iterations.count:
        words = f"{duration(c.distillation)} for {counted(c.iterations.count, 'iteration')}"
        rows.append(("Distillation", words))
        rows.append(("Per iteration", f"{_precise(c.iterations.median or 0)} (median)"))
    if c.evaluated:
        rows.append(("Evaluation", f"{duration(c.evaluation)} for {counted(c.evaluated, 'network')}"))
    if c.peak_bytes is not None:
        rows.append(("Peak memory", peak_words(facts.view)))
    rows.append(("Disk, this run", format_bytes(facts.run_bytes)))
    if facts.buffer_bytes:
        rows.append(("Disk, teachers", f"{format_bytes(facts.buffer_bytes)} ({facts.buffer}, shared by runs)"))
    return rows


def environment(facts: Facts) -> list[tuple[str, str]]:
    """Machine and versions of the last start."""
    names = {
        "tesla": "tesla", "torch": "PyTorch", "python": "Python", "platform": "System", "device": "Device",
        "device_name": "Processor", "capability": "Compute capability", "cuda": "CUDA", "cudnn": "cuDNN",
        "driver": "Driver", "tf32": "TF32", "deterministic": "Deterministic kernels", "threads": "CPU threads",
        "workers": "Workers",
    }  # fmt: skip
    there = facts.view.environment  # older runs recorded less, and what nothing told is None
    said = {True: "yes", False: "no"}
    return [
        (words, clean(said[value] if isinstance(value, bool) else str(value)))
        for key, words in names.items()
        if (value := there.get(key)) is not None
    ]


def provenance(facts: Facts) -> list[tuple[str, str]]:
    """Where the data, the teachers and the set are from."""
    data, settings = facts.view.data, facts.effective.settings
    found = facts.data
    path = settings.dataset.path or dataset_name(facts)
    rows = [("Dataset", clean(path if found is None else found.summary.source))]
    if data is not None:
        kind = "grey" if data.channels == 1 else f"{data.channels} channels"
        rows.append(("Images", f"{data.resolution}×{data.resolution}, {kind}, {data.classes} classes"))
        rows.append(("Split", f"{data.train:,} training, {data.holdout:,} held out, {data.test:,} test"))
    if found is not None:
        rows += _details(found)
    if facts.fingerprint:
        rows.append(("Dataset sha256", clean(facts.fingerprint)))
    if facts.imported is not None:
        rows.append(("Teachers", clean(facts.imported.provenance)))
    if facts.view.teachers is not None:
        rows.append(("Teachers' accuracy", clean(teachers_words(facts.view.teachers))))
    if facts.origin is not None:
        rows.append(("Set", clean(facts.origin.words)))
        rows += [(f"sha256 of {clean(str(f['name']))}", clean(str(f["sha256"]))) for f in facts.origin.files]
    return [*rows, ("Seed", str(settings.seed))]


def _details(found: DataDetails) -> list[tuple[str, str]]:
    """How the dataset was read: its splits, the order of its classes, and what was left out."""
    names = ", ".join(found.classes[:MOST_NAMES]) + (", ..." if found.classes[MOST_NAMES:] else "")
    return [
        ("Splits", clean("; ".join(found.splits))),
        ("Classes", clean(f"{names} ({found.class_order})" if found.class_order else names)),
        ("Left out", clean("; ".join(found.left_out) or "nothing")),
        ("Values, fit", clean(found.values_and_fit)),
    ]


def troubles(facts: Facts) -> list[dict[str, str]]:
    """Skipped and recovered iterations, warnings and errors, in order."""
    import time

    return [
        {
            "time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time)),
            "level": line.level,
            "text": line.text,
        }
        for line in facts.view.log
        if line.level != "info"
    ]


def _protocol(measured: Measured) -> str:
    protocol = measured.protocol
    ops, policy = protocol.get("ops"), protocol.get("augment", "dsa")
    every = AugmentSettings().ops
    augmented = ""
    if policy != "dsa":
        augmented = ", no augmentation" if policy == "none" else f", {policy}"
    elif isinstance(ops, list):
        without = [op for op in every if op not in ops]
        augmented = (
            ", no augmentation" if not ops else ", DSA" + (f" without {' and '.join(without)}" if without else "")
        )
    rate = ", a rate for each network" if protocol.get("other_networks_lr") == "tuned" else ""
    return clean(f"{protocol.get('epochs', '?')} epochs{augmented}{rate}, seed {protocol.get('seed', '?')}")


def _result(facts: Facts, subject: str) -> EvaluationDone | None:
    results: Iterable[EvaluationDone] = (m.result for m in facts.tests)
    return next((r for r in results if r.subject == subject and r.network == _network(facts)), None)


def _network(facts: Facts) -> str:
    """The network of the summary: the teachers', or the first that was measured."""
    own = facts.effective.settings.network.name
    distilled = [m.result.network for m in facts.tests if m.result.subject == "distilled"]
    return own if own in distilled or not distilled else distilled[0]


def dataset_name(facts: Facts) -> str:
    """What the dataset is called: a folder of pictures goes by its own name."""
    asked = facts.effective.settings.dataset
    if asked.name == "folder" and asked.path:
        return Path(asked.path).name or asked.path
    return facts.view.data.name if facts.view.data else asked.name


def _percent(result: EvaluationDone) -> str:
    return accuracy_of(result) + " %"


def _with_count(result: EvaluationDone) -> str:
    """The same with the number of networks, which every ± needs."""
    count = len(result.accuracies)
    return _percent(result) + (f" (n = {count})" if count > 1 else "")


def _gained(ours: EvaluationDone, base: EvaluationDone, unimproved: bool) -> str:
    """Points, with the 95 % interval over networks."""
    if unimproved:
        return "none"
    found = difference(ours.accuracies, base.accuracies)
    interval = "" if found is None else f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    return f"{100 * (ours.mean - base.mean):+.1f}{interval}"


def _precise(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s" if seconds < 60 else duration(seconds)
