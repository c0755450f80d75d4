"""What is wrong with a TOML file, and what to type instead: `tomllib` says only where it gave up."""

import re
from collections.abc import Iterator

WIDEST = 60
"""Characters of a wrong line that an error repeats."""
_PLACE = re.compile(r" ?\(at (?:line (\d+), column (\d+)|end of document)\)$")
_WORD = re.compile(r"[A-Za-z_~/.\\][^\s,\]}#\"'=]*")
_HEADING = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")


def decoded_toml(data: bytes) -> str:
    """The text of a TOML file, with or without a byte-order mark.

    Raises:
        ValueError: not UTF-8; says the place, or the encoding that it is.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(data) > 3 and (not any(data[1:8:2]) or not any(data[0:8:2]))):
        raise ValueError("it is saved as UTF-16 and not as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
        raise ValueError(f"line {line}, column {column}: the byte 0x{data[error.start]:02x} is not UTF-8") from error


def explained(text: str, error: ValueError) -> tuple[str, str]:
    """What a parser's error means, as (where and what, what to do).

    Args:
        text: of the file.
        error: of `tomllib`, whose message ends in the place.
    """
    found = _PLACE.search(str(error))
    if found is None:  # a number of thousands of digits, or not text at all
        return str(error), "Save it as UTF-8." if "UTF-" in str(error) else "Fix that value."
    what = str(error)[: found.start()]
    lines = text.replace("\r\n", "\n").split("\n")
    number = int(found[1]) if found[1] else len(lines)
    column = int(found[2]) if found[2] else len(lines[-1]) + 1
    line = lines[number - 1]
    shown = line.strip() if len(line.strip()) <= WIDEST else f"{line.strip()[:WIDEST]}..."
    where = f"line {number}, column {column}: {what}" + (f", in `{shown}`" if shown else "")
    hint = next(filter(None, _hints(what, lines, number, column)), "Fix that line.")
    return where, hint


def _hints(what: str, lines: list[str], number: int, column: int) -> Iterator[str]:
    """Hints for what people most often get wrong, the more certain first; empty where one does not apply."""
    line = lines[number - 1]
    if what.startswith(("Invalid value", "Unclosed array")):
        yield _unclosed(lines, number, column)
    if what.startswith(("Invalid value", "Invalid date")):
        yield "Write a value after the `=`." if line.rstrip().endswith("=") else _unquoted(line, column)
    if "twice" in what:
        yield _twice(lines, number)
    if what.startswith("Cannot overwrite") or what.startswith("Duplicate"):
        yield "The setting is given twice: remove one of the two."
    if what.startswith("Unescaped") or "hex value" in what:
        yield "Write text that has backslashes in single quotes: 'C:\\pictures'."
    if "table declaration" in what:
        yield f"Close the heading with `]`: {line.strip().rstrip(']')}]"
    if "inline table" in what:
        yield "Close it with `}` on the same line."
    if what.endswith("character '\\x00'"):
        yield "Remove that character."
    if "string" in what.lower() or "character '" in what or 'Expected "' in what:
        yield "Close the text with the quote that it starts with, on the same line."
    if what.startswith("Expected '=' after a key"):
        yield "Write a setting as key = value, and a note after a `#`."
    if what.startswith("Expected newline"):
        yield "Write one setting a line; put quotes around text with spaces."


def _unquoted(line: str, column: int) -> str:
    word = _WORD.match(line, column - 1)
    if word is None:
        return ""
    text, key = word[0], line[: column - 1].strip()
    lower = text.lower()
    if lower in ("true", "false"):
        return f"Write {lower} in lower case."
    if lower in ("yes", "no", "on", "off") and text != lower:
        return f'Write "{lower}", or true or false where the setting is a switch.'
    if lower in ("none", "null"):
        return "Remove the line, or put a `#` before it, to leave a setting unset."
    quote = "'" if "\\" in text else '"'
    start = f"{key} " if key.endswith("=") and len(key) < WIDEST else ""
    return f"Text needs quotes: {start}{quote}{text}{quote}"


def _twice(lines: list[str], number: int) -> str:
    heading = _HEADING.match(lines[number - 1])
    if heading is None:
        return ""
    headings = enumerate(map(_HEADING.match, lines[: number - 1]), 1)
    first = next((at for at, found in headings if found and found[1] == heading[1]), None)
    where = "already there" if first is None else f"already in line {first}"
    return f"[{heading[1]}] is {where}: move these settings below that heading, and remove this one."


def _unclosed(lines: list[str], number: int, column: int) -> str:
    """The line in which a list starts that is still open where a heading or the next setting stands."""
    line = lines[number - 1]
    if line[: column - 1].strip(" \t[") or not re.match(r"\s*(\[.*\]|[\w.-]+\s*=|$)", line):
        return ""
    for at in range(number - 1, 0, -1):
        key, sign, value = lines[at - 1].partition("=")
        if sign and value.strip().startswith("[") and not key.lstrip().startswith("#"):
            return f"Close the list that starts in line {at} with `]`."
    return ""
