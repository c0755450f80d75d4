"""MATH.md's identities: the fast ways to the gradient against naive oracles, in float64."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.data import draw_augment
from engine.matching import MatchingGradient, checked_steps, matching_gradient, matching_sweeps
from engine.networks import FlatNetwork, build_network, flatten_parameters
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from tests.live_bytes import LiveBytes

OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")


@dataclass
class Case:
    """A small matching problem."""

    model: torch.nn.Module
    arguments: dict[str, Any]

    def gradient(self, **changes: Any) -> MatchingGradient:
        return matching_gradient(self.model, **{**self.arguments, **changes})


def make_case(
    channels: int = 3,
    steps: int = 5,
    seed: int = 0,
    student_lr: float = 0.4,
    network: str = "convnet",
    side: int = 8,
    depth: int = 2,
) -> Case:
    """Random images, soft labels, a start and a target; batches of 5 images that repeat and never use image 8."""
    generator = counted_generator(seed, "case")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = {"width": 4, "depth": depth} if network == "convnet" else {"width": 8}
        model = build_network(network, channels=channels, classes=4, resolution=side, **size).double()
    start = flatten_parameters(model)
    schedule = []
    for step in range(steps):
        index = torch.randint(8, (5,), generator=generator)
        augment = draw_augment(counted_generator(seed, "augment", step), OPS, (5, channels, side, side))
        schedule.append((index, augment))
    return Case(
        model,
        {
            "start": start,
            "target": start + 0.1 * torch.randn(start.shape, generator=generator, dtype=torch.float64),
            "images": torch.randn(9, channels, side, side, generator=generator, dtype=torch.float64),
            "labels": torch.randn(9, 4, generator=generator, dtype=torch.float64).softmax(dim=1),
            "student_lr": student_lr,
            "schedule": schedule,
        },
    )


def shorten(case: Case) -> None:
    """Let the last batch of the schedule have 3 images instead of 5."""
    index, augment = case.arguments["schedule"][-1]
    short = type(augment)(augment.op, tuple(parameter[:3] for parameter in augment.parameters))
    case.arguments["schedule"][-1] = (index[:3], short)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def assert_close(a: MatchingGradient, b: MatchingGradient, tolerance: float) -> None:
    assert relative(a.loss, b.loss) < tolerance
    for name in ("images", "labels", "student_lr"):
        assert relative(getattr(a, name), getattr(b, name)) < tolerance, name


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_exact_equals_unrolled(channels: int, steps: int) -> None:
    case = make_case(channels, steps)
    assert_close(case.gradient(mode="exact"), case.gradient(mode="unrolled"), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet18", "vit"])
def test_exact_equals_unrolled_on_other_networks(network: str) -> None:
    case = make_case(1, 3, network=network, student_lr=0.05)
    assert_close(case.gradient(mode="exact"), case.gradient(mode="unrolled"), 1e-8)


def literal_equation_6(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. (6) as written: theta_T with all gradients but the i-th held constant, differentiated, summed over i."""
    a = case.arguments
    network = FlatNetwork(case.model)

    def student_gradient(theta: Tensor, images: Tensor, labels: Tensor, graph: bool) -> Tensor:
        theta = theta.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(network(theta, images), labels)
        return torch.autograd.grad(loss, theta, create_graph=graph)[0]

    theta, thetas, gradients = a["start"], [], []
    for index, augment in a["schedule"]:
        thetas.append(theta)
        gradients.append(student_gradient(theta, augment(a["images"][index]), a["labels"][index], False))
        theta = theta - a["student_lr"] * gradients[-1]
    scale = (a["start"] - a["target"]).square().sum()
    totals = [torch.zeros_like(a["images"]), torch.zeros_like(a["labels"]), torch.zeros((), dtype=torch.float64)]
    for i, (index, augment) in enumerate(a["schedule"]):
        images, labels = a["images"].clone().requires_grad_(), a["labels"].clone().requires_grad_()
        student_lr = torch.tensor(a["student_lr"], dtype=torch.float64, requires_grad=True)
        mine = student_gradient(thetas[i], augment(images[index]), labels[index], True)
        others = sum(g for j, g in enumerate(gradients) if j != i)
        loss = (a["start"] - student_lr.detach() * others - student_lr * mine - a["target"]).square().sum() / scale
        for total, part in zip(totals, torch.autograd.grad(loss, (images, labels, student_lr)), strict=True):
            total += part
    return totals[0], totals[1], totals[2]


@pytest.mark.parametrize("channels", [1, 3])
def test_paper_equals_equation_6_as_written(channels: int) -> None:
    case = make_case(channels, 6)
    found = case.gradient(mode="paper")
    images, labels, student_lr = literal_equation_6(case)
    assert relative(found.images, images) < 1e-9
    assert relative(found.labels, labels) < 1e-9
    assert relative(found.student_lr, student_lr) < 1e-9


def test_exact_and_paper_are_one_at_a_single_step_and_differ_at_more() -> None:
    one = make_case(steps=1)
    assert_close(one.gradient(mode="exact"), one.gradient(mode="paper"), 1e-12)
    more = make_case(steps=6)
    assert relative(more.gradient(mode="paper").images, more.gradient(mode="unrolled").images) > 0.01


@pytest.mark.parametrize("name", ["images", "labels", "student_lr"])
@pytest.mark.parametrize("steps", [1, 4])
def test_exact_against_central_differences(name: str, steps: int) -> None:
    # GroupNorm and ReLU are smooth almost everywhere; a small step and a loose bound keep kinks out.
    case = make_case(steps=steps)
    value = torch.as_tensor(case.arguments[name], dtype=torch.float64)
    direction = torch.randn(value.shape, generator=counted_generator(3, "direction"), dtype=torch.float64)
    eps = 1e-6
    up = case.gradient(**{name: value + eps * direction}, mode="paper").loss
    down = case.gradient(**{name: value - eps * direction}, mode="paper").loss
    slope = (getattr(case.gradient(mode="exact"), name) * direction).sum()
    assert float((up - down) / (2 * eps)) == pytest.approx(float(slope), rel=2e-5)


def test_paper_against_central_differences_at_one_step() -> None:
    case = make_case(steps=1)
    direction = torch.randn(9, 3, 8, 8, generator=counted_generator(4, "direction"), dtype=torch.float64)
    up = case.gradient(images=case.arguments["images"] + 1e-6 * direction).loss
    down = case.gradient(images=case.arguments["images"] - 1e-6 * direction).loss
    slope = (case.gradient(mode="paper").images * direction).sum()
    assert float((up - down) / 2e-6) == pytest.approx(float(slope), rel=2e-5)


def test_images_outside_every_batch_get_no_gradient() -> None:
    found = make_case().gradient()
    assert found.images[8].abs().sum() == 0
    assert found.labels[8].abs().sum() == 0
    used = torch.cat([index for index, _ in make_case().arguments["schedule"]]).unique()
    assert (found.images[used].flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 10, 17])
def test_every_store_gives_the_same_bits(steps: int) -> None:
    case = make_case(1, steps)
    device = case.gradient(store="device")
    for store in ("host", "checkpoint", "auto"):
        other = case.gradient(store=store)
        for name in ("loss", "images", "labels", "student_lr"):
            assert torch.equal(getattr(device, name), getattr(other, name)), (store, name)


def test_same_call_same_bits_in_float32() -> None:
    case = make_case()
    single = {k: v.float() for k, v in case.arguments.items() if isinstance(v, Tensor)}
    case.model.float()
    assert torch.equal(case.gradient(**single).images, case.gradient(**single).images)


def test_batch_norm_is_replayed_and_left_alone() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(3 * 64, 4),
    ).double()  # fmt: skip
    case = make_case(1, 4)
    start = flatten_parameters(model)
    case.model = model
    case.arguments |= {"start": start, "target": start + 0.1}
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert_close(case.gradient(mode="exact"), case.gradient(mode="unrolled"), 1e-9)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


def test_inputs_are_not_changed() -> None:
    case = make_case()
    before = {k: v.clone() for k, v in case.arguments.items() if isinstance(v, Tensor)}
    for mode in ("exact", "paper", "unrolled"):
        case.gradient(mode=mode)
    assert all(torch.equal(case.arguments[k], v) for k, v in before.items())


def peak_bytes(mode: str, store: str, steps: int) -> int:
    """Peak of live tensor bytes of one gradient; augmentations are drawn before."""
    generator = counted_generator(0, "memory")
    model = build_network("convnet", channels=3, classes=10, resolution=16, width=8, depth=2)
    start = flatten_parameters(model)
    shape = (32, 3, 16, 16)
    schedule = [(torch.arange(32), draw_augment(counted_generator(0, "a", i), OPS, shape)) for i in range(steps)]
    arguments = {
        "start": start, "target": start + 0.01, "images": torch.randn(shape, generator=generator),
        "labels": torch.full((32, 10), 0.1), "student_lr": 0.01, "schedule": schedule,
    }  # fmt: skip
    matching_gradient(model, mode=mode, store=store, **arguments)  # warm
    gc.collect()
    with LiveBytes() as counter:
        matching_gradient(model, mode=mode, store=store, **arguments)
    return counter.peak


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "store", "most"), [("paper", "auto", 1.03), ("exact", "checkpoint", 1.05)])
def test_memory_is_flat_in_steps(mode: str, store: str, most: float) -> None:
    few, many = peak_bytes(mode, store, 4), peak_bytes(mode, store, 64)
    assert many / few < most


@pytest.mark.slow
def test_the_other_stores_grow_by_their_parameters_and_unrolled_by_graphs() -> None:
    size = sum(p.numel() for p in build_network(
        "convnet", channels=3, classes=10, resolution=16, width=8, depth=2).parameters()) * 4  # fmt: skip
    few, many = peak_bytes("exact", "device", 4), peak_bytes("exact", "device", 64)
    assert 0 <= many - few <= 1.1 * 60 * size
    assert peak_bytes("unrolled", "auto", 16) > 2 * peak_bytes("unrolled", "auto", 4)


@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_a_loop_holds_one_gradient_and_reuses_its_memory(mode: Any) -> None:
    case = make_case(1, 3)
    images = torch.randn(4000, 1, 8, 8, generator=counted_generator(1, "many"), dtype=torch.float64)
    labels = torch.full((4000, 4), 0.25, dtype=torch.float64)
    arguments = {**case.arguments, "images": images, "labels": labels, "mode": mode}
    once = case.gradient(**arguments)
    expected = [tensor.clone() for tensor in (once.images, once.labels, once.student_lr)]
    with LiveBytes(once.images, once.labels) as counter:
        again = run_to_end(matching_sweeps(case.model, **arguments, reuse=once))
    assert again.images.data_ptr() == once.images.data_ptr()
    assert all(torch.equal(a, b) for a, b in zip((again.images, again.labels, again.student_lr), expected, strict=True))
    with LiveBytes() as fresh:
        case.gradient(**arguments)
    assert fresh.peak - counter.peak == pytest.approx(images.nbytes + labels.nbytes, rel=0.01)
    # What is left does not grow with the images there are, only with the batch.
    with LiveBytes() as few:
        case.gradient(**{**arguments, "images": images[:9], "labels": labels[:9]})
    assert counter.peak < 1.01 * few.peak


def test_sweeps_report_progress_and_can_be_stopped() -> None:
    case = make_case(steps=6)
    shares = []
    sweeps = matching_sweeps(case.model, **case.arguments, store="checkpoint")
    for share in sweeps:
        shares.append(share)
    assert len(shares) >= 12
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    sweeps = matching_sweeps(case.model, **case.arguments)
    next(sweeps)
    sweeps.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "fast"}, "mode must be one of exact, paper, unrolled"),
        ({"store": "disk"}, "store must be one of"),
        ({"schedule": []}, "schedule is empty"),
        ({"start": torch.zeros(3)}, "start has shape"),
        ({"target": torch.zeros(3)}, "target has shape"),
        ({"labels": torch.zeros(2, 4)}, "images must be"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_case().gradient(**changes)


def test_a_failing_compiler_falls_back_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    case = make_case(1, 1)
    a = case.arguments
    steps, reason = checked_steps(FlatNetwork(case.model), a["start"], [(a["images"], a["labels"])], hessian=True)
    assert "no compiler here" in reason
    assert type(steps).__name__ == "EagerSteps"


def test_a_miscompilation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def slightly_wrong(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def wrapped(*args: Tensor) -> Any:
            result = function(*args)
            return result * 1.01 if isinstance(result, Tensor) else result

        return wrapped

    monkeypatch.setattr(torch, "compile", slightly_wrong)
    case = make_case(1, 1)
    a = case.arguments
    steps, reason = checked_steps(FlatNetwork(case.model), a["start"], [(a["images"], a["labels"])], hessian=True)
    assert "first-order gradient differs" in reason
    assert type(steps).__name__ == "EagerSteps"
