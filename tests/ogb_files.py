"""Small datasets laid out as OGB unpacks them: names, folders and text as in its archives."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


def write_ogb(
    data: Path,
    *,
    name: str,
    split: str,
    edges: np.ndarray,
    y: np.ndarray,
    x: np.ndarray | None = None,
    parts: tuple[list[int], list[int], list[int]],
) -> Path:
    """Write the files of one dataset below ``data``, and give its folder.

    Args:
        data: What ``GRAPHFM_DATA`` is to name.
        name: ``ogbn-...``.
        split: Folder of its split.
        edges: (E, 2).
        y: (N, tasks).
        x: (N, F) or None.
        parts: Nodes of train, valid and test.
    """
    folder = data / "ogb" / name.replace("-", "_")
    raw = folder / "raw"
    write_lines(raw / "num-node-list.csv.gz", [[len(y)]])
    write_lines(raw / "num-edge-list.csv.gz", [[len(edges)]])
    write_lines(raw / "edge.csv.gz", edges.tolist())
    write_lines(raw / "node-label.csv.gz", y.tolist())
    if x is not None:
        write_lines(raw / "node-feat.csv.gz", [[f"{v:f}" for v in row] for row in x.tolist()])
        write_lines(raw / "node_year.csv.gz", [[2015 + i % 5] for i in range(len(y))])
    for part, nodes in zip(("train", "valid", "test"), parts, strict=True):
        write_lines(folder / "split" / split / f"{part}.csv.gz", [[n] for n in nodes])
    return folder


def write_lines(path: Path, rows: list[list[object]]) -> None:
    """A line for each row, no header, as pandas writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="\n") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)


def small_arxiv(data: Path) -> Path:
    """Six papers: directed citations, one of them both ways, two features, three classes."""
    return write_ogb(
        data,
        name="ogbn-arxiv",
        split="time",
        edges=np.array([[4, 0], [0, 1], [1, 0], [5, 2], [3, 2]]),
        y=np.array([[4], [0], [4], [39], [0], [39]]),
        x=np.array([[i / 7 - 0.3, -i * 1.5] for i in range(6)]),
        parts=([3, 0, 1], [4], [5]),
    )


def small_proteins(data: Path, *, num_nodes: int = 60) -> Path:
    """Two communities without features and 112 labels, the first half of which follow them."""
    rng = np.random.default_rng(0)
    side = np.arange(num_nodes) % 2
    low, high = np.triu_indices(num_nodes, k=1)
    kept = rng.random(len(low)) < np.where(side[low] == side[high], 0.3, 0.03)
    y = rng.integers(0, 2, (num_nodes, 112))
    y[:, :56] = side[:, None]
    nodes = rng.permutation(num_nodes).tolist()
    cut = num_nodes // 3
    return write_ogb(
        data,
        name="ogbn-proteins",
        split="species",
        edges=np.stack([low[kept], high[kept]], axis=1),
        y=y,
        parts=(nodes[:cut], nodes[cut : 2 * cut], nodes[2 * cut :]),
    )
