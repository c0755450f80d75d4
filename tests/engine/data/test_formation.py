"""Multi-formation against `F.interpolate`, the layer that it replaces, and through a run."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data.decoder import Decoder, decode_all, decoder_of
from engine.errors import UsageError
from engine.settings import DistillSettings


def decoder(factor: int, side: int) -> Decoder:
    return decoder_of(DistillSettings(formation=factor), (1, side, side))


def naive(stored: Tensor, factor: int) -> Tensor:
    """Every view of every stored image, by slicing and interpolation."""
    side = stored.shape[2]
    small = side // factor
    views = [
        F.interpolate(
            image[None, :, y * small : (y + 1) * small, x * small : (x + 1) * small],
            size=(side, side), mode="bilinear", align_corners=False,
        )
        for image in stored
        for y in range(factor)
        for x in range(factor)
    ]  # fmt: skip
    return torch.cat(views)


@pytest.mark.parametrize(("factor", "side"), [(2, 8), (2, 28), (4, 8), (3, 12), (8, 8), (5, 10)])
def test_views_are_those_of_interpolation(factor: int, side: int) -> None:
    stored = torch.randn(3, 2, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(decode_all(decoder(factor, side), stored), naive(stored, factor), atol=1e-13, rtol=0)


def test_the_gradient_is_that_of_interpolation() -> None:
    stored = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = torch.randn(8, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = torch.autograd.functional.jacobian(lambda x: (decode_all(decoder(2, 8), x) * weights).sum(), stored)
    wanted = torch.autograd.functional.jacobian(lambda x: (naive(x, 2) * weights).sum(), stored)
    assert torch.allclose(found, wanted, atol=1e-13, rtol=0)


def test_packed_images_decode_to_themselves_where_they_are_smooth() -> None:
    flat = torch.arange(8.0)[:, None, None, None].expand(8, 3, 8, 8)
    found = decoder(2, 8)
    assert torch.equal(decode_all(found, found.pack(flat)), flat)


def test_packing_averages_areas_in_order() -> None:
    images = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    (stored,) = decoder(2, 6).pack(images)
    pooled = F.avg_pool2d(images, 2)
    top, bottom = torch.cat([pooled[0], pooled[1]], dim=2), torch.cat([pooled[2], pooled[3]], dim=2)
    assert torch.allclose(stored, torch.cat([top, bottom], dim=1))


def test_without_formation_images_are_themselves() -> None:
    images = torch.randn(2, 1, 7, 7)
    assert decode_all(decoder(1, 7), images) is images


def test_a_factor_that_does_not_divide_the_side_is_refused() -> None:
    with pytest.raises(UsageError, match=r"distill\.formation = 3 does not divide the side of the images, 8") as error:
        decoder(3, 8)
    assert "2, 4" in str(error.value.hint)
