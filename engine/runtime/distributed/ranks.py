"""What the processes of one run exchange; for a single process, nothing.

Every rank computes its part of every batch, and some of the networks of an evaluation, and holds the whole state. The
first rank writes and decides; the others follow from collective to collective, so that it may pause or save without
asking anyone.
"""

from typing import Any

from torch import Tensor

from engine.runtime.distributed.environment import RankEnvironment


class Ranks:
    """A process alone, and what several are to each other (see `Group`). Alone, everything is the identity."""

    def __init__(self, place: RankEnvironment | None = None) -> None:
        self.place = place or RankEnvironment()

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self.place.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.place.size

    @property
    def writes(self) -> bool:
        """Whether this rank decides and writes."""
        return self.place.writes

    def part(self, count: int) -> slice:
        """This rank's rows of `count`: parts are contiguous, cover all, and differ by at most one row."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum_(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all ranks, to the same bits everywhere."""

    def whole(self, rows: Tensor, count: int, first: int | None = None) -> Tensor:
        """All `count` rows of a tensor of which every rank has some: those from `first` on, else its `part`."""
        return rows

    def lead_(self, tensor: Tensor) -> None:
        """Replace a tensor by the first rank's."""

    def led(self, value: Any) -> Any:
        """The first rank's value, JSON-able."""
        return value

    def gathered(self, value: Any) -> list[Any]:
        """The values of all ranks, JSON-able, in order."""
        return [value]

    def agreed(self, values: list[float]) -> list[float]:
        """The first rank's numbers, so that all decide alike.

        Raises:
            WorkerLostError: another rank has clearly different ones.
        """
        return values

    def check(self) -> None:
        """Check that all are still alive. Costs nothing; call it often.

        Raises:
            WorkerLostError: a rank failed or died.
            WorkersStoppedError: a rank was asked to stop.
        """


ALONE = Ranks()
"""The only process."""
