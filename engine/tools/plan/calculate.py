"""The measurements of a plan, calculated from what is published about a machine instead of taken on it.

    seconds of a step = max(launching, operations / (efficiency peak) + passes graph / bandwidth)

where `graph` are the bytes that a first-order graph of the batch keeps, which stand for the sizes of all activations,
and `passes` how often the kernels of a step read or write as much. The constants are from one machine, an NVIDIA H200
with 16 CPU cores and PyTorch 2.11 (docs/cuda.md): ConvNetD3 of width 128 on batches of 100 images of 3x32x32 and
ConvNetD4 on 3x64x64, teachers of the first, and ten images of 1x32x32. The formula is within 20 % of its compiled
steps; eager ones differed by as much as half between two runs (tests/engine/tools/test_plan_machines.py).
"""

from engine.errors import UsageError
from engine.matching.graphs import LAUNCH_BOUND
from engine.settings import Settings
from engine.tools.plan.machines import Machine
from engine.tools.plan.measurements import Measured
from engine.tools.plan.problem import Found, step_units
from engine.training.compile_policy import MATCHING, TRAINING
from engine.training.teachers import teacher_rule

EFFICIENCY = {"eager": 0.34, "compiled": 0.48}
"""Share of the peak that convolutions reach."""
MATCHING_PASSES = {"eager": 112.0, "compiled": 45.0}
TRAINING_PASSES = {"eager": 14.0, "compiled": 11.0}
MATCHING_LAUNCH = {"eager": 16e-3, "compiled": 5.5e-3, "graph": 1.9e-3}
"""Seconds to start the kernels of a matching step."""
TRAINING_LAUNCH = {"eager": 4.4e-3, "compiled": 1e-3}
"""The same of a training step, which is a CUDA graph where it is compiled."""
COMPILED_UNITS = 11 / 12
"""Operations of a compiled matching step over those of an eager one (docs/performance.md)."""
STEP_MEMORY, TRAINING_MEMORY = 4.3, 1.6
"""Peak of a step over the bytes of a first-order graph: of a matching step as measured (2.9 to 4.3)."""
SAVE_RATE, SAVE_SECONDS = 5e8, 0.02
"""Of a disk, bytes a second; and seconds of a small checkpoint."""
PROGRAM = {"cuda": 2_500_000_000, "mps": 500_000_000}
"""Usual bytes of a process that loaded PyTorch for such a device."""


def step_seconds(
    machine: Machine, kernels: str, launch: float, operations: float, graph: float, passes: float,
    precision: str = "float32",
) -> float:  # fmt: skip
    """Seconds of a step; see the module.

    Args:
        machine: where.
        kernels: `eager` or `compiled`.
        launch: seconds to start its kernels.
        operations: floating-point operations.
        graph: bytes of a first-order graph of the batch.
        passes: how often they are read or written.
        precision: of products.
    """
    computing = operations / (EFFICIENCY[kernels] * machine.peak(precision))
    return float(max(launch, computing + passes * graph / machine.bandwidth))


def matching_seconds(machine: Machine, how: str, forward: float, graph: float, precision: str = "float32") -> float:
    """Seconds of a matching step of `exact`: `eager`, `compiled`, or compiled and replayed as a CUDA `graph`."""
    kernels = "eager" if how == "eager" else "compiled"
    operations = 12 * forward * (1.0 if how == "eager" else COMPILED_UNITS)
    return step_seconds(machine, kernels, MATCHING_LAUNCH[how], operations, graph, MATCHING_PASSES[kernels], precision)


def training_seconds(machine: Machine, how: str, forward: float, graph: float, precision: str = "float32") -> float:
    """Seconds of a training step, `eager` or `compiled`."""
    return step_seconds(machine, how, TRAINING_LAUNCH[how], 3 * forward, graph, TRAINING_PASSES[how], precision)


def calculate(machine: Machine, settings: Settings, shapes: Found, *, teachers: bool) -> Measured:
    """What `take_measurements` would find on the machine.

    Args:
        machine: which.
        settings: of the run.
        shapes: of its networks and batches, see `measure_shapes.shapes`.
        teachers: whether some are left to train.
    """
    precision = settings.compute.precision
    own = shapes["networks"][settings.network.name]
    basis = (
        f"calculated for the {machine.title}: peak {machine.peak(precision) / 1e12:,.3g} TFLOP/s "
        f"({precision}), {machine.bandwidth / 1e12:.3g} TB/s"
    )
    common = {"basis": basis, "seen": True, "base": PROGRAM[machine.kind]}
    matching = _matching(machine, settings, shapes, own)
    evaluations = {
        name: {**common, **_evaluation(machine, settings, shapes, facts)} for name, facts in shapes["networks"].items()
    }
    trained = {**common, **_teachers(machine, settings, shapes, own)} if teachers else None
    return Measured(trained, evaluations, [{**common, **matching}])


def _how(machine: Machine, wanted: bool, numbers: int) -> str:
    """How matching steps are run on batches of that many numbers."""
    if not wanted or machine.kind != "cuda":
        return "eager"
    return "graph" if numbers <= LAUNCH_BOUND else "compiled"


def _matching(machine: Machine, settings: Settings, shapes: Found, own: Found) -> Found:
    batch, gradient = shapes["batch"], settings.distill.gradient
    how = _how(machine, shapes["matching_compiles"], batch * shapes["values"])
    graph = batch * own["graph_bytes"]
    each = matching_seconds(machine, how, batch * own["flops"], graph, settings.compute.precision)
    steps = settings.distill.steps
    label = _labels(machine, settings.compute.precision, own)
    return {
        "seconds": each * step_units(gradient, steps) / 12, "steps": steps,
        "images": shapes["images"], "batch": batch, "whole": batch, "compiled": how != "eager",
        "compiling": 0.0 if how == "eager" else MATCHING["cuda"].seconds, "label_seconds": label,
        "device": int(STEP_MEMORY * graph), "graph_bytes": graph, "parameters": own["parameters"], "state_bytes": 0,
        "save_seconds": SAVE_SECONDS, "save_rate": SAVE_RATE,
    }  # fmt: skip


def _labels(machine: Machine, precision: str, own: Found) -> float:
    """Seconds to label an image, or to measure one: a forward pass reads and writes a graph about three times."""
    return step_seconds(machine, "eager", 0.0, own["flops"], own["graph_bytes"], 3.0, precision)


def _evaluation(machine: Machine, settings: Settings, shapes: Found, own: Found) -> Found:
    count, precision = min(shapes["trained_on"], settings.evaluate.batch), settings.compute.precision
    compiled = own["evaluation_compiles"] and machine.kind == "cuda"
    how = "compiled" if compiled else "eager"
    graph = count * own["graph_bytes"]
    return {
        "images": count, "size": count, "whole": count, "compiled": compiled,
        "seconds_per_epoch": training_seconds(machine, how, count * own["flops"], graph, precision),
        "seconds_per_measured": _labels(machine, precision, own), "seconds_besides": 0.0,
        "compiling": TRAINING["cuda"].seconds if compiled else 0.0, "device": int(TRAINING_MEMORY * graph),
    }  # fmt: skip


def _teachers(machine: Machine, settings: Settings, shapes: Found, own: Found) -> Found:
    batch = shapes["teacher_batch"]
    compiled = shapes["teachers_compile"] and machine.kind == "cuda"
    how = "compiled" if compiled else "eager"
    graph = batch * own["graph_bytes"]
    step = training_seconds(machine, how, batch * own["flops"], graph, settings.compute.precision)
    step *= teacher_rule(settings).gradients
    return {
        "size": batch, "whole": batch, "compiled": compiled, "seconds_per_image": step / batch,
        "snapshot_seconds": SAVE_SECONDS, "compiling": TRAINING["cuda"].seconds if compiled else 0.0,
        "device": int(TRAINING_MEMORY * graph),
    }  # fmt: skip


def check_calculable(settings: Settings) -> None:
    """Whether a run can be planned for a machine that is not there.

    Raises:
        UsageError: it cannot.
    """
    if not settings.needs_teachers:
        raise UsageError(
            f"--device calculates the methods that match trajectories; {settings.distill.method} has none.",
            "Plan it on the machine itself, without --device.",
        )
    if settings.compute.dtype == "float64":
        raise UsageError("--device calculates in float32; compute.dtype is float64.", "Set compute.dtype = float32.")
