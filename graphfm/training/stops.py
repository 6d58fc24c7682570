"""Requests to stop a run: a scheduler's signal, Ctrl-C, or a time limit."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
OUT_OF_TIME = "max-time"


class Interrupted(KeyboardInterrupt):
    """A signal arrived before there was anything to save.

    Args:
        reason: Name of the signal.
    """

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class StopRequests:
    """Context that collects requests to stop; the training loop reads :attr:`reason`.

    Before :meth:`defer_signals` nothing can be saved, so every signal stops at once. Afterwards
    signals are only noted, except for a second Ctrl-C, which stops at once.

    Args:
        max_time: Time limit in seconds, from now on. Default: none.

    Example:
        >>> with StopRequests() as stops:
        ...     stops.defer_signals()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stops.reason
        'SIGTERM'
    """

    def __init__(self, max_time: float | None = None):
        self._end = None if max_time is None else time.monotonic() + max_time
        self._request: str | None = None
        self._deferred = False
        self._handlers: dict[int, Any] = {}  # those to restore, by signal

    @property
    def reason(self) -> str | None:
        """Name of the signal that arrived, ``max-time``, or None."""
        if self._request is None and self._end is not None and time.monotonic() >= self._end:
            self._request = OUT_OF_TIME
        return self._request

    def defer_signals(self) -> None:
        """Only note signals from now on: the caller reads :attr:`reason` after every step."""
        self._deferred = True

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGUSR1
                if number is not None:
                    self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        name = signal.Signals(number).name
        again = name == "SIGINT" and self._request == name
        self._request = name
        if again or not self._deferred:
            raise Interrupted(name)


def exit_code(reason: str | None) -> int:
    """Return the exit code of a command that stopped.

    Args:
        reason: None at the end of the run: 0. ``SIGINT``: 130. Any other: 75, which means that the
            run was saved and the same command resumes it.
    """
    return 0 if reason is None else 130 if reason == "SIGINT" else 75
