"""Load a fitted model of either kind from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphfm.estimator.saved import open_folder

if TYPE_CHECKING:
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.estimator.classifier import GraphFMClassifier
    from graphfm.estimator.regressor import GraphFMRegressor


def load_fitted(folder: str | Path | Checkpoint) -> GraphFMClassifier | GraphFMRegressor:
    """Load a fitted model of either kind.

    Args:
        folder: Folder of the fitted model, or its open checkpoint, which is not verified again.

    Raises:
        CheckpointError: GFM301 to GFM307 if the folder holds no fitted model.
    """
    from graphfm.estimator.classifier import GraphFMClassifier
    from graphfm.estimator.regressor import GraphFMRegressor

    checkpoint = open_folder(folder)
    if checkpoint.config["estimator"].get("kind") == "regress":
        return GraphFMRegressor.load(checkpoint)
    return GraphFMClassifier.load(checkpoint)
