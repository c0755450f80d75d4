"""How often the screens update beside an engine that wants every core."""

import time

SHARE = 0.02
"""Share of the time that looking may take from one core while this process drives the run."""
SLOWEST = 3.0
"""Maximum seconds between two updates."""
STOPPING = 0.1
"""Seconds between two updates while the engine stops."""


class Pace:
    """Chooses the time to the next update from what the last ones cost this thread.

    Args:
        shortest: seconds between two updates that cost nothing.
    """

    def __init__(self, shortest: float) -> None:
        self._shortest = self._interval = shortest
        self._mark = (time.monotonic(), time.thread_time())

    def next_interval(self, *, driving: bool, stopping: bool) -> float:
        """Seconds to the next update: longer while drawing costs the engine more than `SHARE` of a core."""
        now, spent = time.monotonic(), time.thread_time()
        wall, cost = now - self._mark[0], spent - self._mark[1]
        self._mark = (now, spent)
        if stopping:
            return STOPPING
        if not driving or wall <= 0:
            self._interval = self._shortest
        elif cost / wall > SHARE:
            self._interval = min(self._interval * 1.5, SLOWEST)
        elif cost / wall < SHARE / 2:
            self._interval = max(self._interval / 1.2, self._shortest)
        return self._interval
