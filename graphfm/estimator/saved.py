"""Save a fitted estimator to a checkpoint folder, and read it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.checkpoint.checks import in_range, malformed
from graphfm.checkpoint.folder import Checkpoint, save_checkpoint
from graphfm.checkpoint.split_json import SPLIT_JSON, read_split, split_text
from graphfm.errors import CheckpointError
from graphfm.experts.pool import Experts
from graphfm.fitting.calibration import Calibration
from graphfm.fitting.ensemble import load_members, split_members
from graphfm.fitting.fit_order import FitOrder
from graphfm.fitting.fitted import FitSummary
from graphfm.fitting.probe import TARGET
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.readers.options import Reading
from graphfm.machine import environment, pick_device
from graphfm.model.graphfm import GraphFM

if TYPE_CHECKING:
    from graphfm.estimator.base import GraphEstimator


def config_of(estimator: GraphEstimator) -> dict[str, Any]:
    """Return what ``config.json`` keeps of a fitted estimator, without the shape of the model."""
    params = {k: v for k, v in estimator.get_params().items() if k != "checkpoint"}
    given = estimator.checkpoint
    params["checkpoint"] = str(given) if isinstance(given, str | Path) else None
    reading = estimator.reading_
    return {
        "name": f"fitted on {estimator.graph_name_}",
        "estimator": {
            "kind": estimator.model_.specs[TARGET].task.kind,
            "params": params,
            "graph": estimator.graph_name_,
            "transform": estimator.transform_.config(),
            "calibration": estimator.calibration_.config(),
            "input": None if reading is None else reading.to_json(),
            "experts": None if estimator.experts_ is None else estimator.experts_.config(),
            "num_columns": getattr(estimator, "n_features_in_", None),
            **estimator.summary_.to_json(),
            **estimator.own_config(),
        },
        "not_judged_on": estimator.not_judged_on_,
        "environment": environment(estimator.random_state),
    }


def save_fitted(
    estimator: GraphEstimator, folder: Path, *, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a fitted estimator to a checkpoint folder.

    Args:
        estimator: Fitted estimator.
        folder: Folder to write. A model that it holds is replaced; other files stay.
        facts: Facts about the fit that ``split.json`` keeps beside the split. Default: none.

    Raises:
        OutputError: GFM801 if it cannot be written, GFM402 if the folder holds files that are not
            a model.
    """
    first, members = split_members(estimator.model_)
    extra = {
        "transform": estimator.transform_.tensors(),
        "calibration": estimator.calibration_.tensors(),
        **members,
    }
    if estimator.scaling_ is not None:
        extra["scaling"] = {k: v.cpu() for k, v in estimator.scaling_.items()}
    if estimator.experts_ is not None:
        extra["experts"] = estimator.experts_.tensors()
    if estimator.order_ is not None:
        extra["order"] = estimator.order_.tensors()
    if estimator.rows_ is not None:
        extra["rows"] = {"x": estimator.rows_}
    files = {}
    if facts or estimator.split_:
        files[SPLIT_JSON] = split_text(estimator.split_, facts or {})
    save_checkpoint(folder, first, meta=config_of(estimator), extra=extra, files=files)


def open_folder(folder: str | Path | Checkpoint, kind: Sequence[str] = ()) -> Checkpoint:
    """Open and verify the checkpoint of a fitted model.

    Args:
        folder: Folder of the fitted model.
        kind: Tasks that it may have been fitted to. Default: any.

    Raises:
        CheckpointError: GFM301 to GFM306 if the folder holds no checkpoint, GFM307 for a pretrained
            model or one of another task.
    """
    checkpoint = folder if isinstance(folder, Checkpoint) else Checkpoint.open(folder)
    folder = checkpoint.path
    if not checkpoint.is_fitted:
        raise CheckpointError(
            "GFM307",
            f"{folder} is a pretrained model, not fitted to a graph yet",
            fix="graphfm finetune --from it first",
        )
    # Folders of an earlier version lack the key: they are all classifiers.
    own = checkpoint.config["estimator"].get("kind", "classify")
    if kind and own not in kind:
        name = "GraphFMRegressor" if own == "regress" else "GraphFMClassifier"
        raise CheckpointError(
            "GFM307", f"{folder} was fitted by {name}", fix=f"{name}.load(folder)"
        )
    return checkpoint


def saved_params(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a saved estimator; version 0.1.0 called ``random_state`` ``seed``.

    Args:
        saved: What ``config.json`` keeps of the estimator.
    """
    return {"random_state" if k == "seed" else k: v for k, v in saved["params"].items()}


def saved_reading(saved: Mapping[str, Any], split: Mapping[str, Any]) -> Reading | None:
    """Return how the graph of a fit was read; None if it came from no file.

    Args:
        saved: What ``config.json`` keeps of the estimator.
        split: Content of ``split.json``.
    """
    if saved.get("input") is not None:
        return Reading.from_json(saved["input"])
    # In version 0.1.0 the command line gave the estimator a graph, and kept its reading here.
    if split.get("input") is None:
        return None
    return Reading.from_json({"target": split.get("target"), **split["input"]})


def fill(estimator: GraphEstimator, checkpoint: Checkpoint) -> None:
    """Set the fitted attributes of an estimator from its checkpoint.

    Raises:
        CheckpointError: GFM302 for a value that cannot be, with its file and field.
    """
    with malformed(checkpoint.path / "config.json", "estimator"):
        _fill(estimator, checkpoint, checkpoint.config["estimator"])


def _fill(estimator: GraphEstimator, checkpoint: Checkpoint, saved: dict[str, Any]) -> None:
    for name in ("num_in", "num_out"):
        in_range(f"estimator.transform.{name}", saved["transform"][name], 0, whole=True)
    tensors = _needed(checkpoint, "transform")
    estimator.transform_ = FeatureTransform.from_parts(saved["transform"], tensors)
    model = load_members(GraphFM.from_checkpoint(checkpoint), checkpoint)
    estimator.model_ = model.to(pick_device(estimator.device)).eval()
    estimator.graph_, estimator.graph_name_ = None, saved["graph"]
    estimator.summary_ = FitSummary.from_json(saved)
    estimator.not_judged_on_ = checkpoint.config.get("not_judged_on", [])
    estimator.calibration_ = Calibration()  # folders of an earlier version may lack it
    if "calibration" in saved:
        tensors = _needed(checkpoint, "calibration")
        estimator.calibration_ = Calibration.from_parts(saved["calibration"], tensors)
    split = read_split(checkpoint)
    estimator.reading_ = saved_reading(saved, split)
    estimator.split_ = split.get("nodes", {})
    estimator.scaling_ = checkpoint.tensors("scaling")
    estimator.rows_ = (checkpoint.tensors("rows") or {}).get("x")
    order = checkpoint.tensors("order")  # folders of version 0.1.0 keep the user's order
    estimator.order_ = None if order is None else FitOrder.from_parts(order)
    estimator.experts_ = None
    if saved.get("experts") is not None:
        tensors = _needed(checkpoint, "experts")
        estimator.experts_ = Experts.from_parts(saved["experts"], tensors)
    if saved.get("num_columns") is not None:
        estimator.n_features_in_ = saved["num_columns"]


def _needed(checkpoint: Checkpoint, stem: str) -> dict[str, Any]:
    """Read tensors that every fitted model has; GFM302 if they are missing."""
    tensors = checkpoint.tensors(stem)
    if tensors is None:
        raise CheckpointError(
            "GFM302", f"{stem}.safetensors is missing", where=str(checkpoint.path)
        )
    return tensors
