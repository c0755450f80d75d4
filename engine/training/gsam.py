"""A sharpness-aware step: GSAM (Zhuang et al., ICLR 2022), which trains the teachers of FTD (Du et al., CVPR 2023).

    e  = rho theta^2 g / |theta g|                        where the loss rises most, within an adaptive radius (ASAM)
    g' = dloss/dtheta (theta + e)                         the gradient there
    v  = g - <g, g'> g' / |g'|^2                          the part of g that is perpendicular to g'
    g' - alpha v                                          takes the place of g

Products are element by element, norms over all parameters. Each step costs two gradients.
"""

import torch
from torch import Tensor

EPS = 1e-12
"""Added to norms that divide, as published code does."""


def ascent(theta: Tensor, gradient: Tensor, rho: float) -> Tensor:
    """e `(P,)`, from parameters and their gradient `(P,)`."""
    scale: Tensor = rho / ((theta * gradient).norm() + EPS)
    return theta.square() * gradient * scale


def flat_direction(gradient: Tensor, steep: Tensor, alpha: float) -> Tensor:
    """What the step follows `(P,)`, from the gradients `(P,)` at theta and at theta + e."""
    size, steep_size = gradient.norm(), steep.norm()
    cosine = torch.dot(gradient, steep) / (steep_size * size + EPS)
    perpendicular = gradient - steep * (cosine * size / (steep_size + EPS))
    return steep.sub(perpendicular, alpha=alpha)
