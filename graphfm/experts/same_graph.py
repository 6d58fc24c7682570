"""Recognise the graph of a fit, so that its training labels may serve as context again.

Nodes are matched by name, not by place: nodes may have been added. Labels are used only where the
edges are the same or nearly all matched nodes look as they did.

Shapes:
    N  nodes   n  nodes with known labels
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.hashing import splitmix64
from graphfm.graphs.splits import stable_hash

log = logging.getLogger(__name__)

MIN_ALIKE = 0.9  # share of matched nodes that must look as they did


def describe_nodes(graph: PreparedGraph, nodes: Tensor) -> dict[str, Tensor]:
    """Return what nodes are recognised by: ``id``, ``place``, ``degree`` and ``x``, (n,) each.

    ``id`` is a hash of the node's name, ``place`` its position in the canonical order, ``x`` the
    sum of its features.
    """
    ids = torch.from_numpy(_name_hashes(graph))[nodes]
    return {"id": ids, "place": nodes, **_looks(graph, nodes)}


def edge_hash(graph: PreparedGraph) -> Tensor:
    """Return a hash of all edges by position; in canonical order a second one by id: (1 or 2,)."""
    digest = hashlib.blake2b(graph.rowptr.numpy().tobytes(), digest_size=8)
    digest.update(graph.col.numpy().tobytes())
    hashes = np.frombuffer(digest.digest(), dtype=np.int64).copy()
    if graph.id_hashes is not None:
        ids = splitmix64(graph.id_hashes.numpy())
        ends = np.repeat(ids, graph.rowptr.diff().numpy()) + splitmix64(ids)[graph.col.numpy()]
        hashes = np.append(hashes, splitmix64(ends).sum(dtype=np.uint64).view(np.int64))
    return torch.from_numpy(hashes)


def match_labels(graph: PreparedGraph, known: Mapping[str, Tensor], edges: Tensor) -> Tensor:
    """Return the labels that the fit used for nodes of this graph, (N,), -1 elsewhere.

    A graph with the edges of the fit is the graph of the fit, whatever its features are now. Any
    other graph keeps the labels only if nearly all matched nodes look as they did; otherwise a
    warning is logged and all labels are -1.

    Args:
        graph: Graph to predict on.
        known: ``y`` (n,) of the fit, and the result of :func:`describe_nodes` there.
        edges: Result of :func:`edge_hash` for the graph of the fit.
    """
    labels = torch.full((graph.num_nodes,), -1)
    nodes, here, alike = match_nodes(graph, known, edges)
    if not alike:
        log.warning(
            "%s: %d nodes have names of training nodes, but other features or fewer edges: no "
            "training label is used as context", graph.name, len(nodes),
        )  # fmt: skip
        return labels
    labels[nodes] = known["y"][here]
    return labels


def match_nodes(
    graph: PreparedGraph, known: Mapping[str, Tensor], edges: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """Find nodes of a fit in a graph.

    Args:
        graph: Graph to predict on.
        known: Result of :func:`describe_nodes` in the graph of the fit.
        edges: Result of :func:`edge_hash` for the graph of the fit.

    Returns:
        The nodes found, (m,); their positions in ``known``, (m,); and false if the edges differ and
        the nodes do not look as they did.
    """
    now = edge_hash(graph)
    same_edges = len(now) == len(edges) and bool(now[-1] == edges[-1])
    if not same_edges and graph.node_ids is None and len(now) == 2 and now[0] == edges[0]:
        # Numbers are no names: the same graph may number its nodes in another order.
        return known["place"], torch.arange(len(known["place"])), True
    hashes, wanted = _name_hashes(graph), known["id"].numpy()
    order = np.argsort(hashes)
    at = order[np.searchsorted(hashes, wanted, sorter=order).clip(max=len(order) - 1)]
    found = hashes[at] == wanted
    nodes, here = torch.from_numpy(at[found]), torch.from_numpy(found).nonzero().flatten()
    if same_edges or not len(nodes):
        return nodes, here, True
    then = {key: known[key][here] for key in ("degree", "x")}
    return nodes, here, _look_alike(_looks(graph, nodes), then)


def _name_hashes(graph: PreparedGraph) -> np.ndarray:
    """Hash of each node's name, (N,) int64."""
    if graph.id_hashes is not None:
        return graph.id_hashes.numpy()
    names = graph.node_ids or [str(place) for place in range(graph.num_nodes)]
    return stable_hash(names, seed=0).view(np.int64)


def _looks(graph: PreparedGraph, nodes: Tensor) -> dict[str, Tensor]:
    """Degree and sum of the features of each node."""
    degree = graph.rowptr.diff()[nodes]
    return {"degree": degree, "x": graph.x[nodes].float().sum(dim=1)}


def _look_alike(now: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> bool:
    """True if nearly all nodes have the same features and no fewer neighbors."""
    alike = (now["x"] - then["x"]).abs() <= 1e-3 * (1 + then["x"].abs())
    alike &= now["degree"] >= then["degree"]
    return float(alike.double().mean()) >= MIN_ALIKE
