"""Stratified splits by seed and node id.

The part of a node depends on its id, its class, the ids of its class and the seed; not on the order
of the rows, on the machine or on the process.

Shapes:
    N  nodes   C  labels   S  characters of all ids together
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.errors import FEW, DataError
from graphfm.graphs.graph import Graph, labelled_nodes
from graphfm.graphs.hashing import splitmix64

log = logging.getLogger(__name__)

Masks = tuple[Tensor, Tensor, Tensor]
Shares = tuple[float, float, float]


@dataclass(frozen=True)
class Few:
    """Split with few labels: all labelled nodes but the training nodes are test nodes.

    There are no validation nodes.

    Args:
        per_class: Number of training nodes of each class; of all nodes for a continuous target and
            for several labels per node.
    """

    per_class: int


Sizes = Shares | Few


def parse_split(text: str) -> Sizes:
    """Return the split that ``0.6/0.2/0.2``, ``60/20/20`` or ``few:5`` means.

    Raises:
        DataError: GFM145 for anything else, and for a sum above 1.

    >>> parse_split("few:5"), parse_split("10/10/80")
    (Few(per_class=5), (0.1, 0.1, 0.8))
    """
    word, _, number = text.partition(":")
    if word != "few":
        return parse_shares(text)
    if not number.isdecimal() or int(number) < 1:
        raise DataError(
            "GFM145",
            f"expected a number of labels a class such as few:5, got {text!r}",
            fix="use few:K with K of at least 1",
        )
    return Few(int(number))


def parse_shares(text: str) -> Shares:
    """Return the shares of train, val and test that ``0.6/0.2/0.2`` or ``60/20/20`` means.

    Raises:
        DataError: GFM145 for anything else, and for a sum above 1.

    >>> parse_shares("10/10/80")
    (0.1, 0.1, 0.8)
    """
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError:
        train = val = test = -1.0
    whole = 100.0 if max(train, val, test) > 1 else 1.0
    shares = (train / whole, val / whole, test / whole)
    if not all(share >= 0 for share in shares) or sum(shares) > 1 + 1e-9:
        raise DataError(
            "GFM145",
            f"expected three shares such as 0.6/0.2/0.2 or 60/20/20, got {text!r}",
            fix="shares of train, val and test, none below 0, with a sum of at most 1 or 100",
        )
    return shares


def stratified_split(
    y: Tensor,
    sizes: Sizes = (0.6, 0.2, 0.2),
    *,
    seed: int,
    ids: Sequence[str] | None = None,
) -> Masks:
    """Divide the labelled nodes into train, val and test.

    Within each class every part gets its share of the nodes, rounded up or down. Each class with a
    labelled node has at least one node in train. Labels of a multi-label task, and a continuous
    target, are divided as one class.

    Args:
        y: Classes, (N,), or labels of 0 and 1, (N, C), with -1 = unlabelled; or numbers, (N,), with
            NaN = unlabelled. Unlabelled nodes are in no part.
        sizes: Shares of train, val and test; if their sum is below 1, the rest is in no part. Or
            the number of training nodes of each class.
        seed: Random seed of the split.
        ids: Names of the nodes, (N,), unique. Default: their positions.

    Returns:
        ``(train_mask, val_mask, test_mask)``, each (N,) bool.

    Raises:
        DataError: GFM145 for sizes that are not shares, or ids of another length.
    """
    if not isinstance(sizes, Few) and (
        len(sizes) != 3 or not all(s >= 0 for s in sizes) or not 0 < sum(sizes) <= 1 + 1e-9
    ):
        raise DataError(
            "GFM145",
            f"split sizes must be three shares from 0 to 1 with a sum of at most 1, got {sizes}",
            fix="use for example (0.6, 0.2, 0.2)",
        )
    if ids is not None and len(ids) != len(y):
        raise DataError("GFM145", f"ids must name each of the {len(y)} nodes, got {len(ids)}")
    labels = y.numpy()
    rows = np.flatnonzero(labelled_nodes(y).numpy())
    one_class = y.ndim == 1 and not y.is_floating_point()
    strata = labels[rows] if one_class else np.zeros(len(rows), dtype=np.int64)

    keys = stable_hash([str(i) for i in range(len(y))] if ids is None else ids, seed=seed)[rows]
    order = np.lexsort((keys, strata))  # class by class, and by hash within a class
    counts = np.bincount(strata) if len(rows) else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(rows)) - np.repeat(starts, counts)  # 0.. within the class

    # Each class rounds at its own random point. Rounding to the nearest would send the second node
    # of each class of two nodes to the same part: 0.6/0.2 of 2 nodes is 1.2 and 1.6, so one node is
    # in train, one in val, and none of 50 such classes has a node in test.
    if isinstance(sizes, Few):
        train_size = np.minimum(counts, sizes.per_class)
        bounds = np.stack([train_size, train_size, counts])
    else:
        offset = _uniform(stable_hash([f"class {c}" for c in range(len(counts))], seed=seed))
        shares = np.round(np.cumsum(sizes), 12)  # 0.7 + 0.2 + 0.1 is 0.9999999999999999
        bounds = np.floor(counts[None, :] * shares[:, None] + offset[None, :]).astype(np.int64)
        bounds = np.minimum(bounds, counts[None, :])
        if sizes[0] > 0:
            bounds = np.maximum(bounds, np.minimum(counts, 1)[None, :])

    part = (rank[None, :] >= np.repeat(bounds, counts, axis=1)).sum(axis=0)  # 3 = left out
    masks = np.zeros((3, len(y)), dtype=bool)
    kept = part < 3
    masks[part[kept], rows[order[kept]]] = True
    train, val, test = torch.from_numpy(masks)
    return train, val, test


def with_split(graph: Graph, sizes: Sizes = (0.6, 0.2, 0.2), *, seed: int) -> Graph:
    """Return the graph with masks from :func:`stratified_split`.

    Args:
        graph: A graph with labels.
        sizes: Shares of train, val and test, or the number of training nodes of each class.
        seed: Random seed of the split.

    Raises:
        DataError: GFM145 if the graph has no labels.
    """
    if graph.y is None or not bool(graph.labelled.any()):
        raise DataError(
            "GFM145",
            "only labelled nodes can be split, and this graph has none",
            where=graph.name,
            fix="pass y, with -1 for nodes without a known label",
        )
    train, val, test = stratified_split(graph.y, sizes, seed=seed, ids=graph.node_ids)
    return graph.replace(train_mask=train, val_mask=val, test_mask=test)


def node_folds(graph: Graph, num_folds: int, *, seed: int) -> np.ndarray:
    """Return the fold of each node, (N,), stratified by class; unlabelled nodes are one stratum.

    Args:
        graph: A graph with labels.
        num_folds: Number of folds.
        seed: Seed of the folds, which depend on the ids of the nodes and not on their order.
    """
    assert graph.y is not None
    keys = stable_hash(graph.ids(), seed=seed)
    strata = graph.y.numpy() if graph.has_classes else graph.labelled.numpy()
    folds = np.empty(graph.num_nodes, dtype=np.int64)
    folds[np.lexsort((keys, strata))] = np.arange(graph.num_nodes) % num_folds
    return folds


def complete_split(graph: Graph, sizes: Shares = (0.6, 0.2, 0.2), *, seed: int) -> Graph:
    """Return the graph with its own parts of a split; only missing parts are drawn.

    A missing part is drawn from the labelled nodes that are in no given part. Several missing parts
    divide these nodes by their shares. One line names the drawn parts. With training and test
    nodes the graph stays as it is.

    Args:
        graph: A graph with labels.
        sizes: Shares of train, val and test.
        seed: Random seed of the split.

    Raises:
        DataError: GFM135 if no labelled node is left for training, and see :func:`with_split`.
    """
    names = ("train", "val", "test")
    none = torch.zeros(graph.num_nodes, dtype=torch.bool)
    own = [getattr(graph, f"{name}_mask") for name in names]
    given = [mask is not None and bool(mask.any()) for mask in own]
    if graph.y is None or not any(given):
        return with_split(graph, sizes, seed=seed)
    if given[0] and given[2]:
        return graph  # a fit without validation nodes takes them from the training nodes
    parts = [mask if there else none for mask, there in zip(own, given, strict=True)]
    rest = graph.labelled & ~torch.stack(parts).any(dim=0)
    left = [0.0 if there else size for size, there in zip(sizes, given, strict=True)]
    total = sum(left)
    if bool(rest.any()) and total > 0:
        y = graph.y.clone()
        y[~rest] = torch.nan if y.is_floating_point() else -1
        shares = (left[0] / total, left[1] / total, left[2] / total)
        drawn = stratified_split(y, shares, seed=seed, ids=graph.node_ids)
        parts = [
            mask if there else new for mask, there, new in zip(parts, given, drawn, strict=True)
        ]
    if not bool((parts[0] & graph.labelled).any()):
        raise DataError(
            "GFM135",
            "the split of the graph leaves no labelled node for training",
            where=graph.name,
            fix="mark training nodes in the column split, or choose shares: --split 0.6/0.2/0.2",
        )
    missing = [(n, p) for n, p, there in zip(names, parts, given, strict=True) if not there]
    log.warning(
        "%s: its split gives only %s; from its other labelled nodes were drawn: %s",
        graph.name,
        " and ".join(n for n, there in zip(names, given, strict=True) if there),
        ", ".join(f"{int(mask.sum()):,} {name}" for name, mask in missing),
    )
    train, val, test = parts
    return graph.replace(
        train_mask=train, val_mask=val if bool(val.any()) else None, test_mask=test
    )


def warn_small_classes(graph: Graph) -> None:
    """Log the classes without a training node, and those with a single labelled node."""
    if graph.y is None or not graph.has_classes or graph.train_mask is None:
        return
    y, width = graph.y, graph.num_classes
    all_of = torch.bincount(y[y >= 0], minlength=width)
    learned = torch.bincount(y[graph.train_mask & (y >= 0)], minlength=width)
    for what, found in (
        ("have no training node and are never predicted", (all_of > 0) & (learned == 0)),
        ("have one labelled node, so none for training or none for the score", all_of == 1),
    ):
        names = [graph.class_names[i] for i in found.nonzero().flatten().tolist()]
        if names:
            log.warning("%s: %d of %d classes %s: %s", graph.name, len(names), width, what,
                        ", ".join(map(repr, names[:FEW]))
                        + (", ..." if len(names) > FEW else ""))  # fmt: skip


def stable_hash(words: Sequence[str], *, seed: int) -> np.ndarray:
    """Return a 64-bit hash of each text, (N,) uint64, the same on every machine.

    >>> stable_hash(["a", "b"], seed=0).tolist() == stable_hash(["a", "b"], seed=0).tolist()
    True
    """
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    # "surrogatepass", because an id from a damaged file must have a hash too
    text = "".join(words).encode("utf-32-le", errors="surrogatepass")
    letters = np.frombuffer(text, dtype="<u4").astype(np.uint64)  # (S,)
    ends = np.cumsum(lengths)
    place = np.arange(len(letters)) - np.repeat(ends - lengths, lengths)
    mixed = splitmix64(letters + (place.astype(np.uint64) << np.uint64(32)))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    sums = total[ends] - total[ends - lengths]  # wraps modulo 2^64, as intended
    salt = splitmix64(np.array([seed % 2**64], dtype=np.uint64))
    return splitmix64(splitmix64(sums + lengths.astype(np.uint64)) ^ salt)


def _uniform(hashes: np.ndarray) -> np.ndarray:
    """Return hashes as numbers in [0, 1), exact in float64."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
