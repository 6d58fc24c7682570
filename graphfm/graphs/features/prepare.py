"""Preparation of one graph: positional encoding and feature transform, computed once and cached.

The cache key of positions is a hash of the edges, that of features a hash of the features. Labels
are in neither key, and nothing here depends on them.

Shapes:
    N  nodes   E  edges   F  raw feature columns   F'  transformed columns   P  encoding columns
    C  classes
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
from graphfm.graphs.features.transform import VERSION, FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import GraphSpec, TaskSpec
from graphfm.machine import one_thread_if_small
from graphfm.storage import cache_folder, from_cache, read_folder, write_folder

Parts = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and plain values of one cached folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedGraph:
    """A graph with the inputs of the model.

    Args:
        name: Id of the graph.
        rowptr: CSR row pointers, (N + 1,) int64.
        col: Neighbors, (E,) int64: both directions, no self-loops, ascending within a row.
        x: Transformed features, (N, F') float32; F' = 0 without features.
        pe: Positional and structural encoding, (N, P) float32.
        y: Labels, (N,) int64 or (N, C) int8, -1 = unlabelled; (N,) float for a regression, NaN =
            unlabelled; None without labels.
        train_mask: Training nodes, (N,) bool, or None.
        val_mask: Validation nodes, (N,) bool, or None.
        test_mask: Test nodes, (N,) bool, or None.
        task: Prediction task.
        class_names: Name of each class, (C,).
        node_ids: The user's id of each node, (N,); None = its position.
        transform: Transform that gave ``x``; it applies to new rows with the same columns.
        position_method: Method that computed ``pe``: ``eigsh``, ``diffusion``, ...
        id_hashes: Hash of the user's id of each node, (N,) int64; None = of ``node_ids``.
        sample_keys: Key of each node for random samples, (N,) int64; None = its position.
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
    id_hashes: Tensor | None = None
    sample_keys: Tensor | None = None

    @property
    def num_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.rowptr) - 1

    @property
    def num_features(self) -> int:
        """Number of transformed feature columns, F'."""
        return int(self.x.shape[1])

    @property
    def spec(self) -> GraphSpec:
        """Name, feature width and task, from which a model builds the layers of this graph."""
        return GraphSpec(name=self.name, num_features=self.num_features, task=self.task)


@one_thread_if_small(0)
def prepare(
    graph: Graph, *, transform: FeatureTransform | None = None, cache: bool = True
) -> PreparedGraph:
    """Encode positions and transform the features of one graph.

    Args:
        graph: The graph.
        transform: Transform to apply. Default: one that is fitted to the features of all nodes.
        cache: Read the result from the cache folder, or write it there.
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


def is_cached(graph: Graph) -> bool:
    """Return true if the cache holds the positions and the transformed features of a graph."""
    return all(_folder(key).is_dir() for key in (_structure_key(graph), _feature_key(graph)))


def _folder(key: str) -> Path:
    return cache_folder() / "prepared" / key


def _one_thread(make: Callable[[], Parts]) -> Parts:
    """Compute with one BLAS thread, so that results do not depend on the number of cores.

    On two busy cores local-152 takes 27 CPU seconds instead of 200: waiting threads spin.
    """
    import threadpoolctl  # comes with scikit-learn

    with threadpoolctl.threadpool_limits(1):
        return make()


def _apply(transform: FeatureTransform, graph: Graph) -> Tensor:
    if graph.x is None and transform.num_in == 0:
        return torch.zeros(graph.num_nodes, 0)
    return transform.apply(graph.x)


def _prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"transform.{name}": tensor for name, tensor in tensors.items()}


def _structure_key(graph: Graph) -> str:
    """Return the cache key of the positions: a hash of the edges."""
    recipe = {"positions": position.VERSION, "k": position.NUM_EIGENVECTORS}
    return _key(recipe | {"directed": graph.directed}, graph.rowptr, graph.col)


def _feature_key(graph: Graph) -> str:
    """Return the cache key of the transformed features: a hash of the raw features."""
    recipe = {"features": VERSION, "shape": [graph.num_nodes, graph.num_features]}
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
