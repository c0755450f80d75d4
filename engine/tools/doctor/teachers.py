"""Teacher buffers: manifest, every snapshot of every trajectory, those in training."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from engine.errors import BusyError, CorruptFileError, NewerFormatError
from engine.runs.names import IMPORTING
from engine.storage.atomic import read_json, read_tensors
from engine.storage.holder import read_holder
from engine.storage.reading import exists, is_file, is_folder, paths_in
from engine.storage.temp_files import set_aside
from engine.storage.untrusted import open_regular
from engine.tools.doctor.finding import Examine, Finding, Lock, damaged, examined, left, lock_folder
from engine.training.teacher_accuracy import FILE
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.trajectory import read_record

AGAIN = "It is trained again, to the same bits, when needed."


def examine_buffer(
    folder: Path, rebuild: Callable[[], bool], undriven: Callable[[Examine, Lock], list[Finding]]
) -> list[Finding]:
    """Everything in `buffers/<name>`.

    Args:
        folder: the buffer's.
        rebuild: restores the manifest if it can, and returns whether it could.
        undriven: `examined`, with repairs only while no run of the workspace is driven.
    """
    buffer = TeacherBuffer(folder, {})
    what = f"teachers {folder.name}"
    findings = undriven(partial(_manifest, buffer, what, rebuild), partial(_unclaimed, buffer))
    findings += examined(partial(_accuracy, buffer, what))
    numbers = sorted({number for path in _files(folder) if (number := _number(path)) is not None})
    bad = []
    for number in numbers:
        try:
            bad += examined(partial(_trajectory, buffer, what, number), partial(_claim, buffer, number))
        except NewerFormatError as error:
            bad.append(Finding(False, what, str(error)))
    for lock in folder.glob(".trajectory-*.lock"):
        bad += examined(partial(lock_folder, what, lock))
    findings += bad
    if all(finding.good for finding in findings):
        whole = sum(buffer.epochs(number) >= 0 for number in numbers)
        findings.insert(0, Finding(True, what, f"{whole} trajectories, all whole"))
    return findings


def _files(folder: Path) -> list[Path]:
    return [path for path in paths_in(folder) if path.name.startswith("trajectory-")]


def _number(path: Path) -> int | None:
    """Which trajectory a file belongs to; None if it is not of one."""
    digits = path.name.removeprefix(".").removeprefix("trajectory-").partition(".")[0]
    return int(digits) if digits.isdecimal() else None


def _manifest(buffer: TeacherBuffer, what: str, rebuild: Callable[[], bool]) -> list[Finding]:
    path = buffer.folder / "manifest.json"
    try:
        if buffer.manifest() is not None:
            return []
        if not _files(buffer.folder):
            return []  # its process was killed before it wrote anything
        words, found = f"{path} is missing.", False
    except NewerFormatError as error:
        return [Finding(False, what, str(error))]
    except CorruptFileError as error:
        words, found = error.message, True

    def repair() -> str:
        moved = f"Moved to {set_aside(path)}. " if found else ""
        return moved + ("Rebuilt." if rebuild() else "The next `tesla run` rebuilds it.")

    return [Finding(False, what, f"{words} It is rebuilt from the settings of the runs.", repair)]


def _accuracy(buffer: TeacherBuffer, what: str) -> list[Finding]:
    path = buffer.folder / FILE
    try:
        read_json(path)
    except FileNotFoundError:
        return []
    except CorruptFileError as error:
        return [damaged(what, error.message, path, then="It is measured again.")]
    return []


def _trajectory(buffer: TeacherBuffer, what: str, number: int) -> list[Finding]:
    path = buffer.path(number)
    record, part, position = path.with_suffix(".json"), path.with_suffix(".part"), path.with_suffix(".position.json")
    making = path.with_suffix(".part.json")
    findings = []
    buffer.forget(number)  # another process may have written it since an earlier look
    if buffer.cut_off(number):
        findings.append(
            left(what, making, part, words=f"{part} belongs to a finished teacher; a killed process left it")
        )
    elif exists(making) or exists(part):
        findings += _making(what, part, making)
    if exists(position) or exists(position.with_suffix(".safetensors")):
        findings += _position(what, position)
    if exists(record) and not exists(path):
        findings.append(_lost(buffer, number, what, f"{path} is missing."))
    elif exists(path) and not exists(record):
        if buffer.folder.name.endswith(IMPORTING):
            words = f"{record} is not written yet: the import was interrupted here, and the same command resumes it."
            findings.append(Finding(True, what, words))
        elif not exists(making):
            findings.append(_lost(buffer, number, what, f"{record} is missing."))
    elif exists(path):
        words = buffer.damage(number)
        try:
            for epoch in range(0 if words else buffer.epochs(number) + 1):
                buffer.read(number, epoch)
        except CorruptFileError as error:
            words = error.message
        if words:
            findings.append(_lost(buffer, number, what, words))
    return findings


def _lost(buffer: TeacherBuffer, number: int, what: str, words: str) -> Finding:
    return Finding(False, what, f"{words} {AGAIN}", lambda: f"Moved to {buffer.set_aside(number)}.")


@contextmanager
def _claim(buffer: TeacherBuffer, number: int) -> Iterator[None]:
    claim = buffer.claim(number)
    for owner in claim.attempts():
        words = f"{owner.words} is training teacher {number}; nothing was changed."
    if not claim.held:
        raise BusyError(words, "Repair it later.")
    with claim:
        yield


@contextmanager
def _unclaimed(buffer: TeacherBuffer) -> Iterator[None]:
    """No process trains a teacher of the buffer, as `tesla teach` does without a run.

    Checked one by one: to hold the claims of hundreds takes more open files than a process may have.
    """
    for path in sorted(buffer.folder.glob(".trajectory-*.owner.json")):
        holder, number = read_holder(path), _number(path)
        if number is not None and holder is not None and holder.released is None:
            with _claim(buffer, number):
                pass
    yield


def _making(what: str, part: Path, making: Path) -> list[Finding]:
    if not exists(making):
        if is_folder(part):
            return [damaged(what, f"{part} is a folder.", part)]
        return [left(what, part, words=f"{part} was left by a killed process; its training starts over")]
    try:
        record = read_record(making)
        if not is_file(part):
            raise CorruptFileError(f"{part} is {'a folder' if exists(part) else 'missing'}.")
        with open_regular(part) as file:
            for epoch, checksum in enumerate(record.checksums):
                if hashlib.sha256(file.read(record.parameters * 4)).hexdigest() != checksum:
                    raise CorruptFileError(f"{part}: the snapshot of epoch {epoch} does not match its checksum.")
    except CorruptFileError as error:
        return [damaged(what, error.message, making, part, then="Its training starts over, to the same bits.")]
    return []


def _position(what: str, position: Path) -> list[Finding]:
    tensors = position.with_suffix(".safetensors")
    if not (exists(position) and exists(tensors)):
        words = "half of a mid-epoch save that was interrupted; that epoch starts over"
        return [left(what, position, tensors, words=words)]
    try:
        read_tensors(tensors)
    except CorruptFileError as error:
        return [damaged(what, error.message, position, tensors, then="That epoch starts over.")]
    return []
