"""Time limit of a fit: ``--max-time``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Budget:
    """A time limit that runs from its construction on.

    Args:
        seconds: Time limit in seconds. None = no limit.
        clock: Function that returns the time in seconds. Default: ``time.monotonic``.
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.began = clock()
        self.seconds = math.inf if seconds is None else seconds
        self.reserved = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    def reserve(self, seconds: float) -> None:
        """Reserve time for what must be done at the end; replaces an earlier reservation."""
        self.reserved = seconds

    def would_exceed(self, seconds: float) -> bool:
        """True if this many more seconds would exceed the budget."""
        return self.spent + seconds + self.reserved > self.seconds
