"""Sizes that the cost of a fit depends on."""

from __future__ import annotations

from dataclasses import dataclass

from graphfm.graphs.features.multihop import NUM_HOPS
from graphfm.graphs.features.position import position_dim
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.graph import Graph
from graphfm.model.graphfm import UNIVERSAL_FEATURES, GraphFM


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a graph and options of a fit that its cost depends on.

    Args:
        num_nodes: Number of nodes N.
        num_edges: Number of edges E, both directions.
        num_features: Number of transformed features F.
        num_encodings: Number of columns of the positional encoding P.
        num_classes: Number of classes C.
        num_train: Number of labelled training nodes.
        num_val: Number of labelled validation nodes.
        prepared: True if features and encodings are in memory already.
        pool: True if experts predict too, which needs one class per node.
        with_trees: True if trees are among the experts; depth ``probe`` leaves them out.
    """

    num_nodes: int
    num_edges: int
    num_features: int
    num_encodings: int
    num_classes: int
    num_train: int
    num_val: int = 0
    prepared: bool = True
    pool: bool = True
    with_trees: bool = True

    @property
    def num_raw(self) -> int:
        """Number of raw columns R."""
        return (1 + NUM_HOPS) * self.num_features + (self.num_encodings - 2) // 2 + 2


def sizes_of(
    graph: Graph | PreparedGraph,
    model: GraphFM,
    *,
    num_train: int,
    num_val: int = 0,
    pool: bool = True,
    with_trees: bool = True,
) -> Sizes:
    """Return the sizes of a graph, prepared or not, for a fit with or without experts."""
    return Sizes(
        num_nodes=graph.num_nodes,
        num_edges=len(graph.col),
        # the feature transform keeps at most this many axes
        num_features=min(graph.num_features, UNIVERSAL_FEATURES),
        num_encodings=position_dim(),
        num_classes=graph.task.num_classes,
        num_train=num_train,
        num_val=num_val,
        prepared=isinstance(graph, PreparedGraph),
        pool=pool and graph.task.kind == "classify",
        with_trees=with_trees,
    )
