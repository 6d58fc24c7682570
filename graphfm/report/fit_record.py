"""Record of a fit: settings, history, scores and split, as its folder holds them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphfm.checkpoint.folder import Checkpoint
from graphfm.checkpoint.split_json import read_split
from graphfm.errors import CheckpointError, DataError


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """Settings, history and scores of one fit.

    Args:
        config: Content of ``config.json``: settings, history, environment.
        fit: Content of ``split.json``: arguments of the fit, scores, node ids of the split. Empty
            for a fit in Python.
        commands: Command lines to print, by heading.
        columns: Feature columns of the user's table, as the reader saved them. Default: unknown.
    """

    config: Mapping[str, Any]
    fit: Mapping[str, Any]
    commands: Mapping[str, str]
    columns: Sequence[Mapping[str, Any]] = ()

    @property
    def estimator(self) -> Mapping[str, Any]:
        """Settings and results of the estimator."""
        found: Mapping[str, Any] = self.config["estimator"]
        return found

    @property
    def graph_source(self) -> str:
        """File or catalog id that the fit read; the graph's name if neither was saved."""
        return str(self.fit.get("graph") or self.estimator["graph"])


def read_fit_record(checkpoint: Checkpoint) -> FitRecord:
    """Read the record of a fit, without the weights.

    Args:
        checkpoint: The fitted model.

    Raises:
        CheckpointError: GFM302 if split.json is damaged, GFM307 if the model is not fitted.
        DataError: GFM134 if the model predicts a number.
    """
    config, folder = checkpoint.config, checkpoint.path
    if "estimator" not in config:
        raise CheckpointError(
            "GFM307",
            f"{folder} is a pretrained model, not fitted to a graph yet",
            fix="graphfm finetune --from it first",
        )
    if config["estimator"].get("kind") == "regress":
        raise DataError(
            "GFM134",
            "the report describes models that predict classes; this model predicts a number",
            where=str(folder),
            fix="graphfm evaluate prints its scores, graphfm predict its intervals",
        )
    fit = read_split(checkpoint)
    return FitRecord(
        config=config,
        fit=fit,
        commands=fit_command(fit, folder),
        columns=saved_columns(config["estimator"], fit),
    )


def saved_columns(*records: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the feature columns of the table that a fit read; empty if none was saved."""
    for record in records:
        columns = (record.get("input") or {}).get("columns")
        if columns:
            return list(columns)
    return []


def fit_command(fit: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the command line of the fit, by heading: the saved one, or one built from settings."""
    if fit.get("command"):
        return {"The fit": str(fit["command"])}
    if not fit.get("graph"):
        return {"The fit": "GraphFMClassifier(...).fit(graph), in Python"}
    words = ["graphfm", "finetune"]
    for name in ("graph", "node_table", "target", "split", "from", "tune", "max_steps", "seed"):
        if fit.get(name) is not None:
            flag = "nodes" if name == "node_table" else name.replace("_", "-")
            words += [f"--{flag}", str(fit[name])]
    return {"The fit, from its settings": shlex.join([*words, "--out", str(folder)])}
