"""The place of this process among several, as torchrun sets it in the environment. Knows no PyTorch."""

import os
from dataclasses import dataclass

from engine.errors import UsageError


@dataclass(frozen=True)
class RankEnvironment:
    """One process of a job."""

    rank: int = 0
    size: int = 1
    """Processes of the job, on all hosts."""
    local_rank: int = 0
    local_size: int = 1
    """Processes of the job on this host."""

    @property
    def writes(self) -> bool:
        """Whether this is the one process that writes the run's files and reports to the user."""
        return self.rank == 0


def this_place() -> RankEnvironment:
    """The place torchrun gave this process; alone, if it was started in any other way.

    Raises:
        UsageError: a launcher that sets only some of torchrun's variables.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return RankEnvironment()
    try:
        return RankEnvironment(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        )
    except KeyError as error:
        raise UsageError(
            f"RANK and WORLD_SIZE are set, but {error.args[0]} is not: this launcher is not torchrun.",
            "Start with torchrun or with `tesla run --workers N`; for one process unset RANK.",
        ) from error
