"""Systems that break: they kill the process, refuse a call, or forget what was not synced, at the n-th call of a run.

They take the place of `engine.storage.filesystem.disk.system`, the one door to the file system. The driver's pulse, a
hint that beats by the clock, is not counted.
"""

import errno
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engine.storage.filesystem import System, disk

KINDS = (
    (r"/datasets/", "dataset cache"),
    (r"\.part(\.json)?(\.tmp|$)", "teacher in the making"),
    (r"\.position\.", "stop in mid-epoch"),
    (r"/trajectory-", "teacher"),
    (r"/buffers(/|$)", "teacher buffer"),
    (r"/checkpoints/.*\.json", "checkpoint's record"),
    (r"/checkpoints/.*\.safetensors", "checkpoint's tensors"),
    (r"/evaluations/", "evaluation"),
    (r"/previews/", "film"),
    (r"/journal\.jsonl", "journal"),
    (r"/settings\.toml|/tesla\.toml", "settings"),
    (r"/driver\.json", "driver's note"),
    (r"/out(\.tmp|/|$)", "export"),
)


def kind_of(path: str) -> str:
    """What a file is, for the table."""
    return next((kind for pattern, kind in KINDS if re.search(pattern, path)), "folder")


@dataclass(frozen=True)
class Fault:
    """What happens at which call."""

    how: str
    """`before`, `half` (of a write) or `after`: SIGKILL. `names` or `data`: power cut, see Forgetful. Else an errno."""
    at: int
    """Number of the call, from 0."""
    lasting: bool = True
    """Of an error: every later call fails as well, as on a disk that stays full."""


class Faulty(System):
    """Counts calls and breaks at one of them. `fault` None: only counts."""

    def __init__(self, fault: Fault | None = None, report: Path | None = None) -> None:
        self.fault = fault
        self.count = 0
        self._report = report
        self._lock = threading.RLock()

    def open(self, path: Path, flags: int) -> int:
        found: int = self._call("open", str(path), lambda: super(Faulty, self).open(path, flags))
        return found

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        found: int = self._call(
            "write", _name(descriptor), lambda: super(Faulty, self).write(descriptor, data),
            lambda: os.write(descriptor, memoryview(data)[: len(data) // 2]),
        )  # fmt: skip
        return found

    def truncate(self, descriptor: int, size: int) -> None:
        self._call("truncate", _name(descriptor), lambda: super(Faulty, self).truncate(descriptor, size))

    def reserve(self, descriptor: int, size: int) -> None:
        self._call("reserve", _name(descriptor), lambda: super(Faulty, self).reserve(descriptor, size))

    def fsync(self, descriptor: int) -> None:
        self._call("fsync", _name(descriptor), lambda: super(Faulty, self).fsync(descriptor))

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", str(target), lambda: super(Faulty, self).rename(source, target))

    def remove(self, path: Path) -> None:
        self._call("remove", str(path), lambda: super(Faulty, self).remove(path))

    def make_folder(self, path: Path) -> None:
        self._call("make_folder", str(path), lambda: super(Faulty, self).make_folder(path))

    def remove_folder(self, path: Path) -> None:
        self._call("remove_folder", str(path), lambda: super(Faulty, self).remove_folder(path))

    def _call(self, name: str, path: str, real: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        if ".pulse.json" in path:
            return real()
        with self._lock:
            number, self.count = self.count, self.count + 1
            if self._report is not None:
                with open(self._report, "a") as file:
                    file.write(f"{number}\t{name}\t{path}\n")
            fault = self.fault
            if fault is None or number < fault.at:
                return real()
            if fault.how in errno.errorcode.values():
                if number == fault.at or fault.lasting:
                    return self._refuse(name, fault.how, real)
                return real()
            if fault.how == "half" and half is not None:
                half()
            elif fault.how == "after":
                real()
            self.strike()

    def _refuse(self, name: str, how: str, real: Callable[[], Any]) -> Any:
        # A full disk still renames, removes and cuts; a read-only or broken one does nothing.
        if how in ("ENOSPC", "EDQUOT") and name in ("rename", "remove", "remove_folder", "truncate", "fsync"):
            return real()
        number = getattr(errno, how)
        raise OSError(number, os.strerror(number))

    def strike(self) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Forgetful(Faulty):
    """The power is cut: what was not synced is not there afterwards.

    `names`: every rename, removal and new name that no fsync of its folder followed is undone, and files have the
    contents of their last fsync. `data`: names stay, contents go (what a journaling file system often leaves).

    Args:
        root: the folder whose files are watched.
        aside: a folder on the same file system for what may have to come back.
    """

    def __init__(self, fault: Fault, root: Path, aside: Path) -> None:
        super().__init__(fault)
        self._root = root
        self._aside = aside
        self._synced: dict[int, bytes] = {}
        self._pending: list[tuple[Path, Callable[[], None]]] = []

    def open(self, path: Path, flags: int) -> int:
        new = not path.exists()
        if not new:
            self._synced.setdefault(path.stat().st_ino, path.read_bytes())
        descriptor = super().open(path, flags)
        if new:
            self._synced[os.fstat(descriptor).st_ino] = b""
            self._pending.append((path.parent, lambda: path.unlink(missing_ok=True)))
        return descriptor

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        path = Path(_name(descriptor))
        if path.is_dir():
            self._pending = [(folder, undo) for folder, undo in self._pending if folder != path]
        else:
            self._synced[path.stat().st_ino] = path.read_bytes()

    def rename(self, source: Path, target: Path) -> None:
        kept = self._keep(target)
        super().rename(source, target)

        def undo() -> None:
            target.rename(source)
            if kept is not None:
                os.link(kept, target)

        self._pending.append((target.parent, undo))

    def remove(self, path: Path) -> None:
        kept = self._keep(path)
        super().remove(path)
        if kept is not None:
            self._pending.append((path.parent, lambda: os.link(kept, path)))

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._pending.append((path.parent, lambda: shutil.rmtree(path)))

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self._pending.append((path.parent, path.mkdir))

    def _keep(self, path: Path) -> Path | None:
        if not path.is_file():
            return None
        self._synced.setdefault(path.stat().st_ino, path.read_bytes())
        kept = self._aside / f"{len(list(self._aside.iterdir()))}"
        os.link(path, kept)
        return kept

    def strike(self) -> NoReturn:
        assert self.fault is not None
        if self.fault.how == "names":
            for _, undo in reversed(self._pending):
                undo()
        for path in self._root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._synced:
                content = self._synced[path.stat().st_ino]
                if path.read_bytes() != content:
                    path.write_bytes(content)
        super().strike()


def _name(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def install(system: System) -> None:
    """Let a system take the place of the real one, in this process."""
    disk.system = system


class Refusing(System):
    """Refuses reads of one kind of file, and counts what it refused.

    Args:
        pattern: searched in the path.
        how: name of the error.
        call: `open`, `read`, `names` or `status`.
        times: how often; every time after that it is as usual.
    """

    def __init__(self, pattern: str, how: str, call: str = "open", times: float = 1) -> None:
        self._pattern, self._number, self._call, self._left = re.compile(pattern), getattr(errno, how), call, times
        self.refused = 0

    def open_to_read(self, path: Path) -> int:
        self._look("open", str(path))
        return super().open_to_read(path)

    def read_into(self, descriptor: int, buffer: memoryview) -> int:
        self._look("read", _name(descriptor))
        return super().read_into(descriptor, buffer)

    def names(self, folder: Path) -> list[str]:
        self._look("names", str(folder))
        return super().names(folder)

    def status(self, path: Path) -> os.stat_result:
        self._look("status", str(path))
        return super().status(path)

    def _look(self, call: str, path: str) -> None:
        if call == self._call and self._pattern.search(path) and self._left > 0:
            self._left -= 1
            self.refused += 1
            raise OSError(self._number, os.strerror(self._number), path)


class Killed(BaseException):
    """What takes the place of SIGKILL in a process that goes on: no code handles it, and no later call is made."""


class Dying(Faulty):
    """Faulty without a process of its own: at the strike and ever after, no call reaches the system."""

    dead = False

    def _call(self, name: str, path: str, real: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        if self.dead:
            raise Killed
        return super()._call(name, path, real, half)

    def strike(self) -> NoReturn:
        self.dead = True
        raise Killed
