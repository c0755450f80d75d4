"""Steps as CUDA graphs, with a stand-in for the recording: compared in several replays, and left out when wrong."""

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from engine.matching import CompiledSteps, MatchingGradient, Steps, checked_steps, compiled, graphs, matching_sweeps
from engine.matching.graphs import Memory, Recorded, Replayed, launch_bound
from engine.networks.flat import FlatNetwork, flatten_parameters
from engine.runtime.generators import run_to_end
from engine.training import sgd
from engine.training.sgd import CompiledTrainer, SgdRule, compiled_step, recorded_step, sgd_step
from tests.engine.matching.test_matching import Case, assert_close, make_case

Record = Callable[[Callable[..., Any], Sequence[Tensor], Memory], Recorded | None]


def recording(
    function: Callable[..., Any], arguments: Sequence[Tensor], memory: Memory, wrong_from: int = 10**9
) -> Recorded:
    """As a CUDA graph: fixed inputs, and results that every replay overwrites; from one replay on, it does nothing."""
    inputs = [argument.clone() for argument in arguments]
    outputs = tree_map(torch.clone, function(*inputs))
    replays = 0

    def replay() -> None:
        nonlocal replays
        replays += 1
        if replays < wrong_from:
            for kept, new in zip(tree_flatten(outputs)[0], tree_flatten(function(*inputs))[0], strict=True):
                kept.copy_(new)

    return Recorded(inputs, outputs, replay)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Record], None]:
    """Record every step in a given way; nothing is compiled."""

    def with_record(record: Record) -> None:
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        monkeypatch.setattr(graphs, "record", record)
        for module in (compiled, sgd):
            monkeypatch.setattr(module, "launch_bound", lambda images: True)

    return with_record


def checked(case: Case) -> tuple[Any, str]:
    a = case.arguments
    batches = [(a["images"], a["labels"]), (a["images"][:2], a["labels"][:2])]
    return checked_steps(FlatNetwork(case.model), a["start"], batches, hessian=True)


def solved(case: Case, steps: Steps) -> MatchingGradient:
    return run_to_end(matching_sweeps(steps, **case.arguments))


def test_replays_give_what_eager_gives(use: Callable[[Record], None]) -> None:
    use(recording)
    case = make_case(1, 2)
    steps, reason = checked(case)
    assert reason == ""
    assert isinstance(steps._gradient, Replayed)
    assert_close(solved(case, steps), case.gradient(), 1e-12)


@pytest.mark.parametrize("call", [2, 3])
def test_a_replay_that_is_wrong_is_noticed(call: int, use: Callable[[Record], None]) -> None:
    use(lambda *given: recording(*given, wrong_from=call))
    steps, reason = checked(make_case(1, 1))
    assert reason.startswith("CUDA graphs are not used: the compiled ")
    assert isinstance(steps, CompiledSteps)
    assert not isinstance(steps._gradient, Replayed)


def test_what_cannot_be_recorded_is_called_as_it_is(use: Callable[[Record], None]) -> None:
    def fails(*given: Any) -> Recorded:
        raise AssertionError

    use(fails)
    steps, reason = checked(make_case(1, 1))
    assert reason == "CUDA graphs are not used: AssertionError", "an error without text is named by its kind"
    assert isinstance(steps, CompiledSteps)


def test_what_would_hold_too_much_memory_is_not_replayed(use: Callable[[Record], None]) -> None:
    use(lambda *given: None)
    case = make_case(1, 1)
    steps, reason = checked(case)
    assert reason == ""
    assert_close(solved(case, steps), case.gradient(), 1e-12)


def test_a_second_thread_records_and_the_first_replays(use: Callable[[Record], None]) -> None:
    use(recording)
    made = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: made.append(checked(make_case(1, 1))))
        thread.start()
        thread.join()
    assert [reason for _, reason in made] == ["", ""]
    case = make_case(1, 1)
    for steps, _ in made:
        assert_close(solved(case, steps), case.gradient(), 1e-12)


def test_networks_in_turn_share_a_recorded_training_step(use: Callable[[Record], None]) -> None:
    use(recording)
    network, rule = FlatNetwork(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))), SgdRule(0.9, 5e-4)
    thetas = [torch.randn(network.size, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    images, targets = torch.linspace(-1, 1, 48).view(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
    step, reason = recorded_step(network, rule, compiled_step(network, rule), thetas[0], images, targets)
    assert reason == ""
    assert step is not compiled_step(network, rule)
    plain = [CompiledTrainer(network, theta, rule, {}) for theta in thetas]
    trainers = [CompiledTrainer(network, theta, rule, {4: step}) for theta in thetas]
    losses = []
    for number in range(3):
        for trainer, other in zip(trainers, plain, strict=True):
            losses.append(
                (trainer.step(images * number, targets, 0.1)[0], other.step(images * number, targets, 0.1)[0])
            )
    assert all(torch.equal(trainer.theta(), other.theta()) for trainer, other in zip(trainers, plain, strict=True))
    assert all(torch.equal(a, b) for a, b in losses), "kept results are not overwritten"


def test_a_wrong_replay_of_a_training_step_is_noticed(use: Callable[[Record], None]) -> None:
    use(lambda *given: recording(*given, wrong_from=3))
    network, rule = FlatNetwork(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))), SgdRule()
    images, targets = torch.linspace(-1, 1, 48).view(4, 3, 2, 2), torch.tensor([0, 1, 2, 0])
    own = sgd_step(network, rule)
    step, reason = recorded_step(network, rule, own, flatten_parameters(network.model), images, targets)
    assert step is own
    assert reason.startswith("CUDA graphs are not used: the compiled ")


def test_only_small_batches_on_a_gpu_are_bound_by_launches() -> None:
    assert not launch_bound(torch.zeros(1, 3, 32, 32)), "on the CPU nothing is"
    for count, bound in ((100, True), (256, True), (1024, False)):  # matching steps and teachers of CIFAR-100; more
        numbers = count * 3 * 32 * 32
        batch = SimpleNamespace(device=torch.device("cuda"), numel=lambda numbers=numbers: numbers)
        assert launch_bound(batch) is bound  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_on_a_gpu_every_thread_of_a_process_records() -> None:
    made = []
    cases = [make_case(1, 2), make_case(3, 2)]
    for case in cases:
        network = FlatNetwork(case.model.to("cuda"))
        a = {name: value.to("cuda") if isinstance(value, Tensor) else value for name, value in case.arguments.items()}
        batches = [(a["images"], a["labels"])]

        def check(network: FlatNetwork = network, theta: Tensor = a["start"], batches: Any = batches) -> None:
            made.append(checked_steps(network, theta, batches, hessian=True))

        thread = threading.Thread(target=check)
        thread.start()
        thread.join()
    assert [reason for _, reason in made] == ["", ""]
    assert all(isinstance(steps._gradient, Replayed) for steps, _ in made)
