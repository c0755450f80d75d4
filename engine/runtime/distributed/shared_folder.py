"""Whether the machines of a job see one folder, as a run that several of them share needs."""

import socket
from contextlib import suppress
from pathlib import Path

from engine.errors import UsageError
from engine.runtime.distributed.ranks import Ranks
from engine.storage.temp_files import temp_name


def check_same_folder(ranks: Ranks, folder: Path) -> None:
    """Check that all ranks see in `folder` what the first one writes there. All ranks call this.

    Ranks of one machine do, and write nothing. Two copies of a workspace on two machines have the same settings and
    data: only a new file tells them apart.

    Raises:
        UsageError: names a machine that has another folder.
    """
    if ranks.place.local_size == ranks.size:
        return
    mark = folder / temp_name("shared")
    if ranks.writes:
        mark.touch()  # before its name is sent
    name = ranks.led(mark.name)
    try:
        without = [host for host in ranks.gathered("" if (folder / name).exists() else socket.gethostname()) if host]
    finally:
        if ranks.writes:
            with suppress(OSError):
                mark.unlink()
    if without:
        raise UsageError(
            f"{folder} on {without[0]} is not the folder that worker 0 writes to.",
            "Put the workspace on a file system that all machines share, and start all workers with its path.",
        )
