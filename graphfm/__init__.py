"""One Perceiver for graphs: pretrained on many, fitted to a new one in seconds.

The public names are imported when they are first used, so that ``import graphfm`` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.checkpoint import load_model as load_model
    from graphfm.config import Recipe as Recipe
    from graphfm.config import load_recipe as load_recipe
    from graphfm.errors import GraphFMError as GraphFMError
    from graphfm.estimator import GraphFMClassifier as GraphFMClassifier
    from graphfm.estimator import GraphFMRegressor as GraphFMRegressor
    from graphfm.finetune import finetune as finetune
    from graphfm.graphs.catalog import Catalog as Catalog
    from graphfm.graphs.convert import as_graph as as_graph
    from graphfm.graphs.graph import Graph as Graph
    from graphfm.graphs.spec import GraphSpec as GraphSpec
    from graphfm.model import GraphFM as GraphFM
    from graphfm.pretrain import pretrain as pretrain

__version__ = "0.1.0"

_HOMES = {
    "Catalog": "graphs.catalog",
    "Graph": "graphs.graph",
    "GraphFM": "model",
    "GraphFMClassifier": "estimator",
    "GraphFMError": "errors",
    "GraphFMRegressor": "estimator",
    "GraphSpec": "graphs.spec",
    "Recipe": "config",
    "as_graph": "graphs.convert",
    "finetune": "finetune",
    "load_model": "checkpoint",
    "load_recipe": "config",
    "pretrain": "pretrain",
}

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphfm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"graphfm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the file graphfm/pretrain.py would put the module in the place of the function
        # of that name, so that graphfm.pretrain meant one or the other by order of imports.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
