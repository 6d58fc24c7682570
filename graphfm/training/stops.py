"""Being told to stop: by a scheduler, by Ctrl-C, or by the clock."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
OUT_OF_TIME = "max-time"


class Interrupted(KeyboardInterrupt):
    """A signal came while there was nothing to save yet.

    Args:
        reason: Its name.
    """

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class Stops:
    """Who wants the run to end, once its step in hand is done and saved.

    A context: inside it signals are noted and nothing more, but for a second Ctrl-C, which stops at
    once. Before :meth:`step_by_step`, when nothing could be saved, every signal stops at once.

    Args:
        max_time: Seconds from now on; None = no limit.

    Example:
        >>> with Stops() as stops:
        ...     stops.step_by_step()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stops.reason
        'SIGTERM'
    """

    def __init__(self, max_time: float | None = None):
        self._end = None if max_time is None else time.monotonic() + max_time
        self._came: str | None = None
        self._stepping = False
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """The signal that came, ``max-time``, or None to go on."""
        if self._came is None and self._end is not None and time.monotonic() >= self._end:
            self._came = OUT_OF_TIME
        return self._came

    def step_by_step(self) -> None:
        """From now on somebody reads :attr:`reason` after every step."""
        self._stepping = True

    def __enter__(self) -> Stops:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGUSR1
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        again = name == "SIGINT" and self._came == name
        self._came = name
        if again or not self._stepping:
            raise Interrupted(name)


def exit_code(reason: str | None) -> int:
    """Of the command: 0 at the end, 130 for Ctrl-C, else 75: saved, run again to go on."""
    return 0 if reason is None else 130 if reason == "SIGINT" else 75
