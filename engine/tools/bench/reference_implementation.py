"""The matching gradient the way published TESLA code computes it: the reference, kept naive on purpose.

Eager and NCHW, PyTorch's own norm and pooling; a second-order graph in both sweeps, that of the first thrown away; all
T augmented batches alive with the graphs of their augmentations, and a copy of each; a list of all T parameter vectors.
It works out the same number as `paper` (eq. 6), and the two are compared in the tests.

Written after `distill.py` of github.com/justincui03/tesla (commit 488842e), line by line what an iteration computes.
Where that does avoidable work besides, this does not: the step size is read from the device once and not three times a
step, indices are on the device, and augmentations are drawn beforehand.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine.data.augment import Augment, sampled
from engine.matching import Schedule
from engine.networks import build_network
from engine.networks.registry import default_depth


def reference_network(
    name: str, *, channels: int, classes: int, resolution: int, width: int | None = None, depth: int | None = None
) -> nn.Module:
    """The student of published code: for `convnet` of PyTorch's own layers, else as `build_network`.

    Parameters come in the order of `ConvNet`, so that one flat vector fits both.
    """
    if name != "convnet":
        return build_network(name, channels=channels, classes=classes, resolution=resolution, width=width, depth=depth)
    width = width or 128
    layers: list[nn.Module] = []
    inputs = channels
    side = 32 if (channels, resolution) == (1, 28) else resolution
    for block in range(depth or default_depth(resolution)):
        padding = 1 + (side - resolution) // 2 if block == 0 else 1
        layers += [
            nn.Conv2d(inputs, width, kernel_size=3, padding=padding),
            nn.GroupNorm(width, width, affine=True),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(kernel_size=2, stride=2),
        ]
        inputs = width
    for _ in range(depth or default_depth(resolution)):
        side //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, classes))


def _augmented(images: Tensor, augment: Callable[[Tensor], Tensor]) -> Tensor:
    """Augmented as published code does it: ours differs on a GPU, where it has the same bits twice."""
    if isinstance(augment, Augment) and augment.op in ("scale", "rotate"):
        return sampled(images, *augment.parameters)
    return augment(images)


def reference_gradient(
    model: nn.Module,
    *,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    student_lr: float,
    schedule: Schedule,
) -> tuple[Tensor, Tensor]:
    """dL/dimages `(N, C, H, W)` and dL/dstudent_lr; arguments as of `matching_gradient`.

    The image gradient is that of the whole loss: published code stops at half of it (it doubles a tuple). As there, a
    batch may not repeat an image within a step.
    """
    names = [name for name, _ in model.named_parameters()]
    shapes = [parameter.shape for parameter in model.parameters()]
    criterion = nn.CrossEntropyLoss()

    def student_net(x: Tensor, flat_param: Tensor) -> Tensor:
        parts = torch.split(flat_param, [shape.numel() for shape in shapes])
        state = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        logits: Tensor = functional_call(model, state, (x,))
        return logits

    syn_images = images.clone().requires_grad_()
    syn_lr = torch.tensor(student_lr, dtype=start.dtype, device=start.device, requires_grad=True)
    lr = syn_lr.item()
    student_params = [start.clone().requires_grad_()]
    gradient_sum = torch.zeros_like(start)
    original_x_list, x_list, y_list = [], [], []
    for indices, augment in schedule:
        x = syn_images[indices]
        original_x_list.append(x)
        x = _augmented(x, augment).contiguous()
        x_list.append(x.clone())
        y_list.append(labels[indices].clone())
        ce_loss = criterion(student_net(x, student_params[-1]), y_list[-1])
        grad = torch.autograd.grad(ce_loss, student_params[-1], create_graph=True)[0]
        detached_grad = grad.detach().clone()
        student_params.append(student_params[-1] - lr * detached_grad)
        gradient_sum += detached_grad
        del grad
    param_dist = (start - target).square().sum()
    image_gradients = torch.zeros_like(syn_images)
    for i, (indices, _) in enumerate(schedule):
        w_i = student_params[i]
        ce_loss_i = criterion(student_net(x_list[i], w_i), y_list[i])
        grad_i = torch.autograd.grad(ce_loss_i, w_i, create_graph=True, retain_graph=True)[0]
        single_term = lr * (target - start)
        square_term = lr**2 * gradient_sum
        along = (single_term + square_term) @ grad_i / param_dist
        gradients = torch.autograd.grad(along, original_x_list[i])
        with torch.no_grad():
            image_gradients[indices] += 2 * gradients[0]
    grand_loss = start - syn_lr * gradient_sum - target
    grand_loss = grand_loss.dot(grand_loss) / param_dist
    lr_gradient = torch.autograd.grad(grand_loss, syn_lr)[0]
    return image_gradients, lr_gradient
