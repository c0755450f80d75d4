"""ZCA whitening: `(x - mean) W` on flattened images, `W = U (S + eps)^(-1/2) U'` for the covariance `U S U'`.

Up to `KORNIAS` numbers an image Kornia fits it, from all images at once, as published code does. Above, that would take
four copies of a matrix that is as large as a network, and all images twice as floats; so larger images are fitted here:
the covariance adds up over chunks of images, and its eigenvectors come from the symmetric solver. The matrix is the
same but for rounding.
"""

import numpy as np
import torch
from torch import Tensor

from engine.data.dataset import Classes
from engine.data.rows import Rows

ZCA_EPS = 0.1
"""Added to the eigenvalues (PROTOCOL: Kornia's ZCAWhitening(eps=0.1), as MTT and TESLA use it)."""
KORNIAS = 8192
"""Largest C*H*W that Kornia fits: older caches hold its bits."""
MOST_ZCA = 16_384
"""Largest C*H*W: 64x64 RGB is 12,288, 128x128 grey this. The matrices are that number squared, 1.1 GB each."""
CHUNK = 2048
"""Images that the covariance takes at once."""
PRODUCTS, SOLVED, KORNIA_SOLVED = 1e11, 1e10, 7e8
"""Operations a second of products, and numbers^3 of the rest here and in Kornia (2 cores of an AMD EPYC, float32)."""
MATRICES = 5
"""Matrices of D x D in memory at once, at most: the eigenvectors and the solver's own three."""


def fit_whitening(rows: Rows, index: Classes) -> dict[str, Tensor]:
    """Fit to images, as float32 on the CPU: `mean` `(1, D)`, `matrix` and `inverse` `(D, D)`."""
    return _by_kornia(rows.read(index)) if int(np.prod(rows.shape)) <= KORNIAS else _by_chunks(rows, index)


def whitening_bytes(count: int, numbers: int) -> int:
    """Memory to fit to `count` images of `numbers` numbers each, at most."""
    if numbers <= KORNIAS:
        # Kornia fits on all images at once, as float32, and keeps a centred copy.
        return 8 * count * numbers
    return 4 * MATRICES * numbers**2 + 9 * CHUNK * numbers


def whitening_seconds(count: int, numbers: int) -> float:
    """Seconds to fit on 2 cores of a server, about: a covariance, a decomposition, two products."""
    return 2 * count * numbers**2 / PRODUCTS + numbers**3 / (SOLVED if numbers > KORNIAS else KORNIA_SOLVED)


def _by_kornia(images: np.ndarray) -> dict[str, Tensor]:
    from kornia.enhance import ZCAWhitening

    zca = ZCAWhitening(dim=0, eps=ZCA_EPS, compute_inv=True)
    zca.fit(torch.from_numpy(images).float().div_(255))
    return {
        "mean": zca.mean_vector.contiguous(),
        "matrix": zca.transform_matrix.contiguous(),
        "inverse": zca.transform_inv.contiguous(),
    }


def _by_chunks(rows: Rows, index: Classes) -> dict[str, Tensor]:
    chunks = [index[first : first + CHUNK] for first in range(0, len(index), CHUNK)]
    numbers = int(np.prod(rows.shape))
    total = torch.zeros(numbers, dtype=torch.float64)
    for chunk in chunks:
        total += torch.from_numpy(rows.read(chunk)).flatten(1).sum(dim=0)
    mean = (total / (255 * len(index))).float()
    covariance = torch.zeros(numbers, numbers)
    for chunk in chunks:
        centred = torch.from_numpy(rows.read(chunk)).flatten(1).float().div_(255).sub_(mean)
        covariance.addmm_(centred.T, centred)
    values, vectors = torch.linalg.eigh(covariance.div_(len(index) - 1))
    del covariance
    roots = values.clamp_(min=0).add_(ZCA_EPS).sqrt_()  # rounding makes the smallest of them negative
    matrix = (vectors / roots) @ vectors.T
    return {"mean": mean[None], "matrix": matrix, "inverse": (vectors * roots) @ vectors.T}
