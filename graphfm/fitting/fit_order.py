"""Order in which a fit read its graph, and positions of its nodes, for the graphs to predict.

A graph to predict is brought into the canonical order too. If it has nodes of the fit, its
positions are turned into the basis of the fit's positions (``graphs.features.alignment``).

Shapes:
    N  nodes   n  nodes of the fit that are kept   k  eigenvectors   F  feature columns   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphfm.experts.same_graph import describe_nodes, edge_hash, match_nodes
from graphfm.graphs.features.alignment import aligned_positions, signed_positions
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.order import Order, local_keys

MAX_KEPT = 50_000  # nodes of the fit whose positions are kept: 5 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class FitOrder:
    """Order of the columns and classes of a fit, and the positions of its nodes.

    Args:
        columns: Feature column at each canonical place, (F,).
        classes: Class at each canonical place, (C,).
        known: What kept nodes are recognised by (``same_graph``), (n,) each, and their eigenvector
            entries ``vectors``, (n, k). Empty for a graph without edges.
        structure: Hashes of the edges, (2,), and share of the nodes that are kept, (1,).
    """

    columns: Tensor
    classes: Tensor
    known: Mapping[str, Tensor]
    structure: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, order: Order, prepared: PreparedGraph) -> FitOrder:
        """Keep the order of a fit, and positions of nodes with the lowest hashes of their ids."""
        assert prepared.id_hashes is not None
        known = {}
        if len(prepared.col):
            nodes = prepared.id_hashes.argsort(stable=True)[:MAX_KEPT].sort().values
            vectors = prepared.pe[nodes, : (prepared.pe.shape[1] - 2) // 2]
            known = {**describe_nodes(prepared, nodes), "vectors": vectors.clone()}
        share = torch.tensor([len(known.get("id", ())) / prepared.num_nodes])
        return cls(
            columns=order.columns,
            classes=order.classes,
            known=known,
            structure=(edge_hash(prepared), share),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, for a checkpoint."""
        edges, share = self.structure
        known = {f"known.{name}": values for name, values in self.known.items()}
        order = {"columns": self.columns, "classes": self.classes}
        return {**order, "edges": edges, "share": share, **known}

    @classmethod
    def from_parts(cls, tensors: Mapping[str, Tensor]) -> FitOrder:
        """Build an order from the result of :meth:`tensors`."""
        known = {k.removeprefix("known."): v for k, v in tensors.items() if k.startswith("known.")}
        return cls(
            columns=tensors["columns"],
            classes=tensors["classes"],
            known=known,
            structure=(tensors["edges"], tensors["share"]),
        )

    def order_of(self, graph: Graph) -> Order:
        """Return the canonical order of a graph with the columns and classes of the fit."""
        return Order.of(graph, columns=self.columns, classes=self.classes)

    def align(self, prepared: PreparedGraph) -> PreparedGraph:
        """Return a graph whose positions have the basis of the fit, where it has nodes of it."""
        if not self.known or not len(prepared.col):
            return prepared
        edges, share = self.structure
        nodes, here, alike = match_nodes(prepared, self.known, edges)
        vectors = self.known["vectors"][here]
        if not alike or not len(nodes) or vectors.shape[1] * 2 + 2 != prepared.pe.shape[1]:
            return prepared
        pe = aligned_positions(
            prepared.rowptr, prepared.col, prepared.pe, nodes, vectors, share=float(share)
        )
        return replace(prepared, pe=pe)


def prepare_in_order(
    graph: Graph, order: Order, *, transform: FeatureTransform | None = None, cache: bool = True
) -> PreparedGraph:
    """Prepare a graph in canonical order.

    Args:
        graph: The graph, in canonical order.
        order: Its order.
        transform: Feature transform of a fit. Default: fitted to this graph.
        cache: Read the result from the cache folder, or write it there.
    """
    prepared = prepare(graph, transform=transform, cache=cache)
    return replace(
        prepared,
        pe=signed_positions(prepared.rowptr, prepared.col, prepared.pe),
        id_hashes=order.ids,
        sample_keys=local_keys(graph, order),
    )
