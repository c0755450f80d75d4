"""Dropout: the masks are counted, nothing is drawn globally, and a network with dropout is refused as a student."""

import copy

import pytest
import torch
from torch import nn

from engine.errors import UsageError
from engine.events import EvaluationDone
from engine.networks import initialised_network
from engine.networks.dropout import Dropout, count_dropout, has_dropout, replace_dropout
from tests.conftest import Drive
from tests.runs import assert_same_bits, events, in_the_middle

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


@pytest.mark.parametrize("method", ["tesla", "mtt", "dc", "dm", "frepo"])
def test_no_teacher_or_student_with_dropout(tiny_run: Drive, method: str) -> None:
    words = rf"The network vit-benchmark has dropout.*distill\.method = {method}.*--network vit-benchmark"
    with pytest.raises(UsageError, match=words):
        tiny_run("r", "network.name=vit-benchmark", "network.width=8", f"distill.method={method}")


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
