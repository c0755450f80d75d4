"""`herding` (Welling 2009; as Rebuffi et al., iCaRL, CVPR 2017, Alg. 4): images whose mean is the class's.

Greedy: the next image is the one that brings the mean of all chosen so far nearest to the mean of the class. In the
network's input space (normalised or whitened pixels): published tables use features of a trained network, and differ.
"""

import torch
from torch import Tensor

from engine.methods.coreset import by_class, selection


def herd(points: Tensor, count: int) -> Tensor:
    """Indices `(count,)` of rows of `points` `(M, D)`, in the order in which they are chosen."""
    mean = points.mean(dim=0)
    squares = points.square().sum(dim=1)
    total = torch.zeros_like(mean)
    free = torch.zeros(len(points), dtype=points.dtype, device=points.device)
    chosen = []
    for number in range(1, count + 1):
        # |mean - (total + x) / n|^2 up to what is the same for every x, times n^2.
        score = squares - 2 * (points @ (number * mean - total)) + free
        best = score.argmin()
        free[best] = torch.inf
        total = total + points[best]
        chosen.append(best)
    return torch.stack(chosen)


HERDING = selection("herding", lambda task: by_class(task, herd))
