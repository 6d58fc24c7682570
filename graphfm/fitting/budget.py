"""The time that a fit may take: ``--max-time``."""

from __future__ import annotations

import math
import time


class Budget:
    """Seconds from now on; None = as many as it takes.

    Args:
        seconds: In all.
    """

    def __init__(self, seconds: float | None):
        self.began = time.monotonic()
        self.seconds = math.inf if seconds is None else seconds
        self.kept = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def keep(self, seconds: float) -> None:
        """Set so many aside, for what has to be done at the end."""
        self.kept = seconds

    def would_exceed(self, seconds: float) -> bool:
        """True if this many more seconds would exceed the budget."""
        return self.spent + seconds + self.kept > self.seconds
