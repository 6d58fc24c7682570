"""Collect or print log messages of the package."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _LineCollector(logging.Handler):
    """Handler that keeps the text of each message."""

    def __init__(self, level: int, max_lines: int | None) -> None:
        super().__init__(level)
        self.lines: list[str] = []
        self.max_lines = max_lines

    def emit(self, record: logging.LogRecord) -> None:
        if self.max_lines is None or len(self.lines) < self.max_lines:
            self.lines.append(record.getMessage())


@contextmanager
def collect_log_lines(
    level: int, *, max_lines: int | None = None, quiet: bool = False
) -> Iterator[list[str]]:
    """Collect the messages that the package logs inside the ``with`` block.

    Args:
        level: Lowest level to collect, such as ``logging.INFO``.
        max_lines: Number of messages to keep; later ones are dropped. Default: all.
        quiet: If true, the messages reach no other handler: nothing appears on the screen.

    Yields:
        The list that receives one text per message.
    """
    package = logging.getLogger("graphfm")
    collector = _LineCollector(level, max_lines)
    handlers, propagate = package.handlers, package.propagate
    package.handlers = [collector] if quiet else [*handlers, collector]
    package.propagate = propagate and not quiet
    try:
        yield collector.lines
    finally:
        package.handlers, package.propagate = handlers, propagate


class _Printer(logging.Handler):
    """Handler that prints each message."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


@contextmanager
def print_log_lines() -> Iterator[None]:
    """Print what the package logs inside the ``with`` block, unless a handler shows it already."""
    package = logging.getLogger("graphfm")
    if package.handlers:
        yield
        return
    printer, level, propagate = _Printer(), package.level, package.propagate
    package.addHandler(printer)
    package.setLevel(logging.INFO)
    package.propagate = False  # the root would show warnings twice
    try:
        yield
    finally:
        package.removeHandler(printer)
        package.setLevel(level)
        package.propagate = propagate
