"""Graph -> PreparedGraph: encoded positions and transformed features, computed once and cached.

Positions are kept under the hash of the structure and features under that of the features, not
under that of the graph: whatever the labels are, nothing here can depend on them.

Shapes:
    N  nodes   E  edges   F  raw feature columns   F'  transformed ones   P  columns of the encoding
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.graphs.features import position
from graphfm.graphs.features import transform as features
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import GraphSpec, TaskSpec
from graphfm.storage import cache_folder, from_cache, read_folder, write_folder

Parts = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and plain values of one cached folder


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedGraph:
    """A graph as the model reads it.

    Args:
        name: Its id.
        rowptr: (N + 1,) int64.
        col: (E,) int64, neighbors: both directions, no self-loops, ascending in a row.
        x: (N, F') float32, transformed features; F' = 0 without features.
        pe: (N, P) float32, positional and structural encoding.
        y: (N,) int64 or (N, C) int8, -1 = unlabelled; None without labels.
        train_mask: (N,) bool, or None.
        val_mask: (N,) bool, or None.
        test_mask: (N,) bool, or None.
        task: What there is to predict.
        class_names: Name of each class, (C,).
        node_ids: The user's name of each node, (N,); None = its position.
        transform: What made ``x``; applies to new rows of the same columns.
        position_method: How ``pe`` was computed: ``eigsh``, ``diffusion``, ...
    """

    name: str
    rowptr: Tensor
    col: Tensor
    x: Tensor
    pe: Tensor
    y: Tensor | None
    train_mask: Tensor | None
    val_mask: Tensor | None
    test_mask: Tensor | None
    task: TaskSpec
    class_names: tuple[str, ...]
    node_ids: tuple[str, ...] | None
    transform: FeatureTransform
    position_method: str = ""

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.rowptr) - 1

    @property
    def num_features(self) -> int:
        """F', columns of the transformed features."""
        return int(self.x.shape[1])

    @property
    def spec(self) -> GraphSpec:
        """What a model must know of it."""
        return GraphSpec(name=self.name, num_features=self.num_features, task=self.task)


def prepare(
    graph: Graph, *, transform: FeatureTransform | None = None, cache: bool = True
) -> PreparedGraph:
    """Encode positions and transform features.

    Args:
        graph: Any graph.
        transform: None = fit one on this graph's features (all nodes, no labels). Given = apply it.
        cache: Read and write the cache folder.
    """

    def cached(key: str, make: Callable[[], Parts]) -> Parts:
        if not cache:
            return _one_thread(make)
        return from_cache(
            _folder(key),
            read=lambda folder: read_folder(folder, "prepared"),
            make=lambda: _one_thread(make),
            write=lambda parts, folder: write_folder(folder, "prepared", *parts),
            name=graph.name,
        )

    def encode() -> Parts:
        rowptr, col = graph.neighbors
        made = position.encode_positions(rowptr, col)
        config = {"method": made.method, "seconds": made.seconds}
        return {"rowptr": rowptr, "col": col, "pe": made.pe}, config

    def fit() -> Parts:
        fitted = FeatureTransform.fit(graph.x)
        return {"x": _apply(fitted, graph), **_prefixed(fitted.tensors())}, fitted.config()

    structure, how = cached(_structure_key(graph), encode)
    if transform is None:
        tensors, config = cached(_feature_key(graph), fit)
        x = tensors.pop("x")
        parts = {name.removeprefix("transform."): tensor for name, tensor in tensors.items()}
        transform = FeatureTransform.from_parts(config, parts)
    else:
        x = _apply(transform, graph)
    return PreparedGraph(
        name=graph.name,
        **structure,
        x=x,
        y=graph.y,
        train_mask=graph.train_mask,
        val_mask=graph.val_mask,
        test_mask=graph.test_mask,
        task=graph.task,
        class_names=graph.class_names,
        node_ids=graph.node_ids,
        transform=transform,
        position_method=str(how["method"]),
    )


def _folder(key: str) -> Path:
    return cache_folder() / "prepared" / key


def _one_thread(make: Callable[[], Parts]) -> Parts:
    """One BLAS thread: the same numbers whatever the machine.

    On two busy cores local-152 takes 27 CPU seconds instead of 200, since threads that wait for
    each other spin.
    """
    import threadpoolctl  # type: ignore[import-untyped]  # comes with scikit-learn

    with threadpoolctl.threadpool_limits(1):
        return make()


def _apply(transform: FeatureTransform, graph: Graph) -> Tensor:
    if graph.x is None and transform.num_in == 0:
        return torch.zeros(graph.num_nodes, 0)
    return transform.apply(graph.x)


def _prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"transform.{name}": tensor for name, tensor in tensors.items()}


def _structure_key(graph: Graph) -> str:
    recipe = {"positions": position.VERSION, "k": position.NUM_EIGENVECTORS}
    return _key(recipe | {"directed": graph.directed}, graph.rowptr, graph.col)


def _feature_key(graph: Graph) -> str:
    recipe = {"features": features.VERSION, "shape": [graph.num_nodes, graph.num_features]}
    if isinstance(graph.x, sparse.csr_array):
        return _key(recipe | {"csr": True}, graph.x.indptr, graph.x.indices, graph.x.data)
    return _key(recipe, *([] if graph.x is None else [graph.x]))


def _key(recipe: dict[str, Any], *arrays: Any) -> str:
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for values in arrays:
        array = np.ascontiguousarray(np.asarray(values))
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
