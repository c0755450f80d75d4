"""The networks of cross-architecture tables: published sizes by formula, exact gradients, and their buffers."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.errors import UsageError
from engine.matching import matching_gradient
from engine.networks import NETWORKS, FlatNetwork, build_network, flatten_parameters, initialised_network
from engine.networks.dropout import Dropout
from engine.networks.features import Features
from engine.runtime.rng import counted_generator
from tests.conftest import Drive
from tests.engine.networks.test_networks import NAMES, SMALL, SMALLEST, convnet_size, small
from tests.runs import assert_same_bits, in_the_middle, stop_at_iteration

STUDENTS = tuple(name for name in NAMES if name != "vit-benchmark")


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return (inputs * kernel**2 + 1) * outputs


def linear(*units: int) -> int:
    return sum((a + 1) * b for a, b in pairwise(units))


def vgg11(channels: int, side: int, classes: int) -> int:
    widths = [channels, 64, 128, 256, 256, 512, 512, 512, 512]
    features = sum(conv(a, b, 3) + 2 * b for a, b in pairwise(widths))
    return features + linear(512 * (side // 32) ** 2, classes)


def alexnet(channels: int, side: int, classes: int) -> int:
    features = conv(channels, 128, 5) + conv(128, 192, 5) + conv(192, 256, 3) + conv(256, 192, 3) + conv(192, 192, 3)
    return features + linear(192 * (side // 8) ** 2, classes)


def lenet(channels: int, side: int, classes: int) -> int:
    left = ((side - 4) // 2 - 4) // 2
    return conv(channels, 6, 5) + conv(6, 16, 5) + linear(16 * left**2, 120, 84, classes)


def vit_benchmark(channels: int, side: int, classes: int) -> int:
    width, patches = 512, (side // 4) ** 2
    attention = 2 * width + width * 3 * width + linear(width, width)
    mlp = 2 * width + linear(width, width, width)
    ends = linear(channels * 16, width) + (patches + 1) * width + width + 2 * width + linear(width, classes)
    return 6 * (attention + mlp) + ends


def layer_norms(side: int, depth: int) -> int:
    return sum(2 * 128 * (side >> block) ** 2 for block in range(depth))


@pytest.mark.parametrize(
    ("name", "channels", "side", "classes", "size"),
    [
        ("vgg11", 3, 32, 10, 9_231_114),
        ("vgg11", 3, 32, 10, vgg11(3, 32, 10)),
        ("vgg11", 1, 28, 10, vgg11(1, 32, 10)),
        ("vgg11", 3, 64, 200, vgg11(3, 64, 200)),
        ("alexnet", 3, 32, 10, 1_872_202),
        ("alexnet", 3, 32, 100, alexnet(3, 32, 100)),
        ("alexnet", 1, 28, 10, alexnet(1, 32, 10)),
        ("lenet", 3, 32, 10, 62_006),
        ("lenet", 3, 32, 100, lenet(3, 32, 100)),
        ("lenet", 1, 28, 10, lenet(1, 32, 10)),  # LeCun's 61,706
        ("lenet", 3, 64, 10, lenet(3, 64, 10)),
        ("mlp", 3, 32, 10, 411_146),
        ("mlp", 1, 28, 10, linear(28 * 28, 128, 128, 10)),
        ("convnet-batchnorm", 3, 32, 10, convnet_size(3, 32, 10, 128, 3)),
        ("convnet-layernorm", 3, 32, 10, convnet_size(3, 32, 10, 128, 3) - 3 * 2 * 128 + layer_norms(32, 3)),
        ("convnet-layernorm", 1, 28, 10, convnet_size(1, 32, 10, 128, 3) - 3 * 2 * 128 + layer_norms(32, 3)),
        ("convnet-nonorm", 3, 32, 10, convnet_size(3, 32, 10, 128, 3) - 3 * 2 * 128),
        ("vit-benchmark", 3, 32, 10, vit_benchmark(3, 32, 10)),
        ("vit-benchmark", 3, 64, 200, vit_benchmark(3, 64, 200)),
    ],
)
def test_published_sizes(name: str, channels: int, side: int, classes: int, size: int) -> None:
    with torch.device("meta"):
        model = build_network(name, channels=channels, classes=classes, resolution=side)
    assert sum(parameter.numel() for parameter in model.parameters()) == size


def test_the_vit_of_the_benchmark_has_nine_and_a_half_million_parameters() -> None:
    assert vit_benchmark(3, 32, 10) == pytest.approx(9.5e6, rel=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_docs_and_docstrings_give_the_size(name: str) -> None:
    with torch.device("meta"):
        model = build_network(name, channels=3, classes=10, resolution=32)
    size = f"{sum(parameter.numel() for parameter in model.parameters()):,}"
    rows = (Path(__file__).parents[3] / "docs" / "networks.md").read_text().splitlines()
    row = next(row for row in rows if row.startswith(f"| `{name}` |"))
    assert size in row
    words = NETWORKS[name].__doc__ or ""
    assert "parameters for 32x32" not in words or size in words


@pytest.mark.parametrize(("name", "side", "words"), [
    ("lenet", 12, "lenet needs images of at least 16x16 pixels; these have 12x12.*dataset.resolution = 16 or more"),
    ("alexnet", 7, "alexnet needs images of at least 8x8 pixels; these have 7x7"),
    ("vit-benchmark", 30, "vit-benchmark cuts images into patches of 4x4 pixels; 30x30.*multiple of 4"),
])  # fmt: skip
def test_sides_that_do_not_fit(name: str, side: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_network(name, channels=3, classes=5, resolution=side)


@pytest.mark.parametrize("side", [4, 5, 6, 7, 9, 15, 31, 96])
def test_no_norm_of_vgg11_sees_a_single_pixel(side: int) -> None:
    model = build_network("vgg11", channels=3, classes=5, resolution=side, width=2)
    seen: list[int] = []
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[-1]))
    assert model(torch.randn(2, 3, side, side)).shape == (2, 5)
    assert len(seen) == 8 and min(seen) >= 2


def case(name: str, steps: int = 3) -> tuple[torch.nn.Module, dict[str, object]]:
    generator = counted_generator(0, name)
    side = SMALLEST.get(name, 8)
    size = {"channels": 3, "classes": 4, "resolution": side}
    model = initialised_network(name, seed=1, **size, **SMALL[name]).double()

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    start = flatten_parameters(model)
    schedule = [(torch.randint(6, (4,), generator=generator), lambda images: images.flip(3)) for _ in range(steps)]
    return model, {
        "start": start,
        "target": start + 0.1 * noise(*start.shape),
        "images": noise(6, 3, side, side),
        "labels": noise(6, 4).softmax(dim=1),
        "student_lr": 0.05,
        "schedule": schedule,
    }


@pytest.mark.parametrize("name", [name for name in STUDENTS if name not in ("convnet", "resnet18", "vit")])
def test_exact_equals_unrolled(name: str) -> None:
    model, arguments = case(name)
    exact = matching_gradient(model, **arguments, mode="exact")  # type: ignore[arg-type]
    unrolled = matching_gradient(model, **arguments, mode="unrolled")  # type: ignore[arg-type]
    for part in ("loss", "images", "labels", "student_lr"):
        a, b = getattr(exact, part), getattr(unrolled, part)
        assert (a - b).norm() < 1e-9 * b.norm(), part
    assert exact.images.norm() > 0


def test_counted_dropout_is_replayed() -> None:
    model, arguments = case("vit-benchmark", steps=3)
    unrolled = matching_gradient(model, **arguments, mode="unrolled")  # type: ignore[arg-type]
    exact = matching_gradient(model, **arguments, store="checkpoint")  # type: ignore[arg-type]
    for part in ("loss", "images", "labels", "student_lr"):
        a, b = getattr(exact, part), getattr(unrolled, part)
        assert (a - b).norm() < 1e-9 * b.norm(), part
    assert {layer.calls for layer in model.modules() if isinstance(layer, Dropout)} == {0}
    still = matching_gradient(model.eval(), **arguments)  # type: ignore[arg-type]
    assert (exact.images - still.images).norm() > 0.01 * still.images.norm()


@pytest.mark.parametrize("name", ["convnet-batchnorm", "mlp"])
def test_teachers_and_students_resume_to_the_same_bits(tiny_run: Drive, name: str) -> None:
    options = (f"network.name={name}", "evaluate.every=6", "evaluate.epochs=2", "evaluate.repeats=1")
    whole = tiny_run("a", *options)
    # What a teacher's norms have counted is lost with a stop in an epoch; nothing reads it.
    tiny_run("b", *options, until=in_the_middle("teachers", 0.3))
    tiny_run("b", *options, until=stop_at_iteration(2))
    assert_same_bits(whole, tiny_run("b", *options))


def test_batch_norm_uses_the_batch_in_training_and_its_running_statistics_in_evaluation() -> None:
    model = small("convnet-batchnorm")
    images = torch.randn(4, 3, 8, 8)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    network, theta = FlatNetwork(model.train()), flatten_parameters(model)
    trained = network(theta, images)
    # The functional view leaves the module's statistics as they were; the module's own pass counts.
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert torch.equal(model(images), trained)
    assert not torch.equal(model.features[1].running_mean, before["features.1.running_mean"])  # type: ignore[index, union-attr]
    assert int(model.features[1].num_batches_tracked) == 1  # type: ignore[index, union-attr, arg-type]
    evaluated = model.eval()(images)
    assert not torch.allclose(evaluated, trained)
    assert torch.allclose(evaluated[:1], model(images[:1]), atol=1e-5)  # an image alone gives the same
    assert torch.equal(network(theta, images), evaluated)
    assert [name for name in before if "running" in name] == [
        f"features.{index}.running_{what}" for index in (1, 5) for what in ("mean", "var")
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "convnet-batchnorm"])
def test_other_networks_keep_nothing_in_buffers(name: str) -> None:
    assert [name for name, _ in small(name).named_buffers() if not name.startswith("body.encoder")] == []


@pytest.mark.parametrize("name", NAMES)
def test_features_end_in_the_last_linear_layer(name: str) -> None:
    model = small(name).eval()
    side = SMALLEST.get(name, 8)
    images = torch.randn(3, 3, side, side)
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert torch.allclose(last(Features(model)(images)), model(images), atol=1e-6)
