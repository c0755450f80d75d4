"""Wrong arguments: one sentence each, with the argument, what it is, and what to give."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from engine.matching import matching_gradient
from engine.networks import FlatNetwork, flatten_parameters
from tests.engine.matching.modules import CLASSES, case_of, mlp
from tests.engine.matching.test_matching import assert_close

MISUSE: Mapping[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "class indices": (
        lambda a: {"labels": torch.arange(7) % CLASSES},
        r"labels has shape \(7,\) and type int64, so it holds class indices.*F\.one_hot\(labels, K\)\.float\(\)",
    ),
    "integers": (
        lambda a: {"labels": F.one_hot(torch.arange(7) % CLASSES, CLASSES)},
        r"labels is int64; it must be floating point\. Give probabilities, such as labels\.float\(\)",
    ),
    "a sum of 7": (lambda a: {"labels": a["labels"] * 7}, r"labels must be probabilities.*sums to 7.*labels\.sum"),
    "below 0": (lambda a: {"labels": a["labels"] * 7 - 2}, "labels must be probabilities, which are at least 0"),
    "classes": (
        lambda a: {"labels": torch.full((7, 4), 0.25, dtype=torch.float64)},
        rf"labels has 4 classes and the model has {CLASSES}. Give \(N, {CLASSES}\)",
    ),
    "a negative rate": (lambda a: {"student_lr": -1}, "student_lr is -1; it must be a positive number"),
    "a rate of NaN": (lambda a: {"student_lr": float("nan")}, "student_lr is nan; it must be a positive number"),
    "a list of rates": (lambda a: {"student_lr": torch.ones(3)}, r"student_lr is a tensor \(3,\); it must be a posi"),
    "no distance": (lambda a: {"target": a["start"].clone()}, "start and target are equal.*of another epoch"),
    "bytes": (
        lambda a: {"images": torch.zeros(7, 1, 4, 4, dtype=torch.uint8)},
        r"images is uint8; it must be floating point.*images\.float\(\) / 255",
    ),
    "mixed types": (
        lambda a: {"images": a["images"].float()},
        r"images is float32 and start is float64; they must be alike. Give images\.to\(start\.dtype\)",
    ),
    "a mixed target": (lambda a: {"target": a["target"].float()}, "target is float32 and start is float64"),
    "devices": (
        lambda a: {"images": a["images"].to("meta")}, r"images is on meta and start is on cpu. Give images\.to\('cpu'\)"
    ),
    "no tensor": (lambda a: {"start": a["start"].tolist()}, "start is a list; it must be a tensor"),
    "no gradient": (
        lambda a: {"target": torch.inference_mode()(a["target"].clone)()},
        r"target was made in torch\.inference_mode\(\).*Give target\.clone\(\)",
    ),
    "no numbers": (
        lambda a: {name: a[name].to("meta") for name in ("start", "target", "images", "labels")}
        | {"schedule": schedule(torch.arange(3, device="meta"))},
        "start is on the device meta, so it has no numbers",
    ),
    "an index for inference": (
        lambda a: {"schedule": schedule(torch.inference_mode()(torch.arange)(3))},
        r"schedule\[1\]'s index was made in torch\.inference_mode\(\).*index\.clone\(\)",
    ),
    "later augmentations to NaN": (
        lambda a: {"schedule": [*schedule(torch.arange(3)), (torch.arange(3), lambda batch: batch * torch.nan)]},
        r"schedule\[2\]'s augmentation makes numbers that are not finite",
    ),
    "a seed of text": (lambda a: {"seed": "a"}, "seed is a str; it must be a whole number or None"),
    "another model": (lambda a: {"start": a["start"][1:]}, r"start has shape.*flatten_parameters\(model\)"),
    "a high index": (lambda a: {"schedule": schedule(torch.tensor([0, 7]))}, "index has 7; there are 7 images, 0 to 6"),
    "a low index": (lambda a: {"schedule": schedule(torch.tensor([0, -1]))}, r"schedule\[1\]'s index has -1;"),
    "a float index": (
        lambda a: {"schedule": schedule(torch.tensor([0.0, 1.0]))},
        r"schedule\[1\]'s index is float32 \(2,\); it must be a LongTensor \(B,\). Give index\.long\(\)",
    ),
    "a mask": (lambda a: {"schedule": schedule(torch.ones(7) > 0)}, r"index is bool \(7,\).*index\.nonzero\(\)"),
    "a list": (lambda a: {"schedule": schedule([0, 1])}, r"schedule\[1\]'s index is a list; it.*torch\.as_tensor"),
    "an empty batch": (lambda a: {"schedule": schedule(torch.arange(0))}, r"index is int64 \(0,\).*at least one"),
    "a generator": (lambda a: {"schedule": iter(a["schedule"])}, "schedule is a list_iterator; it must be a list"),
    "no augmentation": (
        lambda a: {"schedule": [(torch.arange(2), None)]},
        r"schedule\[0\]'s augment is None; .* give lambda batch: batch\.",
    ),
    "no pairs": (lambda a: {"schedule": [torch.arange(2)]}, r"schedule\[0\] is a Tensor; it must be a pair"),
    "fewer images": (
        lambda a: {"schedule": [(torch.arange(3), lambda batch: batch[:2])]},
        r"schedule\[0\]'s augmentation made float64 \(2, 1, 4, 4\) of float64 \(3, 1, 4, 4\); it must return as many",
    ),
    "fewer images later": (
        lambda a: {"schedule": [*schedule(torch.arange(3)), (torch.arange(3), lambda batch: batch[:2])]},
        r"schedule\[2\]'s augmentation made",
    ),
    "an array": (lambda a: {"images": a["images"].numpy()}, r"images is an ndarray; it.*torch\.as_tensor\(images\)"),
    "a sparse tensor": (lambda a: {"images": a["images"].to_sparse()}, r"images is sparse.*images\.to_dense\(\)"),
    "NaN in start": (lambda a: {"start": a["start"] * torch.nan}, "start has numbers that are not finite"),
    "NaN in target": (lambda a: {"target": a["target"] * torch.nan}, "target has numbers that are not finite"),
    "infinite images": (lambda a: {"images": a["images"] * torch.inf}, "images has numbers that are not finite"),
    "NaN in labels": (lambda a: {"labels": a["labels"] * torch.nan}, "labels has numbers that are not finite"),
    "no classes": (lambda a: {"labels": a["labels"][:, :0]}, r"labels \(N, K\); got .* and \(7, 0\)"),
    "a rate of truth": (lambda a: {"student_lr": torch.tensor(True)}, "student_lr is a tensor of type bool;"),
    "a complex rate": (lambda a: {"student_lr": 1j}, "student_lr is a complex; it must be a positive number"),
    "no rate": (lambda a: {"student_lr": None}, "student_lr is None; it must be a positive number"),
    "channels": (
        lambda a: {"images": torch.randn(7, 3, 4, 4, dtype=torch.float64)},
        r"model fails for a batch \(\d, 3, 4, 4\), as schedule\[0\] makes it from images: mat1",
    ),
    "a cut gradient": (
        lambda a: {"schedule": [(torch.arange(3), lambda batch: batch.detach() * 2)]},
        r"schedule\[0\]'s augmentation cuts the gradient of the images",
    ),
    "an augmentation in place": (
        lambda a: {"schedule": [(torch.arange(3), lambda batch: batch.mul_(2))]},
        r"schedule\[0\]'s augmentation changes its batch in place.*batch\.clone\(\)",
    ),
    "an augmentation to NaN": (
        lambda a: {"schedule": [(torch.arange(3), lambda batch: batch * torch.nan)]},
        r"schedule\[0\]'s augmentation makes numbers that are not finite",
    ),
    "another type of images": (
        lambda a: {"schedule": [(torch.arange(3), lambda batch: batch.float())]}, r"augmentation made float32"
    ),
}  # fmt: skip


def schedule(index: Any) -> list[Any]:
    """With that index in the second step."""
    return [(torch.arange(2), lambda batch: batch), (index, lambda batch: batch)]


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_one_sentence_with_the_argument_and_what_to_give(name: str) -> None:
    change, words = MISUSE[name]
    case = case_of(mlp)
    with pytest.raises(ValueError, match=words):
        case.gradient(**change(case.arguments))


def test_inference_mode_is_refused() -> None:
    case = case_of(mlp)
    with torch.inference_mode(), pytest.raises(ValueError, match=r"inference_mode\(\) is on"):
        case.gradient()


def test_models_that_are_none() -> None:
    case = case_of(mlp)
    with pytest.raises(ValueError, match=r"model is a function; it must be a torch\.nn\.Module"):
        matching_gradient(lambda x: x, **case.arguments)  # type: ignore[arg-type]
    case.model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"model has no parameter to train.*model\.requires_grad_\(\)"):
        case.gradient()
    with pytest.raises(ValueError, match=r"parameter 1\.weight has no shape yet. Call the model on a batch once"):
        matching_gradient(nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)), **case.arguments)
    with pytest.raises(ValueError, match=r"parameter weight has no shape yet"):
        flatten_parameters(nn.LazyLinear(CLASSES))
    with pytest.raises(ValueError, match="The model has no parameters"):
        flatten_parameters(nn.Flatten())
    with pytest.raises(ValueError, match=r"buffer 1\.running_mean has no shape yet"):
        matching_gradient(nn.Sequential(mlp(), nn.LazyBatchNorm1d(affine=False)), **case_of(mlp).arguments)
    with pytest.raises(ValueError, match=r"model is a FlatNetwork; it must be a torch\.nn\.Module"):
        matching_gradient(FlatNetwork(mlp()), **case.arguments)  # type: ignore[arg-type]
    case = case_of(lambda: nn.Sequential(nn.Conv2d(1, CLASSES, 1)))
    with pytest.raises(ValueError, match=r"model returns a tensor \(5, 3, 4, 4\) for 5 images; it must return logits"):
        case.gradient()


def test_whole_numbers_of_numpy_are_seeds() -> None:
    case = case_of(lambda: mlp(nn.Dropout(0.5)))
    assert torch.equal(case.gradient(seed=np.int64(3)).images, case.gradient(seed=3).images)


class Cube(torch.autograd.Function):
    """A function whose backward pass is not recorded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> Tensor:
        return given * 3 * ctx.saved_tensors[0] ** 2


class NumpyCube(torch.autograd.Function):
    """A function whose backward pass is computed by another library."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:
        return torch.from_numpy(given.detach().numpy() * 3 * ctx.saved_tensors[0].detach().numpy() ** 2)


class StraightThrough(torch.autograd.Function):
    """A function with a gradient that is not its own, as quantised networks have."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:
        return given


class Parts(nn.Module):
    """Parameters that no vector of real numbers holds."""

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        self.inner, self.parameter = mlp(), nn.Parameter(parameter, requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


class Through(nn.Module):
    """A layer that is any function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Sequential(nn.DataParallel(mlp())), r"model\.0 is a DataParallel.*Give model\.0\.module"),
        (lambda: torch.compile(mlp(), backend="aot_eager"), r"torch\.compile.*model\._orig_mod.*compile=True"),
        (lambda: mlp(Through(Cube.apply)), r"function Cube is marked @once_differentiable"),
        (
            lambda: mlp(Through(lambda x: checkpoint(torch.tanh, x, use_reentrant=True))),  # type: ignore[no-any-return]
            r"checkpoint with use_reentrant=True.*Give use_reentrant=False",
        ),
        (lambda: mlp(Through(NumpyCube.apply)), "function NumpyCube has a backward pass in NumPy, no_grad or detach"),
        (
            lambda: nn.Sequential(Through(lambda x: torch.from_numpy(x.detach().numpy())), mlp()),
            "model's logits do not depend on its images",
        ),
        (
            lambda: mlp(Through(lambda x: torch.cdist(x, x) @ x)),
            "model has no second derivative: the derivative for '_cdist_backward' is not implemented",
        ),
        (lambda: mlp(Through(lambda x: x[:, 99])), r"model fails for a batch.*index 99 is out of bounds"),
        (lambda: Parts(torch.arange(3)), "parameter parameter is int64; it must be floating point. Make it a buffer"),
        (lambda: Parts(torch.zeros(3) * 1j), "parameter parameter is complex64;.*torch.view_as_complex"),
        (lambda: nn.Sequential(mlp(), Through(Tensor.detach)), "model's logits do not depend on its parameters"),
        (lambda: nn.Sequential(nn.ReLU(inplace=True), mlp()), r"model changes its images in place.*x\.clone\(\)"),
    ],
    ids=[
        *("DataParallel", "torch.compile", "once", "reentrant", "NumPy", "no images", "cdist", "an index"),
        *("integers", "complex", "detached", "in place"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's, of what is old
def test_models_without_second_derivatives_are_refused(make: Callable[[], nn.Module], words: str) -> None:
    """PyTorch fails late with some of them, and with others the gradient would be wrong in silence."""
    with pytest.raises(ValueError, match=words):
        case_of(make).gradient()


def test_a_function_with_a_gradient_of_its_own_is_taken_at_its_word() -> None:
    case = case_of(lambda: mlp(Through(StraightThrough.apply)))
    assert_close(case.gradient(), case.gradient(mode="unrolled"), 1e-9)


def test_a_scripted_model_is_refused() -> None:
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.script(mlp())
    with pytest.raises(ValueError, match=r"compiled by torch\.jit.*Give the original"):
        matching_gradient(scripted, **case_of(mlp).arguments)


def test_values_are_read_once_a_call_and_not_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = Tensor.tolist

    def counted(tensor: Tensor) -> Any:
        reads.append(1)
        return real(tensor)

    monkeypatch.setattr(Tensor, "tolist", counted)
    counts = []
    for steps in (2, 20):
        case = case_of(mlp, steps=steps)
        reads.clear()
        case.gradient()
        counts.append(len(reads))
    assert counts[0] == counts[1] == 3
