"""The memory a run takes: measured pieces, scaled up, and sizes added up. Pure functions."""

from engine.data import image_budget, resident_bytes
from engine.tools.plan.problem import Found, Problem, kept_vectors, step_note, used_bytes
from engine.tools.plan.report import How, Part

STEP_GRAPHS, TRAINING_GRAPHS = (1.9, 8.0), (1.0, 4.0)
"""Bounds of what a matching step and a training step take, in first-order graphs of the batch: where they are scaled up
from a few images, which say little about memory."""
COMPILER = 200_000_000
"""Bytes of PyTorch's compiler in a process that compiles or loads compiled steps (PyTorch 2.13, CPU)."""


def memory_parts(
    problem: Problem, matching: list[Found], teachers: Found | None, evaluations: list[Found], free: int
) -> list[Part]:
    """Every use of memory.

    Args:
        problem: the run.
        matching: measured; see `step_bytes`.
        teachers: measured; None if none are left to train.
        evaluations: measured.
        free: bytes free on the device, of which the dataset may take a share.
    """
    how, note = basis_of(matching[-1], matching[-1]["batch"], problem.batch)
    parts = [
        _program_part(problem, matching[0]),
        *dataset_parts(problem, free),
        *_synthetic_parts(problem),
        *_student_parts(problem),
        Part("one step's graph and scratch", step_bytes(problem, matching), "device", "distillation", how, note=note),
    ]
    if teachers is not None:
        how, note = basis_of(teachers, teachers["size"], teachers["whole"])
        size = batch_bytes(problem, teachers)
        parts.append(Part("a teacher and its batch", size, "device", "teachers", how, note=note))
    parts.append(evaluation_part(problem, evaluations))
    return [*parts, *_compiler_part(problem, [*matching[-1:], *([teachers] if teachers else []), *evaluations])]


def line(points: list[tuple[int, int]], size: int) -> int:
    """Bytes at a size, by the line through the last two of the points (size, bytes); of a single one: in proportion."""
    (after, most) = points[-1]
    if size == after:
        return most
    if len(points) < 2:
        return most * size // after
    before, less = points[-2]
    return most + int(max(0.0, (most - less) / (after - before)) * (size - after))


def batch_bytes(problem: Problem, found: Found) -> int:
    """Bytes of training with the run's own batch: as measured, or by the line through two smaller ones."""
    if found["size"] == found["whole"]:
        return used_bytes(problem, found)
    low, high = TRAINING_GRAPHS
    return int(min(max(line(found["points"], found["whole"]), low * found["graph_bytes"]), high * found["graph_bytes"]))


def basis_of(found: Found, size: int, whole: int) -> tuple[How, str]:
    """The basis of what a stage takes with `whole` images at once, found at `size` of them, and its note."""
    if found.get("basis"):
        return "computed", ""
    note = step_note(size, whole)
    return ("extrapolated" if note else "measured"), note


def _compiler_part(problem: Problem, stages: list[Found]) -> list[Part]:
    """PyTorch's compiler, where a run loads it and no measurement did."""
    if not any(found["compiled"] for found in stages) or any(found["seen"] for found in stages):
        return []
    return [Part("PyTorch's compiler", COMPILER, problem.host, "always", "computed", note="as on other machines")]


def step_bytes(problem: Problem, matching: list[Found]) -> int:
    """Bytes that one matching step takes besides what is carried from step to step.

    From one measurement at the run's batch; or from two at smaller ones, `batch`, by the line through them.
    """
    wanted = problem.settings.distill
    vector = problem.parameters * problem.element
    sizes: list[int] = []
    if matching[-1].get("basis"):
        return int(matching[-1]["device"] * (wanted.steps if wanted.gradient == "unrolled" else 1))
    for found in matching:
        vectors = kept_vectors(problem, wanted.store, found["steps"])[1]
        if problem.settings.distill.gradient == "exact" and found["steps"] < wanted.steps:
            vectors = found["steps"] - 1  # measured with store = device
        held = found["images"] * (problem.facts.values + 2 * problem.facts.classes) * problem.element
        sizes.append(int(max(0, used_bytes(problem, found) - held - vectors * vector)))
    size = sizes[-1]
    if len(sizes) > 1:
        small, large = matching[0]["batch"], matching[1]["batch"]
        each = max(0.0, (sizes[1] - sizes[0]) / (large - small))
        size += int(each * (problem.batch - large))
    elif matching[-1]["batch"] < problem.batch:
        size = size * problem.batch // matching[-1]["batch"]
    if matching[-1]["batch"] < problem.batch:
        size = int(min(max(size, STEP_GRAPHS[0] * problem.graph_bytes), STEP_GRAPHS[1] * problem.graph_bytes))
    if wanted.gradient == "unrolled":
        size = int(size * wanted.steps / matching[-1]["steps"])
    return size


def dataset_parts(problem: Problem, free: int) -> list[Part]:
    """The dataset in memory: what is kept on the device, by the rule of ResidentImages, and its mapped files."""
    values = problem.facts.values
    counts = (problem.facts.train, problem.facts.holdout, problem.facts.test)
    whitened = problem.element if problem.settings.dataset.zca else 0
    budget = image_budget(problem.device, free, problem.settings.compute.image_memory)
    kept = mapped = 0
    for count in counts:  # one split after the other, each in what those before it left
        sizes = resident_bytes(count * values, budget - kept - mapped, problem.device, whitened)
        kept, mapped = kept + sizes[0], mapped + sizes[1]
    parts = [
        Part("dataset, kept as bytes", kept, "device", "always", "computed"),
        Part("its file, mapped (given back when needed)", mapped, problem.host, "always", "computed"),
    ]
    if whitened:
        parts.append(Part("whitening and its inverse", 2 * values**2 * whitened, "device", "always", "computed"))
    return parts


def evaluation_part(problem: Problem, evaluations: list[Found]) -> Part:
    """The largest of the evaluated networks, with its batch."""
    largest = max(evaluations, key=lambda found: batch_bytes(problem, found))
    how, note = basis_of(largest, largest["size"], largest["whole"])
    size = batch_bytes(problem, largest)
    return Part("evaluated networks and their batches", size, "device", "evaluation", how, note=note)


def _program_part(problem: Problem, first: Found) -> Part:
    """The process before any work, less what the measured task held of its own."""
    if first.get("basis"):
        return Part("Python, PyTorch, the program", first["base"], problem.host, "always", "computed", note="as usual")
    small = problem.facts.classes * problem.facts.values  # the random pixels of the measured task
    base = first["base"] - (first["state_bytes"] + small if problem.device == "cpu" else 0)
    return Part("Python, PyTorch, the program", max(0, base), problem.host, "always", "measured")


def _synthetic_parts(problem: Problem) -> list[Part]:
    """Synthetic images and labels, and what distillation keeps beside them."""
    tables = 4 if problem.settings.labels.kind == "learned" else 2
    sizes = {
        "synthetic images": problem.image_bytes,
        "their momentum": problem.image_bytes,
        "their gradient": problem.image_bytes,
        "labels and their gradient": tables * problem.label_bytes,
    }
    return [Part(name, size, "device", "distillation", "computed", between=True) for name, size in sizes.items()]


def _student_parts(problem: Problem) -> list[Part]:
    """The student's parameters over the matching steps, where the gradient needs them again."""
    store, vectors = kept_vectors(problem, problem.settings.distill.store, problem.settings.distill.steps)
    vector = problem.parameters * problem.element
    parts = []
    if store == "host" and problem.device != "cpu":
        parts.append(Part("student parameters, pinned", vectors * vector, "host", "distillation", "computed"))
        vectors = 2
    if store:
        parts.append(Part(f"student parameters ({store})", vectors * vector, "device", "distillation", "computed"))
    return parts
