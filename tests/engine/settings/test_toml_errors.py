"""What is said about a tesla.toml that cannot be read."""

from pathlib import Path

import pytest

from engine.errors import SettingsError
from engine.settings import resolve_settings


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[dataset]\nname = digits\n", "line 2, column 8: Invalid value", 'Text needs quotes: name = "digits"'),
        ("[dataset]\npath = ~/pets\n", "line 2, column 8", 'path = "~/pets"'),
        ("[augment]\nops = [color, flip]\n", "line 2, column 8", 'Text needs quotes: "color"'),
        ("[dataset]\nzca = True\n", "line 2, column 7", "Write true in lower case."),
        ("[network]\nwidth = None\n", "line 2, column 9", "Remove the line"),
        ("seed =\n", "line 1, column", "Write a value after the `=`."),
        ("seed = = 3", "line 1, column 8", "Fix that line."),
        ("[distill]\nsteps = 3\nsteps = 4\n", "line 3, column 10: Cannot overwrite", "is given twice"),
        ("[distill]\nsteps = 3\n[distill]\nipc = 4\n", "line 3", "[distill] is already in line 1: move"),
        ("[augment]\nops = ['color',\n\n[labels]\nkind = 'hard'\n", "line 4, column", "starts in line 2 with `]`"),
        ("[augment]\nops = ['color',\nseed = 3\n", "line 3, column", "starts in line 2 with `]`"),
        ("[augment]\nops = ['color', 'flip'\n", "Unclosed array", "starts in line 2 with `]`"),
        ("[dataset\nname = 'digits'\n", "line 1, column 9", "Close the heading with `]`: [dataset]"),
        ("[dataset]\nname = 'digits\npath = 'x'\n", "line 2", "Close the text with the quote"),
        ('[dataset]\npath = "C:\\pets"\n', "line 2", "single quotes"),
        ("[distill]\nsteps 3\n", "line 2, column 7: Expected '='", "key = value"),
        ("[distill]\nsteps = 3 ipc = 4\n", "line 2, column 11: Expected newline", "one setting a line"),
    ],
)
def test_an_error_says_where_and_what(tmp_path: Path, text: str, place: str, hint: str) -> None:
    path = tmp_path / "tesla.toml"
    for ends in ("\n", "\r\n"):
        path.write_bytes(text.replace("\n", ends).encode())
        with pytest.raises(SettingsError) as caught:
            resolve_settings(path)
        assert place in caught.value.message
        assert hint in caught.value.hint
        assert ("needs quotes" in str(caught.value)) == (hint.startswith(("Text needs", "path =")))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "tesla.toml"
    path.write_bytes("[distill]\nsteps = 3\n".encode(encoding))
    with pytest.raises(SettingsError, match=r"it is saved as UTF-16 and not as UTF-8\. Save it as UTF-8"):
        resolve_settings(path)


def test_bytes_that_are_no_utf_8_are_located(tmp_path: Path) -> None:
    path = tmp_path / "tesla.toml"
    path.write_bytes(b"[dataset]\npath = 'caf\xe9'\n")
    with pytest.raises(SettingsError, match=r"line 2, column 12: the byte 0xe9 is not UTF-8\. Save it as UTF-8"):
        resolve_settings(path)


def test_marks_tabs_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tesla.toml"
    data = b"\xef\xbb\xbf[distill]\r\n\tsteps\t= 3\r\n"
    path.write_bytes(data)
    assert resolve_settings(path).settings.distill.steps == 3
    assert path.read_bytes() == data
