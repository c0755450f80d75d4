"""The student's steps of an iteration: eager or compiled, whole batches or parts of them when memory runs out."""

from collections.abc import Generator

from engine.events import COMPILING, Event, Notice, Progress, with_progress
from engine.matching import EagerSteps, MicroSteps, Steps, checked_steps, part_sizes
from engine.methods.batch_coupling import batch_sizes, couples_images
from engine.methods.draws import draw_iteration
from engine.methods.tesla_state import DistillState
from engine.networks import flatten_parameters
from engine.networks.dropout import has_dropout
from engine.runtime.compiler_cache import compiled_key, remember
from engine.runtime.out_of_memory import asked_bytes, free_bytes, is_out_of_memory
from engine.runtime.rng import counted_seed
from engine.runtime.threads import run_in_thread
from engine.settings import Settings
from engine.storage.filesystem import format_bytes
from engine.training import labels as label_rules
from engine.training.compile_policy import matching_compiles
from engine.training.real_images import random_real, real_images
from engine.training.task import Task

STAGE = "distillation"


def student_steps(task: Task, state: DistillState) -> Generator[Event, None, Steps]:
    """Eager or compiled student steps, as `compute.compile` says."""
    network = task.flat_network()
    settings = task.settings
    rows = parts_of(state, settings)

    def in_parts(steps: Steps) -> Steps:
        return MicroSteps(steps, rows) if rows else steps

    if not matching_compiles(settings, task.image_shape, task.classes, network.model):
        return in_parts(EagerSteps(network))
    # All iterations cut their permutation in chunks of the same sizes, the ragged last one included.
    by_size = {len(index): (index, augment) for index, augment in draw_iteration(task, 0).schedule}
    sizes = {size: batch for batch in by_size for size in part_sizes(batch, rows)}
    yield Notice(
        level="info",
        message="Compiling the matching steps: a minute or so for a new network or batch size, seconds if you have "
        "compiled it on this machine before.",
        about=COMPILING,
    )
    # Checked on the same real images whatever iteration this is: a resumed run decides as the first one did.
    real = random_real(task, settings.distill.ipc, "init-real")
    classes = label_rules.class_index(task.classes, settings.distill.ipc)
    batches = []
    for size, batch in sizes.items():
        index, augment = by_size[batch]
        images = real_images(task, real[index.cpu()])
        labels = label_rules.hard_labels(classes[index.cpu()].to(task.device), task.classes, task.dtype)
        batches.append((augment(images)[:size], labels[:size]))
    theta = flatten_parameters(task.fresh_network(counted_seed(settings.seed, "compile-check")))
    exact = settings.distill.gradient == "exact"
    kernels = settings.compute.cpu_kernels
    compiling = run_in_thread(lambda: checked_steps(network, theta, batches, hessian=exact, cpu_kernels=kernels))
    at = Progress(stage=STAGE, done=state.iteration, total=settings.distill.iterations, unit="iterations")
    steps, reason = yield from with_progress(compiling, at, "compiling")
    if reason:
        yield Notice(level="warning", message=f"{reason}.")
    if not isinstance(steps, EagerSteps):
        for images, labels in batches:
            remember(compiled_key("matching", settings, task.network_name, images.shape, labels.shape[1]))
    return in_parts(steps)


def parts_of(state: DistillState, settings: Settings) -> int:
    """Images that are differentiated at once; 0 for a whole batch. What memory forced before is kept."""
    wanted = settings.compute.micro_batch
    if settings.distill.gradient == "unrolled" or wanted == "off":
        return 0
    return state.health.rows if wanted == "auto" else wanted


def _in_parts(task: Task) -> bool:
    """Whether the network works on parts of a batch; the check takes memory for four images."""
    try:
        return not couples_images(task.flat_network(), task)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False


def smaller_parts(task: Task, state: DistillState, error: Exception) -> Notice | None:
    """Continue with half as many images at once, if this is what the error is about and it can be done."""
    settings = task.settings
    most = max(batch_sizes(task))
    now = min(parts_of(state, settings) or most, most)
    if (
        not is_out_of_memory(error) or settings.compute.micro_batch != "auto" or now == 1
        or settings.distill.gradient == "unrolled"
        or task.ranks.size > 1  # the others wait in the middle of a step
        or not _in_parts(task)
    ):  # fmt: skip
        return None
    state.health.rows = now // 2
    asked = asked_bytes(error)
    where = "" if task.device.type == "cpu" else f" on {task.device}"
    free = f"{format_bytes(free_bytes(task.device))} free{where}"
    same = "with other masks of dropout" if has_dropout(task.flat_network().model) else "the same but for rounding"
    words = "" if asked is None else f" ({format_bytes(asked)} asked for, {free})"
    return Notice(
        level="warning",
        message=f"Out of memory in a matching step of {now} images{words}: from now on, {now // 2} are differentiated "
        f"at once and their gradients are summed; the result is {same}. The run keeps this "
        f"(compute.micro_batch = {now // 2} sets it for a new run).",
    )
