"""Readers of what strangers publish: plugins, tables, teacher buffers, sets, profiles."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from PIL import Image

from engine.errors import TeslaError
from engine.networks.convnet import ConvNet
from engine.runtime.generators import run_to_end
from engine.settings import resolve_settings
from engine.settings.plugins import installed
from engine.tools.doctor.plugins import examine_plugins
from engine.tools.exchange.import_buffers import import_buffers
from engine.tools.exchange.import_images import Wanted, prepare_images
from engine.training.teacher_buffer import TeacherBuffer
from tesla_tui.render.words import clean
from tests.conftest import TINY
from tests.fuzz.mutations import damage, damaged
from tests.fuzz.reader import Reader, Spoil, any_damage, json_edits, toml_edits, workspace
from tests.fuzz.tables import TABLES

# --- plugins of other packages


PLUGIN, INFO = "site/strange/tesla-plugin.toml", "site/strange-1.0.dist-info"
RAN = "strange_ran"


def lay_plugin(folder: Path) -> None:
    for name in ("site/strange", INFO):
        (folder / name).mkdir(parents=True)
    (folder / "site/strange/__init__.py").write_text(f"import sys\nsys.{RAN} = True\n")
    (folder / INFO / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    points = "[tesla.methods]\nodd = strange:ODD\n[tesla.datasets]\nrings = strange:find\n"
    (folder / INFO / "entry_points.txt").write_text(points)
    (folder / PLUGIN).write_text(
        '[methods.odd]\ndistill.lr_images = 2.0\nfixed = { distill = { gradient = "exact" } }\n'
        '[methods.odd.about]\ntitle = "odd"\nteachers = true\niterates = true\n'
        "[methods.odd.ipc.1]\ndistill.steps = 3\n"
        '[datasets.rings]\nnetwork.depth = 2\n[datasets.rings.about]\ntitle = "rings"\nclasses = 3\nresolution = 8\n'
    )


def read_plugin(folder: Path) -> None:
    """All that is known of a plugin without consent, and that none of its code runs."""
    sys.path.insert(0, str(folder / "site"))
    installed.cache_clear()
    try:
        assert all(clean(finding.words) for finding in examine_plugins())
        for ipc in (1, 2):
            choice = ["dataset.name=rings", "distill.method=odd", f"distill.ipc={ipc}"]
            assert resolve_settings(overrides=choice).flat()
    finally:
        sys.path.remove(str(folder / "site"))
        installed.cache_clear()
        assert not hasattr(sys, RAN), "a plugin's code ran without consent"


# --- teacher buffers, sets and names of classes that others publish


def lay_published_buffer(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [p.shape for p in ConvNet(1, 10, 8, 4, 2).parameters()]
    value = [[[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2)]]
    # The format before zip has no checksums: every change of its pickle reaches the reader.
    torch.save(value, folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(value, folder / "new.pt")
    workspace(folder)


def rezipped(name: str) -> Spoil:
    """The pickle in the archive is spoilt, and the archive's checksums are made to fit."""

    def apply(changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            with zipfile.ZipFile(folder / name) as archive:
                parts = {part: archive.read(part) for part in archive.namelist()}
            with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
                for part, data in parts.items():
                    archive.writestr(part, damaged(data, changes) if part.endswith("data.pkl") else data)

        return change

    return st.builds(apply, damage)


@contextmanager
def first_error() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Run several readers; the first refusal is raised when all have run."""
    errors: list[TeslaError] = []

    def run(read: Callable[[], object]) -> None:
        try:
            read()
        except TeslaError as error:
            errors.append(error)

    yield run
    if errors:
        raise errors[0]


def read_published_buffer(folder: Path) -> None:
    opened, effective = (
        workspace(folder),
        resolve_settings(overrides=["dataset.name=digits", "network.name=convnet", *TINY]),
    )
    with first_error() as run:
        for name in ("old", "new"):

            def read(name: str = name) -> None:
                run_to_end(import_buffers(opened, effective, [folder / f"{name}.pt"], name))
                buffer = TeacherBuffer(folder / "buffers" / name, {})
                assert all(torch.isfinite(row).all() for row in buffer.read(0, *range(buffer.epochs(0) + 1)))

            run(read)


RECIPE = {
    "format": 1, "classes": [str(i) for i in range(10)], "space": "normalised", "student_lr": 0.02,
    "settings": {"distill.formation": 1},
}  # fmt: skip


def lay_set(folder: Path) -> None:
    """A set as its authors publish one: images, labels, a step size, names of classes; and one of pictures."""
    workspace(folder)
    torch.save(torch.randn((10, 1, 8, 8), generator=torch.Generator().manual_seed(0)), folder / "images_best.pt")
    torch.save(torch.eye(10), folder / "labels_best.pt")
    torch.save(torch.tensor(0.02), folder / "lr_best.pt")
    (folder / "names.txt").write_text("\n".join(str(9 - i) for i in range(10)) + "\n")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    for i in range(10):
        (folder / f"pictures/{i}").mkdir(parents=True)
        Image.new("L", (8, 8), 20 * i).save(folder / f"pictures/{i}/0.png")


def read_set(folder: Path) -> None:
    opened = workspace(folder)
    pt = Wanted(folder / "images_best.pt", folder / "labels_best.pt", lr=str(folder / "lr_best.pt"))
    named = Wanted(pt.images, pt.labels, lr="0.02", classes=str(folder / "names.txt"))
    pictures = Wanted(folder / "pictures", lr="0.02")
    with first_error() as run:
        for wanted in (pt, named, pictures):

            def read(wanted: Wanted = wanted) -> None:
                run_to_end(prepare_images(opened, "set", wanted, TINY))

            run(read)


def pictures_moved() -> Spoil:
    """Folders of pictures get other names, pictures other contents."""

    def apply(digit: int, name: str, changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            file = folder / f"pictures/{digit}/0.png"
            file.write_bytes(damaged(file.read_bytes(), changes))
            with suppress(OSError, ValueError):
                shutil.move(folder / f"pictures/{digit}", folder / "pictures" / name.replace("/", "_"))

        return change

    texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
    return st.builds(apply, st.integers(0, 9), texts | st.sampled_from(["..", "\x1b[2J", "10", "-1", "\u202e"]), damage)


# --- settings with a profile


def lay_profile(folder: Path) -> None:
    lines = ['profile = "tesla-code"', "[dataset]", 'name = "cifar10"', "[distill]", "ipc = 1", "[ipc.1]", "seed = 1"]
    (folder / "tesla.toml").write_text("\n".join(lines) + "\n")


def read_profile(folder: Path) -> None:
    opened = workspace(folder)
    for ipc in (None, 1):
        assert opened.settings(ipc=ipc).flat()


DOORS = (
    *TABLES,
    Reader(
        "plugins", lay_plugin,
        any_damage(PLUGIN, f"{INFO}/entry_points.txt", f"{INFO}/METADATA") | toml_edits(PLUGIN), read_plugin, share=0.5,
    ),
    Reader(
        "published buffer", lay_published_buffer, any_damage("old.pt", "new.pt") | rezipped("new.pt"),
        read_published_buffer, share=0.1,
    ),
    Reader(
        "set of files", lay_set,
        any_damage("images_best.pt", "labels_best.pt", "lr_best.pt", "names.txt", "recipe.json")
        | json_edits("recipe.json")
        | rezipped("images_best.pt")
        | rezipped("labels_best.pt")
        | pictures_moved(),
        read_set, share=0.1,
    ),
    Reader("tesla.toml with a profile", lay_profile, any_damage("tesla.toml") | toml_edits("tesla.toml"), read_profile),
)  # fmt: skip
