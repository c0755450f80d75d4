"""Captions in columns: never wider than their room, and what is left of a long name tells it from others."""

import unicodedata

import pytest
from rich.cells import cell_len

from tesla_tui.render.cells import caption, centred, cut, padded

NAMES = [
    "n02085620-Chihuahua", "日本語のとても長いクラスの名前", "🍎 apple 🍎 apple 🍎", "Frühstücksbrötchen mit Käse",
    "e\u0301" * 12, "한국어 이름", "a", "", "👩‍🔬 scientist ❤️ 👍🏽", "🇩🇪🇫🇷🇯🇵 flags",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 40])
def test_a_caption_has_the_width_it_is_given(name: str, columns: int) -> None:
    name = caption(name)
    assert cell_len(cut(name, columns)) <= columns
    assert cell_len(centred(name, columns)) == cell_len(padded(name, columns)) == columns
    if cell_len(name) <= columns:
        assert cut(name, columns) == name and centred(name, columns).strip() == name.strip()
    elif columns:
        assert "…" in cut(name, columns)


def test_a_long_name_is_cut_in_the_middle() -> None:
    assert cut("n02085620-Chihuahua", 11) == "n0208…uahua"
    assert cut("日本語のとても長い名前", 9) == "日本…名前"
    assert cut("airplane taking off 12", 12) == "airpla…ff 12"  # the number of the image stays
    assert cut("airplane", 4) == "air…"


def test_no_piece_starts_with_a_mark_of_the_character_before() -> None:
    for columns in range(3, 12):
        end = cut("e\u0301" * 20, columns).partition("…")[2]
        assert not end or not unicodedata.combining(end[0])


def test_characters_of_unsure_width_are_left_out_and_control_characters_replaced() -> None:
    assert caption("👩‍🔬❤️👍🏽") == "👩🔬❤👍"
    assert caption("a\nb\x1b[31m") == "a�b�[31m"
    # The width of the whole is that of its characters, one by one: a terminal that joins nothing draws the same.
    for name in NAMES:
        assert cell_len(caption(name)) == sum(map(cell_len, caption(name)))
