"""Drawing against oracles: dots of a chart, pixels of a grid."""

import itertools

import numpy as np
import pytest
from textual.geometry import Size

from tesla_tui.live.widgets.braille import Line, raster
from tesla_tui.live.widgets.pictures import _blocks, layout_for
from tesla_tui.live.widgets.scales import number, ticks
from tesla_tui.render.grid import resized


def test_a_line_passes_through_its_points_and_has_no_gap() -> None:
    x = np.linspace(0, 10, 11)
    y = np.array([0, 5, 1, 9, 2, 8, 3, 7, 4, 6, 5.0])
    dots = raster(Line.through(x, y, "red"), 101, 91, (0, 10), (0, 9))
    for a, b in zip(x, y, strict=True):
        column, row = round(a * 10), round((9 - b) / 9 * 91 - 0.5)
        assert dots[max(0, row - 1) : row + 2, column].any(), (a, b)
    rows = [np.flatnonzero(dots[:, column]) for column in range(101)]
    assert all(len(one) for one in rows)
    for left, right in itertools.pairwise(rows):
        assert left.min() <= right.max() + 1 and right.min() <= left.max() + 1  # neighbours touch


def test_a_band_covers_the_extremes_of_many_points() -> None:
    x = np.arange(1000.0)
    y = np.zeros(1000)
    y[500] = 1.0  # one spike among a thousand points must be seen in twenty columns
    dots = raster(Line(x, y, y.copy(), "red"), 20, 40, (0, 999), (0, 1))
    assert dots[0].any() and dots[-1].all()


def test_ticks_are_round_and_few() -> None:
    for low, high in ((0, 1), (0.123, 0.177), (-3, 900), (1e-6, 2e-6)):
        found = ticks(low, high, 5)
        assert 1 <= len(found) <= 6 and all(low <= tick <= high for tick in found)
        step = found[1] - found[0] if len(found) > 1 else 1.0
        assert f"{step:.0e}"[0] in "125"


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.00123, 0.5, 12.25, 99999.0, 123456.0, -0.5])
def test_numbers_fit_the_scale(value: float) -> None:
    assert len(number(value, 0.0)) <= 6


def test_half_blocks_have_the_colours_of_the_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    for line in range(3):
        cells = []
        for segment in _blocks(image, line):
            assert segment.style is not None and segment.style.color and segment.style.bgcolor
            upper, lower = segment.style.color.triplet, segment.style.bgcolor.triplet
            cells += [(upper, lower)] * len(segment.text)
        assert [tuple(upper) for upper, _ in cells] == [tuple(p) for p in image[2 * line].tolist()]
        assert [tuple(lower) for _, lower in cells] == [tuple(p) for p in image[2 * line + 1].tolist()]


def test_grey_is_shown_in_grey_and_growth_repeats_pixels() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    large = np.asarray(resized(image, 8, 8))
    assert (large == np.repeat(np.repeat(np.repeat(image, 3, 2), 2, 0), 2, 1)).all()


@pytest.mark.parametrize("size", [(80, 19), (300, 70), (40, 10), (10, 3)])
@pytest.mark.parametrize(
    ("count", "native", "group"), [(10, 8, 1), (100, 28, 10), (1000, 64, 1), (50, 32, 50), (1, 8, 1)]
)
def test_pictures_fit_their_room(size: tuple[int, int], count: int, native: int, group: int) -> None:
    for zoom in (-3, 0, 5):
        layout = layout_for(count, native, Size(*size), group, zoom)
        assert layout.side <= size[0] and layout.per_row * (layout.side + 1) - 1 <= size[0]
        assert layout.rows >= 1 and (layout.rows == 1 or layout.rows * layout.height <= size[1])


def test_everything_is_on_one_page_where_it_is_legible() -> None:
    assert layout_for(10, 8, Size(80, 19)).per_page >= 10
    assert layout_for(100, 28, Size(200, 75), 10).per_page >= 100
    assert layout_for(10, 28, Size(39, 27), least=6).per_page >= 10  # the overview shows every class
    assert layout_for(1000, 64, Size(80, 19)).side >= 12  # else paged, not a mosaic
