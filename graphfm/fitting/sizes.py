"""TODO: graphfm/fitting/sizes.py, from graphfm/fitting/cost.py."""

from __future__ import annotations

from dataclasses import dataclass

from graphfm.graphs.features.multihop import NUM_HOPS
from graphfm.graphs.features.position import position_dim
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.graph import Graph
from graphfm.model.graphfm import UNIVERSAL_FEATURES, GraphFM


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the cost of a fit depends on.

    Args:
        num_nodes: N.
        num_edges: E.
        num_features: F.
        num_encodings: P.
        num_classes: C.
        num_train: Labelled training nodes.
        num_val: Labelled validation nodes.
        prepared: Whether features and encodings are in memory already.
        pool: Whether experts answer too, as where a node has one class of several.
        with_trees: Whether trees are among them, which a fit at depth ``probe`` leaves out.
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
        """R."""
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
    """Of a graph, prepared or yet to be, that is fitted with or without a pool of experts."""
    return Sizes(
        num_nodes=graph.num_nodes,
        num_edges=len(graph.col),
        # the feature transform keeps so many axes at most
        num_features=min(graph.num_features, UNIVERSAL_FEATURES),
        num_encodings=position_dim(),
        num_classes=graph.task.num_classes,
        num_train=num_train,
        num_val=num_val,
        prepared=isinstance(graph, PreparedGraph),
        pool=pool and graph.task.kind == "classify",
        with_trees=with_trees,
    )
