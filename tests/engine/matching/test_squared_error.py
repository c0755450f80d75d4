"""`labels.loss = mse`: the same machinery with another student loss, against naive oracles in float64."""

import pytest
import torch

from engine.matching import matching_gradient, matching_sweeps
from engine.networks import FlatNetwork
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from tests.engine.matching.test_matching import assert_close, make_case, relative, shorten

# PyTorch's own, when the compiler is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def test_the_student_minimises_half_the_squared_distance() -> None:
    case = make_case(1, 1, student_lr=0.05)
    a = case.arguments
    network = FlatNetwork(case.model)
    index, augment = a["schedule"][0]
    images, labels = a["images"].clone().requires_grad_(), a["labels"].clone().requires_grad_()
    theta = a["start"].clone().requires_grad_()
    logits = network(theta, augment(images[index]))
    loss = sum(0.5 * (logits[i, k] - labels[index][i, k]) ** 2 for i in range(5) for k in range(4)) / 5
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    end = a["start"] - 0.05 * gradient
    matching = ((end - a["target"]) ** 2).sum() / ((a["start"] - a["target"]) ** 2).sum()
    by_images, by_labels = torch.autograd.grad(matching, (images, labels))
    for mode in ("exact", "paper", "unrolled"):  # the same at a single step
        found = case.gradient(mode=mode, loss="mse")
        assert relative(found.loss, matching.detach()) < 1e-12
        assert relative(found.images, by_images) < 1e-9
        assert relative(found.labels, by_labels) < 1e-9


@pytest.mark.parametrize("store", ["device", "checkpoint"])
def test_exact_equals_unrolled(store: str) -> None:
    case = make_case(3, 6, student_lr=0.05)
    assert_close(case.gradient(loss="mse", store=store), case.gradient(loss="mse", mode="unrolled"), 1e-9)
    assert relative(case.gradient(loss="mse").images, case.gradient().images) > 0.1  # it is another loss


def test_exact_with_labels_that_are_no_probabilities() -> None:
    case = make_case(1, 4, student_lr=0.05)
    raw = torch.randn(9, 4, generator=counted_generator(5, "raw"), dtype=torch.float64)
    # Labels that a run learns as probabilities may leave them; `matching_gradient` takes them for a mistake.
    arguments = {**case.arguments, "labels": raw}
    for loss in ("cross-entropy", "mse"):
        network = FlatNetwork(case.model, loss=loss)  # type: ignore[arg-type]
        exact, unrolled = (
            run_to_end(matching_sweeps(network, **arguments, mode=mode))  # type: ignore[arg-type]
            for mode in ("exact", "unrolled")
        )
        assert_close(exact, unrolled, 1e-9)
    assert_close(case.gradient(labels=raw, loss="mse"), unrolled, 1e-9)


def test_labels_against_central_differences() -> None:
    case = make_case(1, 4, student_lr=0.05)
    labels = case.arguments["labels"]
    direction = torch.randn(labels.shape, generator=counted_generator(3, "direction"), dtype=torch.float64)
    up, down = (
        case.gradient(labels=labels + sign * 1e-6 * direction, mode="paper", loss="mse").loss for sign in (1, -1)
    )
    slope = (case.gradient(loss="mse").labels * direction).sum()
    assert float((up - down) / 2e-6) == pytest.approx(float(slope), rel=2e-5)


@pytest.mark.slow
def test_compiled_equals_eager_and_another_loss_is_compiled_anew() -> None:
    case = make_case(1, 3, student_lr=0.05, depth=1)
    both = make_case(1, 3, student_lr=0.05, depth=1)
    shorten(both)  # batches of two sizes, each compiled for itself
    # The same model with another loss must not be taken from what is known.
    for loss, mode, schedule in (("mse", "paper", both), ("cross-entropy", "exact", case)):
        arguments = {"loss": loss, "mode": mode, "schedule": schedule.arguments["schedule"]}
        found = case.gradient(**arguments, compile=True)  # a warning that it is not compiled would be an error
        assert_close(found, case.gradient(**arguments), 1e-9)


def test_an_unknown_loss_is_named() -> None:
    case = make_case(1, 1)
    with pytest.raises(ValueError, match="loss must be one of cross-entropy, mse; got 'l1'"):
        matching_gradient(case.model, **case.arguments, loss="l1")  # type: ignore[arg-type]
