"""Labels in the files that Tiny ImageNet comes with: `val/val_annotations.txt` and `words.txt`."""

from engine.data.folders.filenames import text_of
from engine.data.folders.tree import Folder, Tree, left_out
from engine.data.report import LeftOut
from engine.errors import CorruptFileError, DataError

MOST_TEXT = 2**28
"""Bytes of a file of labels."""
ENDING = "_annotations.txt"

Annotated = tuple[list[str], list[str | None], list[str], list[LeftOut]]
"""Paths, the class of each, notes, and what is left out."""


def annotated(tree: Tree, folder: Folder) -> Annotated | None:
    """The pictures of a split whose labels are in its `<split>_annotations.txt`; None if it has no such file.

    Each line is the name of a picture, a tab, its class, and boxes that are not used.

    Raises:
        DataError: the file cannot be read.
    """
    name = next((name for name in folder.others if name.endswith(ENDING)), None)
    if name is None:
        return None
    path = folder.join(name)
    labels: dict[str, str] = {}
    for number, line in enumerate(lines_of(tree, path), 1):
        parts = line.split("\t")
        if len(parts) < 2 or not parts[0] or not parts[1]:
            raise DataError(
                f"{tree.shown(path)}, line {number}: it is not a picture's name, a tab and a class.",
                "Download the dataset again.",
            )
        labels[parts[0]] = parts[1].strip()
    taken, classes, without = [], [], []
    for picture in [*folder.own(), *folder.below()]:
        label = labels.pop(picture.rpartition("/")[2], None)
        if label is None:
            without.append(picture)
        else:
            taken.append(picture)
            classes.append(label)
    left = []
    if without:
        left.append(left_out("picture", "pictures", without, f"{text_of(name)} has no line for it"))
    if labels:
        left.append(left_out("line", "lines", list(labels), f"{text_of(path)} names a picture that is not there"))
    note = f"The classes of {text_of(folder.path)} are those of {text_of(path)}."
    return taken, list(classes), [note], left


def readable_names(tree: Tree, root: Folder, classes: tuple[str, ...]) -> list[str]:
    """What `words.txt` calls the classes, as a note; none if there is no such file."""
    if "words.txt" not in root.others:
        return []
    try:
        pairs = [line.split("\t", 1) for line in lines_of(tree, root.join("words.txt"))]
    except DataError:
        return []  # it is for people only
    words = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    known = [f"{name} is {words[name].split(',')[0]}" for name in classes if name in words]
    if not known:
        return []
    return [
        f"{text_of(root.join('words.txt'))} describes the classes: {'; '.join(known[:3])}. To use such names, list "
        "`name = new name` in a file for dataset.classes."
    ]


def lines_of(tree: Tree, path: str) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DataError: it is no text, or too large.
    """
    try:
        text = tree.reader.read(path, MOST_TEXT).decode("utf-8-sig")
    except (OSError, ValueError, CorruptFileError) as error:
        raise DataError(f"{tree.shown(path)} cannot be read: {error}.", "Replace it.") from error
    return [line for line in text.splitlines() if line.strip()]
