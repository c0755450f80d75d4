"""Wishes of a person to a running session: pause, save a checkpoint now, evaluate now.

Any thread may make one; the session grants it where its state is whole. Stopping needs no wish: close the generator.
"""

import threading


class Control:
    """Wishes that are not granted yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paused = False
        self._save = False
        self._evaluate = False
        self._accepting = False

    @property
    def paused(self) -> bool:
        """Whether the session is to stand still. A pending save or evaluation is granted first."""
        with self._lock:
            return self._paused and not (self._save or self._evaluate)

    @property
    def wants_pause(self) -> bool:
        """Whether a pause is asked for, pending wishes or not."""
        with self._lock:
            return self._paused

    def pause(self) -> None:
        """Stand still at the next matching step, training batch or measured batch."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """Resume."""
        with self._lock:
            self._paused = False

    def save(self) -> bool:
        """Save a checkpoint when the current iteration is complete. False: nothing is being distilled, so no."""
        with self._lock:
            self._save = self._accepting
            return self._accepting

    def evaluate(self) -> bool:
        """Save, and evaluate on the held-out part, when the current iteration is complete. False: as for `save`."""
        with self._lock:
            self._evaluate = self._accepting
            return self._accepting

    def accept(self, accepting: bool) -> None:
        """For the session: whether it can grant saving and evaluating; wishes it no longer can are dropped."""
        with self._lock:
            self._accepting = accepting
            if not accepting:
                self._save = self._evaluate = False

    def requests(self) -> tuple[bool, bool]:
        """For the session: the pending wishes `(save, evaluate)`."""
        with self._lock:
            return self._save, self._evaluate

    def acknowledge(self) -> None:
        """For the session: pending wishes are done. Until then a paused session does not stand still."""
        with self._lock:
            self._save = self._evaluate = False
