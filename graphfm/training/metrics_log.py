"""What a run leaves behind: metrics, environment and receipt."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphfm.storage import replace_text


class MetricsLog:
    """``metrics.jsonl``, the source of truth, and the same numbers for TensorBoard.

    Args:
        run: The run folder.
        start: Steps already done; later lines of an interrupted run are dropped, so that a resumed
            run has no step twice.
    """

    def __init__(self, run: Path, *, start: int = 0):
        from torch.utils.tensorboard import SummaryWriter

        self.path = run / "metrics.jsonl"
        kept = [r for r in read_metrics(run) if r["step"] <= start]
        text = "".join(json.dumps(r) + "\n" for r in kept)
        replace_text(self.path, text)
        self.board = SummaryWriter(str(run / "tb"), purge_step=start + 1)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line, of kind ``train`` or ``eval``; numbers also go to TensorBoard."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, float | int):
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Force all lines so far onto the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flush TensorBoard."""
        self.board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a line cut short by a crash ends the list."""
    path = run / "metrics.jsonl"
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
    return records
