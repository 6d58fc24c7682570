"""Graph -> PreparedGraph: encoded positions and transformed features, computed once and cached.

Positions are kept under the hash of the structure and features under that of the features, not
under that of the graph: whatever the labels are, nothing here can depend on them.

Shapes:
    N  nodes   E  edges   F  raw feature columns   F'  transformed ones   P  columns of the encoding
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs import features, position
from graphfm.graphs.cache import cache_folder, from_cache, read_folder, write_folder
from graphfm.graphs.catalog import Catalog
from graphfm.graphs.features import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import GraphSpec, TaskSpec

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


def prepare_many(
    ids: Sequence[str],
    catalog: Catalog,
    *,
    jobs: int = 1,
    broken: dict[str, str] | None = None,
) -> list[PreparedGraph]:
    """Load and prepare graphs of the catalog, in the order of ``ids``.

    Args:
        ids: Ids of the catalog.
        catalog: Where they are looked up.
        jobs: Processes that fill the cache; the graphs are then read from it.
        broken: Takes the ids that fail, and why; they are left out. None = the first is an error.

    Raises:
        GraphFMError: Of the graph that fails, with its id; GFM191 where the error is not ours.
    """
    from tqdm import tqdm

    failed: dict[str, str] = {} if broken is None else broken
    wanted = []
    for id in dict.fromkeys(ids):  # one after the other: a server gives one stream its full speed
        with _named(id, broken):
            catalog.fetch(id)
            wanted.append(id)
    prepared: dict[str, PreparedGraph] = {}
    # disable=None: no bar where stderr is not a terminal
    with tqdm(total=len(wanted), desc="preparing", unit="graph", disable=None) as bar:
        new = []
        for id in wanted:
            with _named(id, broken):
                graph = catalog.load(id) if jobs == 1 or catalog.is_cached(id) else None
                if graph is not None and (jobs == 1 or _is_cached(graph)):
                    prepared[id] = prepare(graph)
                    bar.update()
                else:
                    new.append(id)
        if new:
            # Largest first, so that no process ends long after the others.
            new.sort(key=lambda id: -(catalog.entry(id).num_edges or 0))
            context = multiprocessing.get_context("spawn")  # fork and torch's threads do not mix
            with ProcessPoolExecutor(
                jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                waiting = {pool.submit(_fill_cache, catalog, id): id for id in new}
                for done in as_completed(waiting):
                    with _named(waiting[done], broken):
                        done.result()
                    bar.update()
        prepared |= {id: prepare(catalog.load(id)) for id in new if id not in failed}
    return [prepared[id] for id in ids if id not in failed]


@contextmanager
def _named(id: str, broken: dict[str, str] | None) -> Iterator[None]:
    """Say which graph an error is of, or keep it for later and go on."""
    try:
        yield
    except MemoryError:
        raise  # of the machine, not of the graph
    except Exception as error:
        ours = error if isinstance(error, GraphFMError) else None
        if broken is not None:
            broken[id] = f"{ours.code} {ours.what}" if ours else f"{type(error).__name__}: {error}"
        elif ours is not None:
            where = ours.where if id in ours.where else f"{id}: {ours.where}".removesuffix(": ")
            raise type(ours)(
                ours.code, ours.what, where=where, why=ours.why, fix=ours.fix
            ) from error
        else:
            raise DataError(
                "GFM191",
                f"a graph cannot be read: {type(error).__name__}: {error}",
                where=id,
                fix="graphfm datasets verify, or leave it out: --skip-broken",
            ) from error


def _is_cached(graph: Graph) -> bool:
    return all(_folder(key).is_dir() for key in (_structure_key(graph), _feature_key(graph)))


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


def _fill_cache(catalog: Catalog, id: str) -> None:
    prepare(catalog.load(id))


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
