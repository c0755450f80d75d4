"""Adam and LAMB as pure functions: their moments are carried in checkpoints and not in an optimiser object."""

from typing import NamedTuple

import torch
from torch import Tensor

BETA_1, BETA_2 = 0.9, 0.999


class Moments(NamedTuple):
    """Running means of a gradient and of its square, in the shape of the parameter; zeros at first."""

    first: Tensor
    second: Tensor


def adam_direction(gradient: Tensor, moments: Moments, step: int, epsilon: float = 1e-8) -> tuple[Tensor, Moments]:
    """The step of Adam for lr 1 (Kingma & Ba 2015, Alg. 1), and the moments after it; `step` counts from 1."""
    first = BETA_1 * moments.first + (1 - BETA_1) * gradient
    second = BETA_2 * moments.second + (1 - BETA_2) * gradient.square()
    direction = (first / (1 - BETA_1**step)) / ((second / (1 - BETA_2**step)).sqrt() + epsilon)
    return direction, Moments(first, second)


def lamb_direction(
    parameter: Tensor, gradient: Tensor, moments: Moments, step: int, epsilon: float = 1e-6
) -> tuple[Tensor, Moments]:
    """The step of LAMB for lr 1 without weight decay (You et al. 2020, Alg. 2): Adam's, as long as the parameter is."""
    direction, moments = adam_direction(gradient, moments, step, epsilon)
    length, size = parameter.norm(), direction.norm()
    ratio = torch.where((length > 0) & (size > 0), length / size, torch.ones_like(length))
    return ratio * direction, moments
