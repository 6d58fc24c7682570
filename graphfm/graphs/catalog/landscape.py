"""Map of graphs: six coordinates of a graph, and a picture of many graphs on two of them.

Shapes:
    N  nodes   F  feature columns   C  classes   D  coordinates
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.graph import Graph
from graphfm.graphs.statistics import homophily

NUM_SAMPLED = 4000  # nodes that measure the feature signal: an error of 2% of its range at most
RANGES: dict[str, tuple[float, float]] = {
    "homophily": (-0.5, 1.0),
    "tail": (0.1, 1.0),
    "log_nodes": (float(np.log(300)), float(np.log(20_000))),
    "log_classes": (float(np.log(2)), float(np.log(20))),
    "signal": (0.0, 1.0),
    "imbalance": (0.0, 0.5),
}
"""Values that are 0 and 1 on each axis; values beyond are clipped."""

FORMATS = (".png", ".svg", ".pdf")
# Paul Tol's "muted" colours, which differ for any colour vision, each with a shape of its own.
STYLES = (
    ("#332288", "o"),
    ("#CC6677", "s"),
    ("#117733", "^"),
    ("#DDCC77", "D"),
    ("#88CCEE", "v"),
    ("#882255", "P"),
    ("#44AA99", "X"),
    ("#999933", "<"),
    ("#AA4499", ">"),
)
OTHER = ("#777777", "p")


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One graph of the picture.

    Args:
        id: Id of the graph.
        domain: Its domain.
        num_nodes: Number of nodes, N.
        adjusted_homophily: Homophily corrected for chance: 1 = no edge leaves its class.
        synthetic: True for a generated graph.
        judged: True for an evaluation graph.
    """

    id: str
    domain: str
    num_nodes: int
    adjusted_homophily: float
    synthetic: bool
    judged: bool


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Six numbers that describe a graph, real or synthetic.

    Args:
        homophily: Homophily corrected for degrees and class sizes: 0 = chance, 1 = no edge leaves
            its class.
        tail: 1 / (exponent - 1) of the degrees above their median, by the Hill estimator: 0.5 for
            exponent 3, 1 for exponent 2, 0 if all degrees are equal.
        log_nodes: Logarithm of the number of nodes, log N.
        log_classes: Logarithm of the number of classes that have a node, log C.
        signal: Balanced accuracy of the nearest class mean on held-out nodes, from 0 = chance to
            1 = always right; 0 without features.
        imbalance: 1 - the entropy of the class sizes over the entropy of equal sizes.
    """

    homophily: float
    tail: float
    log_nodes: float
    log_classes: float
    signal: float
    imbalance: float

    @property
    def scaled(self) -> np.ndarray:
        """Coordinates mapped to the unit cube by :data:`RANGES`, (D,)."""
        low, high = np.array(list(RANGES.values())).T
        values = np.array(list(asdict(self).values()))
        scaled: np.ndarray = np.clip((values - low) / (high - low), 0, 1)
        return scaled


def measure(graph: Graph) -> Coordinates | None:
    """Return the coordinates of a graph; None for several labels a node, or without homophily."""
    found = homophily(graph)
    if found is None or "adjusted" not in found or graph.y is None:
        return None
    y = graph.y.numpy()
    counts = np.bincount(y[y >= 0])
    share = counts[counts > 0] / counts.sum()
    return Coordinates(
        homophily=found["adjusted"],
        tail=degree_tail(graph.neighbors[0].diff().numpy()),
        log_nodes=float(np.log(graph.num_nodes)),
        log_classes=float(np.log(len(share))),
        signal=feature_signal(graph),
        imbalance=float(1 + (share * np.log(share)).sum() / np.log(len(share))),
    )


def degree_tail(degree: np.ndarray) -> float:
    """Return 1 / (exponent - 1) of the degrees above their median, without isolated nodes: (N,).

    The maximum-likelihood estimate for a power law of integers (Clauset, Shalizi, Newman 2009,
    equation 3.7).
    """
    degree = degree[degree > 0]
    start = np.floor(np.median(degree))
    return float(np.log(degree[degree >= start] / (start - 0.5)).mean())


def feature_signal(graph: Graph) -> float:
    """Return the balanced accuracy of the nearest class mean: 0 = chance, 1 = always right.

    Columns are scaled to unit deviation. Half of the nodes of each class give its mean, the other
    half are predicted.
    """
    if graph.x is None or graph.y is None or not graph.num_features or not graph.has_classes:
        return 0.0
    y = graph.y.numpy()
    nodes = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))[:NUM_SAMPLED]
    nodes = nodes[np.argsort(y[nodes], kind="stable")]
    seen, unseen = nodes[0::2], nodes[1::2]  # halves of each class
    x: Any = graph.x if isinstance(graph.x, sparse.csr_array) else graph.x.double().numpy()
    mean = x[seen].mean(axis=0)
    square = x[seen].power(2) if isinstance(x, sparse.csr_array) else x[seen] ** 2
    deviation = np.sqrt(np.maximum(square.mean(axis=0) - mean**2, 0))
    scale = np.divide(1, deviation, out=np.zeros(len(deviation)), where=deviation > 1e-6)
    classes, member = np.unique(y[seen], return_inverse=True)
    one_hot = sparse.csr_array((np.ones(len(seen)), (np.arange(len(seen)), member)))
    means = (one_hot.T @ x[seen]) * scale / np.bincount(member)[:, None]  # (C, F)
    means = means.toarray() if sparse.issparse(means) else means
    score = x[unseen] @ (means * scale).T - (means**2).sum(axis=1) / 2  # (nodes, C)
    right = classes[score.argmax(axis=1)] == y[unseen]
    accuracy = np.mean([right[y[unseen] == c].mean() for c in np.unique(y[unseen])])
    return float(max(0.0, (accuracy - 1 / len(classes)) / (1 - 1 / len(classes))))


def spots(catalog: Catalog, ids: Sequence[str]) -> list[Spot]:
    """Return the graphs that have a homophily, in the order of ``ids``; all must be here.

    Graphs with several labels a node have none, nor graphs with one class or without an edge
    between labelled nodes.
    """
    found = []
    for id in ids:
        entry, graph = catalog.entry(id), catalog.load(id)
        value = (homophily(graph) or {}).get("adjusted")
        if value is not None:
            found.append(
                Spot(
                    id=entry.id,
                    domain=entry.domain,
                    num_nodes=graph.num_nodes,
                    adjusted_homophily=value,
                    synthetic=entry.synthetic,
                    judged=entry.role == "evaluation",
                )
            )
    return found


def draw_landscape(found: Sequence[Spot], out: Path) -> None:
    """Draw adjusted homophily and number of nodes; each domain has a colour and a shape.

    Args:
        found: The graphs.
        out: Picture to write; its suffix is one of :data:`FORMATS`.

    Raises:
        DataError: GFM125 if there is no graph to draw.
    """
    if not found:
        raise DataError(
            "GFM125",
            "there is nothing to draw: no graph that is here has a homophily",
            fix="graphfm datasets prepare fetches and reads graphs",
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure

    real = [s for s in found if not s.synthetic]
    common = [d for d, _ in Counter(s.domain for s in real).most_common(len(STYLES))]
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_yscale("log")
    axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    drawn = [s for s in found if s.synthetic]
    style: dict[str, Any] = {"facecolors": "none", "edgecolors": "#555555", "linewidths": 0.9}
    if drawn:
        _scatter(axes, drawn, f"synthetic ({len(drawn)})", marker="o", s=34, **style)
    kept = {domain: mark for domain, mark in zip(common, STYLES, strict=False)}
    for domain, (color, marker) in [*kept.items(), ("other", OTHER)]:
        of = [s for s in real if s.domain == domain or (domain == "other" and s.domain not in kept)]
        if of:
            edge = {"edgecolors": "white", "linewidths": 0.5, "alpha": 0.85, "zorder": 2}
            _scatter(axes, of, f"{domain} ({len(of)})", c=color, marker=marker, s=42, **edge)
    judged = [s for s in found if s.judged]
    if judged:
        style |= {"edgecolors": "black", "linewidths": 1.3, "zorder": 3}
        _scatter(axes, judged, f"evaluation graphs ({len(judged)})", s=130, **style)
    axes.set(
        xlabel="adjusted homophily: 0 = chance, 1 = no edge leaves its class",
        ylabel="nodes",
        title=f"{len(real)} real and {len(drawn)} synthetic graphs",
    )
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=10)
    figure.savefig(out, dpi=100, format=out.suffix[1:])


def _scatter(axes: Any, of: Sequence[Spot], label: str, **style: Any) -> None:
    x, y = [s.adjusted_homophily for s in of], [s.num_nodes for s in of]
    axes.scatter(x, y, label=label, **style)
