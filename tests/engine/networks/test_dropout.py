"""Dropout: the masks are counted, nothing is drawn globally, and student steps replay them."""

import copy

import pytest
import torch
from torch import nn

from engine.errors import UsageError
from engine.events import EvaluationDone, Notice
from engine.matching import EagerSteps
from engine.matching.compiled import UNCOMPILED
from engine.methods.draws import draw_iteration
from engine.methods.tesla import TESLA, matching_gradient_of
from engine.networks import initialised_network
from engine.networks.dropout import (
    Dropout,
    count_dropout,
    has_dropout,
    replace_dropout,
    set_dropout_calls,
    without_dropout,
)
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from tests.conftest import Drive
from tests.runs import assert_same_bits, events, in_the_middle, stop_at_iteration

SIZE = {"channels": 1, "classes": 10, "resolution": 8, "width": 16, "depth": 2}


def test_a_mask_is_a_function_of_seed_layer_and_call() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    images = torch.ones(5, 1, 8, 8)
    models = [initialised_network("vit-benchmark", seed=seed, **SIZE) for seed in (1, 1, 2)]
    first, second = [[model(images) for _ in range(2)] for model in models[:2]]
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])  # another mask at every call
    layers = [module for module in models[0].modules() if isinstance(module, Dropout)]
    assert len(layers) == 1 + 3 * 2 and {layer.calls for layer in layers} == {2}
    assert len({layer.seed for layer in layers}) == len(layers)
    assert not {layer.seed for layer in layers} & {m.seed for m in models[2].modules() if isinstance(m, Dropout)}
    count_dropout(models[0], 1)
    assert torch.equal(models[0](images), first[0])
    assert torch.equal(copy.deepcopy(models[0])(images), first[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_share_that_is_dropped_and_the_scale_of_the_rest() -> None:
    layer = Dropout(0.1)
    x = torch.ones(1000, 1001, dtype=torch.float64)
    found = layer(x)
    assert (found == 0).double().mean() == pytest.approx(0.1, abs=0.002)
    assert found[found != 0].unique().tolist() == [1 / 0.9]
    assert torch.equal(layer.eval()(x), x) and layer.calls == 1
    assert torch.equal(Dropout(1.0)(x), 0 * x) and torch.equal(Dropout(0.0)(x), x)


def test_layers_of_pytorch_are_replaced() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Dropout2d(0.25), nn.Dropout(0.0))).eval()
    replace_dropout(model)
    assert repr(model[1]) == "Dropout(share=0.5)" and not model[1].training
    assert not any(isinstance(module, (nn.Dropout, nn.Dropout2d)) for module in model.modules())
    whole = model[2][0].train()(torch.ones(8, 16, 3, 3))
    assert all(channel.unique().numel() == 1 for image in whole for channel in image)
    assert 0 < (whole == 0).float().mean() < 0.6
    assert has_dropout(model)
    assert not has_dropout(nn.Dropout(0.0)) and has_dropout(nn.AlphaDropout(0.1))


@pytest.mark.parametrize("method", ["dc", "dm", "frepo"])
def test_methods_that_do_not_replay_masks_refuse_dropout(tiny_run: Drive, method: str) -> None:
    words = rf"The network vit-benchmark has dropout.*distill\.method = {method}.*--network vit-benchmark"
    with pytest.raises(UsageError, match=words):
        tiny_run("r", "network.name=vit-benchmark", "network.width=8", f"distill.method={method}")


def test_layers_are_switched_off_and_continue_from_a_count() -> None:
    model = nn.Sequential(Dropout(0.5), nn.BatchNorm1d(8), nn.MultiheadAttention(8, 2, dropout=0.1), nn.Dropout(0.0))
    with pytest.raises(RuntimeError, match="inside"), without_dropout(model):
        assert [module.training for module in model] == [False, True, False, True]
        raise RuntimeError("inside")
    assert all(module.training for module in model.modules())
    x = torch.ones(4, 8)
    masks = [model[0](x) for _ in range(3)]
    set_dropout_calls(model, 1)
    assert torch.equal(model[0](x), masks[1])
    assert has_dropout(nn.MultiheadAttention(8, 2, dropout=0.1)) and not has_dropout(nn.MultiheadAttention(8, 2))


@pytest.mark.parametrize("labels", ["hard", "target"])
def test_teachers_and_students_with_dropout_resume_to_the_same_bits(tiny_run: Drive, labels: str) -> None:
    options = (
        "network.name=vit-benchmark", "network.width=8", "network.depth=1", "evaluate.every=6", "evaluate.epochs=2",
        "evaluate.repeats=1", f"labels.kind={labels}", "compute.compile=on",
    )  # fmt: skip
    state = torch.get_rng_state()
    tiny_run("b", *options, until=in_the_middle("teachers", 0.3))
    tiny_run("b", *options, until=stop_at_iteration(2))
    stopped = tiny_run("b", *options)
    (folder,) = (stopped.folder.parents[1] / "buffers").iterdir()
    folder.rename(folder.parents[2] / "of-b")  # the other run trains its own teachers
    whole = tiny_run("a", *options)
    assert_same_bits(whole, stopped)
    paths = list((folder.parents[2] / "of-b").glob("*.safetensors"))
    assert len(paths) == 2
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert torch.equal(torch.get_rng_state(), state)
    said = [notice.message for notice in events(whole, Notice) if "torch.compile" in notice.message]
    assert said == [f"{UNCOMPILED}."]


def test_student_steps_with_dropout_are_a_function_of_the_iteration(tiny_run: Drive) -> None:
    options = ("network.name=vit-benchmark", "network.width=8", "network.depth=1", "compute.dtype=float64")
    run = tiny_run("a", *options)
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    state = TESLA.restore_state(*run.load_checkpoint(0), task)
    steps = EagerSteps(task.flat_network())
    found = [
        run_to_end(matching_gradient_of(task, steps, buffer, state, draw_iteration(task, 0), store))[0]
        for store in ("device", "checkpoint")
    ]
    assert torch.equal(found[0].images, found[1].images)
    state.iteration = 1  # the same teacher, batches and augmentations
    other = run_to_end(matching_gradient_of(task, steps, buffer, state, draw_iteration(task, 0), "device"))[0]
    assert (other.images - found[0].images).norm() > 0.01 * found[0].images.norm()


def test_evaluations_with_dropout_and_batch_norm_repeat_to_the_bit(tiny_run: Drive) -> None:
    overrides = (
        "distill.method=random", "distill.iterations=0",
        "network.name=vit-benchmark", "network.width=16", "network.depth=1",
        "evaluate.networks=vit-benchmark,convnet-batchnorm", "evaluate.epochs=4", "evaluate.selection_repeats=1",
        "evaluate.random_lr=0.01",  # the held-out accuracies that choose one are a's alone
    )  # fmt: skip
    whole = tiny_run("a", *overrides)
    tiny_run("b", *overrides, until=in_the_middle("evaluation", 0.5))
    assert_same_bits(whole, tiny_run("b", *overrides))
    found = {(e.network, e.split) for e in events(whole, EvaluationDone)}
    assert found == {("vit-benchmark", "test"), ("convnet-batchnorm", "test")}
