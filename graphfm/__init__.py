"""One Perceiver for graphs: pretrained on many graphs, fitted to a new graph in seconds.

The public names are imported when they are first used, so ``import graphfm`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.config.load import load_recipe as load_recipe
    from graphfm.config.recipe import Recipe as Recipe
    from graphfm.errors import GraphFMError as GraphFMError
    from graphfm.estimator import GraphFMClassifier as GraphFMClassifier
    from graphfm.estimator import GraphFMRegressor as GraphFMRegressor
    from graphfm.estimator import cross_val_predict_nodes as cross_val_predict_nodes
    from graphfm.fitting.finetune import finetune as finetune
    from graphfm.graphs.catalog.catalog import Catalog as Catalog
    from graphfm.graphs.graph import Graph as Graph
    from graphfm.graphs.inputs import as_graph as as_graph
    from graphfm.graphs.readers.options import ReadOptions as ReadOptions
    from graphfm.graphs.spec import GraphSpec as GraphSpec
    from graphfm.model.graphfm import GraphFM as GraphFM
    from graphfm.training.pretrain import pretrain as pretrain
    from graphfm.version import __version__ as __version__


_HOMES = {
    "Catalog": "graphs.catalog.catalog",
    "Graph": "graphs.graph",
    "GraphFM": "model.graphfm",
    "GraphFMClassifier": "estimator",
    "GraphFMError": "errors",
    "GraphFMRegressor": "estimator",
    "GraphSpec": "graphs.spec",
    "ReadOptions": "graphs.readers.options",
    "Recipe": "config.recipe",
    "as_graph": "graphs.inputs",
    "cross_val_predict_nodes": "estimator",
    "finetune": "fitting.finetune",
    "load_recipe": "config.load",
    "pretrain": "training.pretrain",
    "__version__": "version",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphfm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"graphfm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
