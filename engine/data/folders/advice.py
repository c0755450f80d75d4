"""What to do with pictures that have no classes, and what to know about names and links that mean the same."""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress

from engine.data.folders.filenames import extension, text_of
from engine.data.folders.label_files import columns_of, label_paths, read_label_file
from engine.data.folders.layout import Found, SplitFiles
from engine.data.folders.tree import Tree
from engine.errors import DataError

EXPECTED = "It must hold one subfolder of pictures per class, or pictures and a metadata.csv."
ARCHIVES = frozenset(("zip", "tar", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar"))
"""Extensions of files that may hold pictures once they are unpacked."""
MOST_WORDS = 20
"""Different words before the numbers of pictures, of which a command makes folders."""


def no_classes(tree: Tree, found: Found) -> DataError:
    """The error for a tree without a picture that has a class."""
    shown = [f"{len(split.paths):,} in {', '.join(split.sources) or 'the folder itself'}"
             for split in found.splits.values()]  # fmt: skip
    hint = how_to_label(tree) or _to_sort(tree, found) or EXPECTED
    if len(found.splits) > 1:
        hint += " If these folders are classes, set dataset.train_split = all."
    held = "; ".join(shown)
    return DataError(f"{tree.shown('')} has no subfolders that are classes. It has these pictures: {held}.", hint)


def how_to_label(tree: Tree) -> str:
    """How to use the tables that lie beside pictures; empty if there are none."""
    files = []
    for path in label_paths(tree)[:4]:
        with suppress(DataError):
            files.append(read_label_file(tree, path))
    files = [file for file in files if file.columns]
    if not files:
        return ""
    return (
        f"If a table has their classes, set dataset.image_column to its column with the names of the pictures, and "
        f"dataset.label_column to the one with their classes: {columns_of(files)}."
    )


def no_pictures(tree: Tree) -> DataError:
    """The error for a tree without pictures."""
    packed = [path for folder in tree.root.walk() for path in map(folder.join, folder.others)
              if extension(path) in ARCHIVES]  # fmt: skip
    hint = f"Unpack {_some(packed)} and set dataset.path to the folder with the pictures." if packed else EXPECTED
    return DataError(f"{tree.shown('')} has no subfolders with pictures ({tree.contents()}).", hint)


def unlabelled(tree: Tree, name: str, split: SplitFiles) -> DataError:
    """The error for a split that is needed, but has no labels."""
    where = ", ".join(tree.shown(source) for source in split.sources[:1]) or tree.shown("")
    lists = [path for folder in tree.root.walk() for path in map(folder.join, folder.others)
             if any(word in path.lower() for word in ("ground_truth", "solution", "label", "synset"))]  # fmt: skip
    seen = f" {', '.join(map(text_of, lists[:2]))} is not read for that." if lists else ""
    has = f"{len(split.paths):,} pictures, but no" if split.paths else "no pictures and no"
    return DataError(
        f"{where} has {has} subfolders that are classes, so {name} has no labels.{seen}",
        "Put these pictures in one subfolder per class, or add a metadata.csv with the columns file_name and label "
        "there, or set dataset.test_split = none to hold out a fifth of the training images instead.",
    )


def _to_sort(tree: Tree, found: Found) -> str:
    """A command that sorts pictures called `cat.0.jpg` into folders; empty if their names do not begin so."""
    split = next(iter(found.splits.values()))
    names = [path.rpartition("/")[2] for path in split.paths]
    matches = [re.fullmatch(r"([^\W\d_]+)[^a-zA-Z]*\d[^a-zA-Z]*\.\w+", name) for name in names]
    words = Counter(match[1] for match in matches if match)
    if None in matches or not 2 <= len(words) <= MOST_WORDS or min(words.values()) < 2:
        return ""
    shown, listed = ", ".join(words), " ".join(words)
    if tree.place.is_file():
        return f"The names begin with {shown}. If these are the classes, unpack the archive and make a folder of each."
    where = shlex.quote(tree.shown(split.paths[0].rpartition("/")[0]))
    return (
        f"The names begin with {shown}. If these are the classes, make a folder of each: `cd {where} && for c in "
        f'{listed}; do mkdir $c && find . -maxdepth 1 -name "$c[!a-zA-Z]*" -exec mv {{}} $c/ \\;; done`.'
    )


def alike(names: Iterable[str]) -> list[str]:
    """Sentences on classes that look the same: they differ in case, or in how letters with accents are encoded."""
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    cases, encodings = [], []
    for group in spelled.values():
        composed = [unicodedata.normalize("NFC", name) for name in group]
        if len(set(composed)) < len(group):
            encodings.append(group[0])
        if len(set(composed)) > 1:
            cases += group
    said = []
    if cases:
        said.append(f"Classes that differ only in upper and lower case: {_some(cases)}.")
    if encodings:
        said.append(f"Classes that differ only in the encoding of accents (Unicode NFC, NFD): {_some(encodings)}.")
    return said


def linked_twice(tree: Tree) -> list[str]:
    """Sentences on folders that are the same one, by a link: their pictures are there twice."""
    groups = [sorted(paths) for paths in tree.same.values() if paths[1:]]
    group_of = {path: number for number, paths in enumerate(groups) for path in paths}
    said = []
    for paths in sorted(groups):
        above = {group_of.get(path.rpartition("/")[0], -1) for path in paths}
        if len(above) > 1 or -1 in above:  # else the folders that these are in are told
            said.append(f"{_some(paths)} are one folder, by a link: its pictures are used more than once.")
    return said


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(text_of, names[:6])) + (f" and {len(names) - 6} more" if names[6:] else "")
