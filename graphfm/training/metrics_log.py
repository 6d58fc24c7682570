"""The metrics of a run or fit, step by step: ``metrics.jsonl`` and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphfm.storage import replace_text


class MetricsLog:
    """Append-only log in ``metrics.jsonl``; TensorBoard gets the same numbers.

    Args:
        run: Run folder.
        start: Number of steps done before. Lines of later steps are dropped, so a resumed run has
            no step twice. Default: 0.
    """

    def __init__(self, run: Path, *, start: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / "metrics.jsonl"
        kept = [r for r in read_metrics(run) if r["step"] <= start]
        text = "".join(json.dumps(r) + "\n" for r in kept)
        replace_text(self.path, text)
        self.board = SummaryWriter(str(run / "tb"), purge_step=start + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append a line and send its numbers to TensorBoard.

        Args:
            kind: ``train``, ``eval`` or ``skip``.
            step: Number of steps done.
            values: Plain data that JSON can hold.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, float | int):
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Force all lines onto the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flush and close TensorBoard."""
        self.board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``, up to a line that a crash cut short."""
    path = run / "metrics.jsonl"
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
    return records
