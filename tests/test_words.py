"""The words that people read: plain ones, in lines that fit a screen."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

AVOIDED = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"whoever": "anyone who, the process that",
    r"of ours": "name what it belongs to",
    r"is told of": "is reported",
    r"go(es|ne)? on": "continue, resume, run",
    r"begins again|began again": "restart, start over",
    r"anew|begun": "again, started",
    r"in the making": "being written, being trained",
    r"in words": "as a message, as text",
    r"nobody|somebody|anybody": "no process, another user, anyone",
    r"passed over": "skipped",
    r"all the same": "still, anyway",
    r"absurdly": "too",
    r"at the (most|least)": "at most, at least",
    r"is no more": "is gone, was deleted",
    r"likewise": "the same way, also",
    r"farewell|how-manieth|a sign of life": "say it plainly",
}
"""Translated or literary turns, and what to write instead."""

TEXTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "mkdocs.yml"]
FOLDERS = ["engine", "tesla_tui", "docs_hooks", "examples", "benchmarks"]
CODE = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
TEMPLATES = [*sorted((ROOT / "tesla_tui").rglob("*.j2"))]

LONGEST = 120


def texts_of(source: str) -> list[tuple[int, str]]:
    """Strings and comments of Python source, with their lines. Names of variables are not words."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type in kinds]


def found(texts: list[tuple[int, str]]) -> list[str]:
    """Avoided turns in texts, as `line: the turn (what to write)`; one that a line break divides is found too."""
    pattern = re.compile("|".join(rf"\b({turn})\b" for turn in AVOIDED), re.IGNORECASE)
    hits = []
    for line, text in texts:
        flat = re.sub(r"\s", " ", text)
        for match in pattern.finditer(flat):
            instead = next(
                better for turn, better in AVOIDED.items() if re.fullmatch(turn, match.group(), re.IGNORECASE)
            )
            hits.append(f"{line + text.count(chr(10), 0, match.start())}: {match.group()!r} (write: {instead})")
    return hits


@pytest.mark.parametrize("path", [*TEXTS, *CODE, *TEMPLATES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_translated_turns(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    hits = found(texts_of(source) if path.suffix == ".py" else [(1, source)])
    assert not hits, f"{path.relative_to(ROOT)}: " + "; ".join(hits)


@pytest.mark.parametrize(
    ("source", "turns"),
    [
        ('error("Mend that line.")', ["1: 'Mend' (write: fix, repair)"]),
        ('"""The run\ngoes\non."""', ["2: 'goes on' (write: continue, resume, run)"]),
        ("x = 1\n# whoever asks", ["2: 'whoever' (write: anyone who, the process that)"]),
        ('f"{name} goes on without {it}"', ["1: 'goes on' (write: continue, resume, run)"]),
        ("finding.mend(whoever)", []),
        ('"amended, recommend"', []),
    ],
)
def test_turns_are_found_in_words_and_not_in_names(source: str, turns: list[str]) -> None:
    assert found(texts_of(source)) == turns


@pytest.mark.parametrize("path", [path for path in TEXTS if path.suffix == ".md"], ids=lambda path: path.name)
def test_lines_of_markdown_fit(path: Path) -> None:
    long = [
        f"{number}: {len(line)}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LONGEST and not (line.startswith("|") and line.endswith("` |"))  # a row that ends in a command
    ]
    assert not long, f"{path.name}, lines of more than {LONGEST} characters: {', '.join(long)}"
