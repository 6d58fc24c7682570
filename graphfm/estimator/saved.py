"""A fitted estimator <-> its checkpoint folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.checkpoint import (
    find_checkpoint,
    load_model,
    read_tensors,
    save_checkpoint,
    verify_checkpoint,
)
from graphfm.errors import CheckpointError
from graphfm.estimator.inputs import Reading
from graphfm.graphs.features import FeatureTransform
from graphfm.training.calibration import Calibration
from graphfm.training.ensemble import parted, with_members
from graphfm.training.experts import Experts
from graphfm.training.loop import pick_device
from graphfm.training.probe import TARGET
from graphfm.training.receipt import environment

if TYPE_CHECKING:
    from graphfm.estimator.base import GraphEstimator
    from graphfm.estimator.classifier import GraphFMClassifier
    from graphfm.estimator.regressor import GraphFMRegressor

PLAIN: tuple[
    tuple[str, Any], ...
] = (  # attributes that are plain data, with what they are in a folder of an earlier version
    ("best_step", 0),
    ("corpus_novelty", {}),
    ("cut_short", []),
    ("far_states", None),
    ("fit_seconds", 0.0),
    ("history", []),
    ("members", 1),
    ("tried", []),
    ("tune", ""),
    ("tune_reason", ""),
    ("val_score", None),
    ("weights", ""),
)


def save_fitted(estimator: GraphEstimator, folder: Path, own: dict[str, Any]) -> None:
    """Write a fitted estimator.

    Args:
        estimator: Fitted.
        folder: Where; replaced if it is there.
        own: What only its kind keeps; plain data.

    Raises:
        OutputError: GFM801 if it cannot be written.
    """
    params = {k: v for k, v in estimator.get_params().items() if k != "checkpoint"}
    given = estimator.checkpoint
    params["checkpoint"] = str(given) if given is not None else None
    first, members = parted(estimator.model_)
    reading = estimator.reading_
    meta = {
        "name": f"fitted on {estimator.graph_name_}",
        "estimator": {
            "kind": first.specs[TARGET].task.kind,
            "params": params,
            "graph": estimator.graph_name_,
            "transform": estimator.transform_.config(),
            "calibration": estimator.calibration_.config(),
            "input": None if reading is None else reading.to_json(),
            "experts": None if estimator.experts_ is None else estimator.experts_.config(),
            "num_columns": getattr(estimator, "n_features_in_", None),
            **{name: getattr(estimator, f"{name}_") for name, _ in PLAIN},
            **own,
        },
        "not_judged_on": estimator.not_judged_on_,
        "environment": environment(estimator.seed),
    }
    extra = {
        "transform": estimator.transform_.tensors(),
        "calibration": estimator.calibration_.tensors(),
        **members,
    }
    if estimator.scaling_ is not None:
        extra["scaling"] = {k: v.cpu() for k, v in estimator.scaling_.items()}
    if estimator.experts_ is not None:
        extra["experts"] = estimator.experts_.tensors()
    if estimator.rows_ is not None:
        extra["rows"] = {"x": estimator.rows_}
    save_checkpoint(folder, first, meta=meta, extra=extra)


def open_folder(folder: Path, kind: Sequence[str] = ()) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of a fitted model, verified, and its ``config.json``.

    Args:
        folder: Of the fitted model.
        kind: Tasks that it may have been fitted to; empty = any.

    Raises:
        CheckpointError: GFM301 to GFM306 for a folder that is none, GFM307 for a pretrained model
            or one of another task.
    """
    path = find_checkpoint(folder)
    config = verify_checkpoint(path)
    if "estimator" not in config:
        raise CheckpointError(
            "GFM307",
            f"{folder} is a pretrained model, not fitted to a graph yet",
            fix="graphfm finetune --from it first",
        )
    # A folder of an earlier version does not say: there was no other.
    own = config["estimator"].get("kind", "classify")
    if kind and own not in kind:
        name = "GraphFMRegressor" if own == "regress" else "GraphFMClassifier"
        raise CheckpointError(
            "GFM307", f"{folder} was fitted by {name}", fix=f"{name}.load(folder)"
        )
    return path, config


def fill(estimator: GraphEstimator, path: Path, config: dict[str, Any]) -> None:
    """Give an estimator what :func:`save_fitted` kept of it."""
    saved = config["estimator"]
    tensors = read_tensors(path / "transform.safetensors")
    estimator.transform_ = FeatureTransform.from_parts(saved["transform"], tensors)
    model = with_members(load_model(path), path)
    estimator.model_ = model.to(pick_device(estimator.device)).eval()
    estimator.graph_, estimator.graph_name_ = None, saved["graph"]
    for name, default in PLAIN:
        setattr(estimator, f"{name}_", saved.get(name, default))
    estimator.not_judged_on_ = config.get("not_judged_on", [])
    estimator.calibration_ = Calibration()  # of a fit before there was one
    if "calibration" in saved:
        tensors = read_tensors(path / "calibration.safetensors")
        estimator.calibration_ = Calibration.from_parts(saved["calibration"], tensors)
    reading = saved.get("input")
    estimator.reading_ = None if reading is None else Reading.from_json(reading)
    estimator.scaling_ = estimator.rows_ = estimator.experts_ = None
    if saved.get("experts") is not None:
        tensors = read_tensors(path / "experts.safetensors")
        estimator.experts_ = Experts.from_parts(saved["experts"], tensors)
    if (path / "scaling.safetensors").is_file():
        estimator.scaling_ = read_tensors(path / "scaling.safetensors")
    if (path / "rows.safetensors").is_file():
        estimator.rows_ = read_tensors(path / "rows.safetensors")["x"]
    if saved.get("num_columns") is not None:
        estimator.n_features_in_ = saved["num_columns"]


def load_fitted(folder: str | Path) -> GraphFMClassifier | GraphFMRegressor:
    """A fitted model from its folder, of whichever kind it is.

    Raises:
        CheckpointError: GFM301 to GFM307.
    """
    from graphfm.estimator.classifier import GraphFMClassifier
    from graphfm.estimator.regressor import GraphFMRegressor

    _, config = open_folder(Path(folder))
    if config["estimator"].get("kind") == "regress":
        return GraphFMRegressor.load(folder)
    return GraphFMClassifier.load(folder)
