"""The writing commands, each on a small workspace that is prepared once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Words = tuple[str, ...]

SETTINGS = {
    "network.width": 4, "network.depth": 1, "teachers.count": 2, "teachers.epochs": 2, "teachers.batch": 512,
    "distill.max_start_epoch": 1, "distill.teacher_epochs": 1, "distill.iterations": 6, "distill.steps": 2,
    "distill.lr_images": 10, "distill.checkpoint_every": 2, "distill.keep": 1, "evaluate.every": 3,
    "evaluate.epochs": 3, "evaluate.repeats": 1, "compute.threads": 1, "compute.compile": "off",
}  # fmt: skip


def settings(**changes: object) -> Words:
    """Options for the small settings and these changes, with `__` for the dot of a key."""
    chosen = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    return tuple(word for key, value in chosen.items() for word in ("--set", f"{key}={value}"))


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Args:
        name: in tables.
        words: of the command.
        before: the prepared folder that it starts from.
        damaged: whether it starts from a damaged workspace, so that `doctor` complains before it.
        processes: what can be struck of a command that starts others: `itself`, or a word of `STARTED`.
    """

    name: str
    words: Words
    before: str = "made"
    damaged: bool = False
    processes: Words = ()

    @property
    def workspace(self) -> str:
        """Folder that `status` and `doctor` look at."""
        return "pics" if "pics" in self.words else "ws"


STARTED = {"worker 0": '"0 "*', "worker 1": '"1 "*', "measuring": "*engine.runtime.subprocesses*"}
"""Processes that commands start: a pattern of sh for the rank and the arguments of Python, with a space between."""

INIT = ("init", "ws", "--dataset", "digits")
RUN = ("run", "ws", "--ipc", "1", *settings())
TEACHERS = ("export-buffers", "ws", "--run", "ipc-1", "--to", "teachers", "--per-file", "1")
SET = ("export", "ws", "--run", "ipc-1", "--to", "published", "--format", "pt")

STAGES: tuple[tuple[str, tuple[Words, ...]], ...] = (
    ("empty", ()),
    ("ready", (INIT, ("init", "pics", "--dataset", "pictures"))),
    ("made", (RUN, TEACHERS, SET)),
)
"""Prepared folders, each made from the one before by these commands."""

CASES = (
    Case("init", INIT, "empty"),
    Case("init, a folder of pictures", ("init", "pics", "--dataset", "pictures"), "empty"),
    Case("run", RUN, "ready"),
    Case("run --seeds 2", (*RUN, "--seeds", "2"), "ready"),
    Case(
        "run --workers 2", (*RUN, "--workers", "2"), "ready", processes=("itself", "worker 0", "worker 1")
    ),
    Case("teach, decoding pictures", ("teach", "pics", "--ipc", "1", *settings()), "ready"),
    Case(
        "evaluate",
        ("evaluate", "ws", "--network", "mlp", "--set", "evaluate.epochs=3", "--set", "evaluate.repeats=1"),
    ),
    Case(
        "import-images",
        ("import-images", "ws", "published/images_best.pt", "published/labels_best.pt", "--lr", "0.02", *settings()),
    ),
    Case(
        "import-buffers",
        ("import-buffers", "ws", "teachers/replay_buffer_0.pt", "teachers/replay_buffer_1.pt", "--name", "mtt",
         *settings()),
    ),
    Case("export", ("export", "ws", "--to", "out", "--with-test")),
    Case("export --format pt", ("export", "ws", "--to", "out", "--format", "pt")),
    Case("export-buffers", ("export-buffers", "ws", "--to", "out", "--per-file", "1")),
    Case("report", ("report", "ws", "--to", "report.html")),
    Case("show --png", ("show", "ws", "--png", "grid.png")),
    Case("show --film", ("show", "ws", "--film", "film.webp")),
    Case("log --csv", ("log", "ws", "--csv", "numbers.csv")),
    Case("log --tensorboard", ("log", "ws", "--tensorboard", "curves", "--once")),
    Case("study sla-only", ("study", "sla-only", "ws", "--ipc", "1", *settings())),
    Case("study gallery", ("study", "gallery", "ws", "--run", "ipc-1")),
    Case("trust", ("trust", "nets:small"), "ready"),
    Case(
        "plan", ("plan", "ws", "--ipc", "1", "--seconds", "0.1", "--budget", "4", *settings()),
        processes=("itself", "measuring"),
    ),
    Case("doctor --repair", ("doctor", "ws", "--repair"), "damaged", damaged=True),
    Case("doctor --repair, no settings", ("doctor", "ws", "--repair"), "no-toml", damaged=True),
    Case(
        "bench data", ("bench", "data", "--dataset", "digits", "--rounds", "1", "--json", "bench.json"),
        processes=("itself",),
    ),
)  # fmt: skip


def write_inputs(folder: Path) -> None:
    """A class-per-folder tree of two classes with eight pictures each, and a module with a network."""
    (folder / "nets.py").write_text("def small(**sizes):\n    raise NotImplementedError\n")
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("dots", "lines"):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for number in range(8):
                Image.fromarray(draw.integers(0, 255, (8, 8), dtype=np.uint8)).save(
                    folder / "pictures" / split / name / f"{number}.png"
                )


def damage(folder: Path) -> None:
    """Damage one file of each kind in the workspace of `made`."""
    run = folder / "ws" / "runs" / "ipc-1"
    checkpoint = max((run / "checkpoints").glob("*.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    (run / "settings.toml").write_text("")
    evaluation = min((run / "evaluations").glob("*.json"))
    evaluation.write_text(evaluation.read_text().replace("0", "1", 1))
    trajectory = min((folder / "ws" / "buffers").glob("*/trajectory-*.safetensors"))
    trajectory.write_bytes(trajectory.read_bytes()[:-1] + b"?")
    min((folder / "ws" / "buffers").glob("*/manifest.json")).unlink()
