"""`k-center` (Sener & Savarese, ICLR 2018, Alg. 1, greedy): images that leave no image of the class far away.

The first is the image nearest to the class mean, every next one the image farthest from all chosen so far. In the
network's input space (normalised or whitened pixels): published tables use features of a trained network, and differ.
"""

import torch
from torch import Tensor

from engine.methods.coreset import by_class, selection


def centers(points: Tensor, count: int) -> Tensor:
    """Indices `(count,)` of rows of `points` `(M, D)`, in the order in which they are chosen."""
    best = (points - points.mean(dim=0)).square().sum(dim=1).argmin()
    chosen = [best]
    nearest = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for _ in range(1, count):
        nearest = torch.minimum(nearest, (points - points[best]).square().sum(dim=1))
        nearest[best] = -1  # also where images are equal, none is chosen twice
        best = nearest.argmax()
        chosen.append(best)
    return torch.stack(chosen)


K_CENTER = selection("k-center", lambda task: by_class(task, centers))
