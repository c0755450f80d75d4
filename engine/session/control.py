"""Requests to a running session: pause, save a checkpoint now, evaluate now.

Any thread may make one; the session grants it when its state is complete. To stop, close the generator.
"""

import threading


class Control:
    """Pending requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paused = False
        self._save = False
        self._evaluate = False
        self._accepting = False

    @property
    def paused(self) -> bool:
        """Whether the session should wait. A pending save or evaluation is granted first."""
        with self._lock:
            return self._paused and not (self._save or self._evaluate)

    @property
    def wants_pause(self) -> bool:
        """Whether a pause is requested, even if other requests are pending."""
        with self._lock:
            return self._paused

    def pause(self) -> None:
        """Pause at the next matching step, training batch or measured batch."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """Resume."""
        with self._lock:
            self._paused = False

    def save(self) -> bool:
        """Save a checkpoint when the current iteration is complete. False if nothing is being distilled."""
        with self._lock:
            self._save = self._accepting
            return self._accepting

    def evaluate(self) -> bool:
        """Save, and evaluate on the held-out part, when the current iteration is complete. False: as for `save`."""
        with self._lock:
            self._evaluate = self._accepting
            return self._accepting

    def accept(self, accepting: bool) -> None:
        """For the session: whether it can grant saving and evaluating; requests it no longer can grant are dropped."""
        with self._lock:
            self._accepting = accepting
            if not accepting:
                self._save = self._evaluate = False

    def requests(self) -> tuple[bool, bool]:
        """For the session: the pending requests `(save, evaluate)`."""
        with self._lock:
            return self._save, self._evaluate

    def acknowledge(self, save: bool, evaluate: bool) -> None:
        """For the session: these requests are done. A paused session waits only once all are."""
        with self._lock:
            self._save = self._save and not save
            self._evaluate = self._evaluate and not evaluate
