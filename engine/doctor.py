"""Examining the machine and the files: every finding is (is it good, what was looked at, words)."""

import shutil
from importlib.metadata import PackageNotFoundError, version

import torch

from engine.buffers import TeacherBuffer
from engine.data import cache_root, verify_cache
from engine.errors import CorruptFileError, NewerFormatError, TeslaError
from engine.storage import TEMP_MARK, read_json
from engine.workspace import Workspace, is_driven

Finding = tuple[bool, str, str]
PACKAGES = ("torch", "kornia", "numpy", "pillow", "safetensors", "pydantic", "datasets", "rich", "typer", "textual")
LOW_DISK = 1_000_000_000


def examine_machine() -> list[Finding]:
    """Packages, devices, disk, cached datasets."""
    findings: list[Finding] = []
    for name in PACKAGES:
        try:
            findings.append((True, name, version(name)))
        except PackageNotFoundError:
            findings.append((False, name, "not installed"))
    findings.append((True, "CPU threads", str(torch.get_num_threads())))
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            words = f"{torch.cuda.get_device_name(number)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
            findings.append((True, f"cuda:{number}", words))
    else:
        findings.append((True, "CUDA", "none; runs on the CPU"))
    root = cache_root()
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    findings.append((free > LOW_DISK, "cache", f"{root}, {free / 1e9:.1f} GB free"))
    entries = sorted(path for path in (root / "datasets").glob("*") if path.is_dir() and TEMP_MARK not in path.name)
    for entry in entries:
        try:
            problems = verify_cache(entry)
        except NewerFormatError as error:
            problems = [str(error)]
        findings.append((not problems, f"cached {entry.name}", "; ".join(problems) or "whole"))
    return findings


def examine_workspace(workspace: Workspace) -> list[Finding]:
    """Settings, every snapshot of every teacher, every checkpoint and evaluation."""
    findings: list[Finding] = []
    try:
        workspace.settings()
        findings.append((True, "tesla.toml", "valid"))
    except TeslaError as error:
        findings.append((False, "tesla.toml", str(error)))
    for folder in sorted((workspace.folder / "buffers").glob("*")):
        findings.append(_examine_buffer(TeacherBuffer(folder, {})))
    for run in workspace.runs():
        bad: list[str] = []
        for iteration in run.checkpoints():
            try:
                run.load_checkpoint(iteration)
            except (CorruptFileError, NewerFormatError) as error:
                bad.append(str(error))
        for path in sorted((run.folder / "evaluations").glob("*.json")):
            try:
                read_json(path)
            except (CorruptFileError, NewerFormatError) as error:
                bad.append(str(error))
        if not is_driven(run):
            left = [str(path) for path in run.folder.rglob(f"*{TEMP_MARK}*")]
            bad += [f"{path} was left by a killed process; it can be deleted." for path in left]
        words = (
            " ".join(bad) or f"{len(run.checkpoints())} checkpoints, {len(run.evaluations())} evaluations, all whole"
        )
        findings.append((not bad, f"run {run.name}", words))
    return findings


def _examine_buffer(buffer: TeacherBuffer) -> Finding:
    bad: list[str] = []
    count = 0
    for path in sorted(buffer.folder.glob("trajectory-*.safetensors")):
        number = path.stem.removeprefix("trajectory-")
        if not number.isdigit():
            continue
        count += 1
        try:
            epochs = buffer.epochs(int(number))
            if epochs < 0:
                raise CorruptFileError(
                    f"{path.with_suffix('.json')} is missing.", "Delete the trajectory; it is trained again."
                )
            for epoch in range(epochs + 1):
                buffer.read(int(number), epoch)
        except (CorruptFileError, NewerFormatError) as error:
            bad.append(str(error))
    return (not bad, f"teachers {buffer.folder.name}", " ".join(bad) or f"{count} trajectories, all whole")
