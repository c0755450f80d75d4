"""What a tree of pictures means: which folders are splits, which are classes, and what belongs to neither.

The rules are those of Hugging Face's ImageFolder and of torchvision's, where these are unambiguous: a class is the
folder of its pictures, a split is a folder above or below the classes whose name says so (`engine.data.splits`).
"""

from dataclasses import dataclass, field

from engine.data.folders.annotations import annotated
from engine.data.folders.filenames import extension, text_of
from engine.data.folders.tree import Folder, Tree, left_out
from engine.data.report import ColumnFacts, LeftOut
from engine.data.request import DataRequest
from engine.data.sources import natural_key, natural_order
from engine.data.splits import ALL, KEYWORDS, kind_of, split_words
from engine.errors import DataError, UsageError

DEEPER = "dataset.recursive = true"


@dataclass(frozen=True)
class SplitFiles:
    """The pictures of a split."""

    paths: list[str]
    """Relative to the tree; by class, as a person counts."""
    labels: list[str | None]
    """The class of each; None where it has none."""
    why: str
    """What tells that this is a split."""
    sources: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """Its class folders, also those without pictures."""

    @property
    def labelled(self) -> bool:
        """Whether any picture has a class."""
        return any(label is not None for label in self.labels)


@dataclass
class Found:
    """The splits of a tree, and what was seen besides."""

    root: Folder
    """The folder with the splits or classes."""
    splits: dict[str, SplitFiles] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: tuple[ColumnFacts, ...] = ()
    order: str = ""
    """What decides the numbers of the classes, where that is not their names."""
    classes: tuple[str, ...] = ()
    """The classes by number; empty where their names decide."""


def read_layout(tree: Tree, request: DataRequest) -> Found:
    """Sort the pictures of a tree into splits and classes by the names of folders.

    Raises:
        DataError: there are no classes, or pictures lie where no rule reaches.
        UsageError: a folder may be a class or a split.
    """
    found = Found(root=unwrapped(tree.root))
    root = found.root
    if root is not tree.root:
        found.notes.append(f"The dataset is taken from the folder {text_of(root.path)}, the only one with pictures.")
    named = _split_folders(tree, root, request)
    if named:
        _tell_beside(root, named, found)
        for split, folder in named.items():
            found.splits[split] = _split(tree, folder, request, found, f"the folder {text_of(folder.name)}")
        _without_labels(found)
    elif below := _splits_below(root):
        _tell_loose(root, found)
        _read_below(root, below, found)
    else:
        found.splits["train"] = _split(tree, root, request, found, "all pictures: no folder is named as a split")
        weak = [name for name in root.filled() if split_words(name)]
        if weak and request.train_split != ALL:
            found.notes.append(f"{_names(weak)}: taken as a class, as it holds pictures beside other classes.")
    _tell_others(tree, found)
    return found


def unwrapped(root: Folder) -> Folder:
    """The folder with the splits or classes: not those around it that hold nothing else."""
    while not root.pictures and len(inner := root.filled()) == 1:
        ((name, child),) = inner.items()
        empty = [folder for folder in root.folders.values() if not folder.total and not folder.others]
        loose = child.pictures and len(child.filled()) < 2
        if (kind_of(name) in KEYWORDS and not _deep_splits(child)) or not child.filled() or loose or empty:
            break
        root = child
    return root


def _deep_splits(folder: Folder) -> bool:
    """Whether a folder holds splits with folders of classes, and not classes that are called so."""
    inner = [child for name, child in folder.filled().items() if kind_of(name) in KEYWORDS]
    return any(child.filled() and not child.pictures for child in inner)


def _split_folders(tree: Tree, root: Folder, request: DataRequest) -> dict[str, Folder]:
    """The folders that are splits, by the split's name; empty if the folders are classes.

    Raises:
        UsageError: they may be either.
    """
    inner = root.filled()
    named = {name: folder for name, folder in root.folders.items() if len(split_words(name)) >= 1}
    if not any(name in inner for name in named):
        return {}
    deep = [name for name in named if name in inner and (count := len(inner[name].filled()))
            and (count > 1 or not inner[name].pictures)]  # fmt: skip
    flat_others = [name for name in inner if name not in named and inner[name].pictures]
    exact = [name for name in named if kind_of(name) in KEYWORDS]
    asked = {request.train_split, request.test_split} - {None, "none"}
    if not deep:
        if request.train_split == ALL or (flat_others and not exact):
            return {}
        if flat_others and not asked & {*named, *map(kind_of, named)}:
            raise _either(tree, root, exact, flat_others)
        if not flat_others and not exact:
            raise _either(tree, root, sorted(named), [])
    elif flat_others and len(deep) == 1:
        if request.train_split == ALL:
            return {}
        if not asked:
            raise _either(tree, root, deep, flat_others)
    splits = [*named, *(name for name in inner if name not in named and inner[name].filled())]
    splits.sort(key=lambda name: [*KEYWORDS, name].index((split_words(name) or (name,))[0]))
    kinds = {name: split_words(name)[0] if len(split_words(name)) == 1 else name for name in splits}
    twice = {kind for kind in kinds.values() if list(kinds.values()).count(kind) > 1}
    if twice and not asked:
        kind = min(twice)
        same = [name for name in splits if kinds[name] == kind]
        key = "train_split" if kind == "train" else "test_split"
        raise UsageError(
            f"{tree.shown(root.path)} has several folders for the split {kind}: {_names(same)}.",
            f"Set dataset.{key} to one of them.",
        )
    return {name if kinds[name] in twice else kinds[name]: root.folders[name] for name in splits}


def _either(tree: Tree, root: Folder, unclear: list[str], others: list[str]) -> UsageError:
    beside = f" beside the folders {_names(others)}" if others else ""
    return UsageError(
        f"{tree.shown(root.path)}: {_names(unclear)} may be a split or a class: the name is that of a split, but it "
        f"holds pictures{beside}.",
        "Set dataset.train_split = all to take every folder as a class, or dataset.train_split to the folder to train "
        "on.",
    )


def _split(tree: Tree, folder: Folder, request: DataRequest, found: Found, why: str) -> SplitFiles:
    """The pictures of a split, whose folders are classes.

    Raises:
        DataError: a class has no pictures, or only in deeper folders.
    """
    sources = (text_of(folder.path),) if folder.path else ()
    given = annotated(tree, folder)
    if given is not None:
        taken, of_taken, notes, left = given
        found.notes += notes
        found.left_out += left
        return SplitFiles(taken, of_taken, f"{why}, labels from its annotations", sources)
    if not folder.filled() and (folder.pictures or not folder.folders):
        return SplitFiles(folder.own(), [None] * len(folder.pictures), why, sources)
    inner = next(iter(folder.filled().values())) if len(folder.filled()) == 1 else folder
    if not (request.recursive or folder.pictures or inner.pictures) and inner is not folder and inner.filled():
        found.notes.append(f"The classes of {text_of(folder.path)} are those of {text_of(inner.path)}, all it holds.")
        return _split(tree, inner, request, found, why)
    _tell_loose(folder, found)
    only = _common_inner(folder)
    if only:
        found.notes.append(
            f"In {text_of(folder.path) or 'every class'}, the pictures of each class are taken from its folder {only}."
        )
    paths: list[str] = []
    labels: list[str | None] = []
    deeper, missing = [], []
    for name in natural_order(list(folder.folders)):
        child = folder.folders[name]
        mine, below = child.own(), child.below()
        if request.recursive or only:
            mine += below
        else:
            deeper += below
        if not mine:
            missing.append((name, child))
        paths += mine
        labels += [name] * len(mine)
    if missing and request.classes is None:
        raise _empty(tree, folder, missing)
    if deeper:
        where = "in folders below a class folder"
        found.left_out.append(left_out("deeper picture", "deeper pictures", deeper, where, DEEPER))
    return SplitFiles(paths, labels, why, sources, tuple(folder.folders))


def _common_inner(folder: Folder) -> str:
    """The one folder that holds the pictures of every class, as `images` in Tiny ImageNet; empty if there is none."""
    classes = folder.filled().values()
    inner = {tuple(child.filled()) for child in classes}
    name = next(iter(inner))[0] if len(inner) == 1 and len(next(iter(inner))) == 1 else ""
    ok = name and len(folder.filled()) > 1 and not any(c.pictures or c.folders[name].filled() for c in classes)
    return name if ok else ""


def _empty(tree: Tree, folder: Folder, missing: list[tuple[str, Folder]]) -> DataError:
    deep = [(name, child) for name, child in missing if child.total]
    name, child = (deep or missing)[0]
    more = f" (nor have {len(missing) - 1} more)" if missing[1:] else ""
    what = f"The class {text_of(name)!r} ({tree.shown(child.path)}) has no images{more}"
    if deep:
        lower = sorted(child.filled(), key=natural_key)
        count = sum(len(one.filled()) for _, one in deep)
        levels = (
            f" To use the {count} lower folders as classes instead, move them up one level."
            if len(deep) == len(missing) == len(folder.filled())
            else " Or leave the class out with dataset.classes, a file with the classes to use."
        )
        return DataError(
            f"{what} but in deeper folders: {child.total:,} below {_names(lower)}.",
            f"Set {DEEPER} to take them as images of {text_of(name)!r}.{levels} If {text_of(name)} is a dataset of its "
            "own, set dataset.path to it.",
        )
    held = f"; it holds {tree.shown(child.join(child.others[0]))}" if child.others else ""
    return DataError(
        f"{what}{held}.",
        "Add images, remove the folder, or leave the class out with dataset.classes, a file with the classes to use.",
    )


def _splits_below(root: Folder) -> list[str]:
    """Names of the splits, if every class folder has its own: `cat/train/1.jpg`."""
    classes = root.filled()
    inner = {name for child in classes.values() for name in child.filled()}
    fits = inner and all(
        kind_of(name) in KEYWORDS and not folder.filled()
        for child in classes.values()
        for name, folder in child.filled().items()
    )
    return sorted(inner) if fits and not any(child.pictures for child in classes.values()) else []


def _read_below(root: Folder, names: list[str], found: Found) -> None:
    kinds = [kind_of(name) for name in names]
    found.notes.append(f"The splits are below the classes: each class folder has {_names(names)}.")
    for name in names:
        paths, labels = [], []
        for label, child in root.filled().items():
            taken = child.folders[name].own() if name in child.folders else []
            paths += taken
            labels += [label] * len(taken)
        split = kind_of(name) if kinds.count(kind_of(name)) == 1 else name
        classes = tuple(label for label, child in root.filled().items() if name in child.folders)
        found.splits[split] = SplitFiles(paths, list(labels), f"the folders {name} of the classes", classes=classes)


def _without_labels(found: Found) -> None:
    """A test split in one folder that is no class, as Tiny ImageNet's `test/images`, has no labels."""
    for name, split in found.splits.items():
        others = {label for key, other in found.splits.items() if key != name for label in other.labels}
        if len(split.classes) == 1 and len(others - {None}) > 1 and split.classes[0] not in others:
            found.splits[name] = SplitFiles(split.paths, [None] * len(split.paths), split.why, split.sources)


def _tell_loose(folder: Folder, found: Found) -> None:
    if folder.pictures:
        reason = "beside the class folders, in none of them"
        found.left_out.append(left_out("picture", "pictures", folder.own(), reason))


def _tell_beside(root: Folder, named: dict[str, Folder], found: Found) -> None:
    if root.pictures:
        found.left_out.append(left_out("picture", "pictures", root.own(), "beside the folders of the splits"))
    splits = {folder.name for folder in named.values()}
    for name, folder in root.filled().items():
        if name not in splits:
            paths = [*folder.own(), *folder.below()]
            found.left_out.append(left_out("picture", "pictures", paths, f"{text_of(name)} is no split"))


def _tell_others(tree: Tree, found: Found) -> None:
    """Files that are no pictures, by extension."""
    by_kind: dict[str, list[str]] = {}
    for folder in tree.root.walk():
        for name in folder.others:
            by_kind.setdefault(extension(name), []).append(folder.join(name))
    for ending, paths in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        found.left_out.append(left_out(f".{ending} file", f".{ending} files", paths, "no picture"))


def _names(names: list[str], most: int = 5) -> str:
    shown = ", ".join(text_of(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
