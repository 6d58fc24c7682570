"""Tuned settings as Luo et al. publish them, run by our baselines, beside their accuracies.

    python tools/check_luo.py --out luo [--graphs planetoid-cora] [--models gcn sage] [--runs 5]

"Classic GNNs are strong baselines" (NeurIPS 2024, arXiv 2406.08993); settings, accuracies and
protocol of their repository (LUOyk1999/tunedGNN, medium_graph, commit 70e9af7): full batch, Adam,
no early stop, the epoch that is best on validation nodes, mean and deviation over runs on one
split. Planetoid: raw features, 20 nodes a class, 500 for validation, 1,000 for test, drawn by
torch with seed 123: the same nodes here. (This is not Planetoid's own split; ``--split public``
takes that, and ``--split 7`` draws by seed 7: what a draw of nodes is worth.) Amazon and coauthor:
rows that add up to 1, 60/20/20 from a file: ``--files FOLDER`` reads it from the ``data`` of their
repository; without it, a stratified split of seed 0.
``--plain`` trains their model in PyG's own layers: a difference that it has too is not of our code.
Each run leaves a JSON file in ``--out``, and is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, SAGEConv
from torch_geometric.utils import add_self_loops, remove_self_loops, to_undirected

from graphfm.baselines.classic import PEERS
from graphfm.baselines.inputs import MAX_SPARSE_DENSITY, Features
from graphfm.baselines.sparse import Matrix
from graphfm.baselines.task import Task
from graphfm.cli.output import whole_file
from graphfm.cli.terminal import table
from graphfm.graphs.catalog import Catalog
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import stratified_split

PLANETOID = {"epochs": 500}
THEIR_SEED = 123  # of the draw of planetoid's nodes
THEIR_FILES = {
    "amazon-computers": "amazon-computer_split.npz",
    "coauthor-physics": "coauthor-physics_split.npz",
}
LAYERED = {"norm": "layer"}
BATCHED = {"norm": "batch"}
RESIDUAL = {"residual": True}


def _set(lr: float, depth: int, width: int, decay: float, rate: float, **more: Any) -> Any:
    return {
        "lr": lr,
        "depth": depth,
        "width": width,
        "weight_decay": decay,
        "dropout": rate,
        "heads": 1,
        "input_dropout": 0.0,
        "norm": "none",
        "residual": False,
        "head": True,
        "patience": math.inf,
        "every": 1,
        **more,
    }


SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "planetoid-cora": {
        "gcn": _set(0.001, 3, 512, 5e-4, 0.7, **PLANETOID),
        "sage": _set(0.001, 3, 256, 5e-4, 0.7, **PLANETOID),
        "gat": _set(0.001, 3, 512, 5e-4, 0.2, **PLANETOID, **RESIDUAL),
    },
    "planetoid-pubmed": {
        "gcn": _set(0.005, 2, 256, 5e-4, 0.7, **PLANETOID),
        "sage": _set(0.005, 4, 512, 5e-4, 0.7, **PLANETOID),
        "gat": _set(0.01, 2, 512, 5e-4, 0.5, **PLANETOID),
    },
    "amazon-computers": {
        "gcn": _set(0.001, 3, 512, 5e-5, 0.5, epochs=1000, **LAYERED),
        "sage": _set(0.001, 4, 64, 5e-5, 0.3, epochs=1000, **LAYERED),
        "gat": _set(0.001, 2, 64, 5e-5, 0.5, epochs=1000, **LAYERED),
    },
    "coauthor-physics": {
        "gcn": _set(0.001, 2, 64, 5e-4, 0.3, epochs=1500, **LAYERED, **RESIDUAL),
        "sage": _set(0.001, 2, 64, 5e-4, 0.7, epochs=1500, **BATCHED, **RESIDUAL),
        "gat": _set(0.001, 2, 256, 5e-4, 0.7, epochs=1500, **BATCHED, **RESIDUAL),
    },
}
# Accuracy and its standard deviation over runs, in percent, as their README has them.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "planetoid-cora": {"gcn": (85.10, 0.67), "sage": (83.88, 0.65), "gat": (84.46, 0.55)},
    "planetoid-pubmed": {"gcn": (81.12, 0.52), "sage": (79.72, 0.50), "gat": (80.28, 0.64)},
    "amazon-computers": {"gcn": (93.99, 0.12), "sage": (93.25, 0.14), "gat": (94.09, 0.37)},
    "coauthor-physics": {"gcn": (97.46, 0.10), "sage": (97.19, 0.18), "gat": (97.25, 0.06)},
}


def is_planetoid(name: str) -> bool:
    """Whether they take raw features and draw nodes by class."""
    return name.startswith("planetoid")


class LuoTask(Task):
    """A task whose features are scaled as they are there."""

    @cached_property
    def features(self) -> Features:
        """(N, F): raw for planetoid, else rows that add up to 1."""
        x = self.graph.x
        raw = sparse.csr_array(x.numpy() if isinstance(x, Tensor) else x, dtype=np.float32)
        if not is_planetoid(self.graph.name):
            total = np.asarray(raw.sum(axis=1)).ravel()
            raw = sparse.csr_array(sparse.diags_array(1 / np.maximum(total, 1)) @ raw)
        dense = raw.nnz > MAX_SPARSE_DENSITY * raw.shape[0] * raw.shape[1]
        raw.sort_indices()
        return raw.toarray() if dense else raw

    def score_of_val(self, proba: np.ndarray) -> tuple[float, float]:
        """Accuracy alone: of epochs that tie, they take the first."""
        return super().score_of_val(proba)[0], 0.0

    @cached_property
    def averaging(self) -> Matrix:
        """``(D + I)^-1 (A + I)``: they add self-loops to the edges of all models, SAGE too."""
        joined = self.attention.rows
        degree = joined.crow_indices().diff()
        shares = (1 / degree.float()).repeat_interleave(degree.long())
        places = (shares.numpy(), joined.col_indices().numpy(), joined.crow_indices().numpy())
        return Matrix.of(sparse.csr_array(places, shape=tuple(joined.shape)))


def split(graph: Graph, kind: str, files: Path | None) -> tuple[Tensor, Tensor, Tensor]:
    """Train, validation and test nodes, each (N,) bool.

    Args:
        graph: One of :data:`SETTINGS`.
        kind: ``luo`` (their draw; of seed 0 where they have a file), ``public``, or a seed.
        files: Folder of their split files, which then decide.
    """
    assert graph.y is not None
    if files is not None:
        with np.load(files / THEIR_FILES[graph.name]) as file:
            return _masks(graph, *(torch.from_numpy(file[k]) for k in ("train", "valid", "test")))
    seed = int(kind) if kind.isdigit() else None
    if not is_planetoid(graph.name):
        seed = 0 if seed is None else seed
        return stratified_split(graph.y, (0.6, 0.2, 0.2), seed=seed, ids=graph.ids())
    if kind == "public":
        assert graph.train_mask is not None and graph.val_mask is not None
        assert graph.test_mask is not None
        return graph.train_mask, graph.val_mask, graph.test_mask
    rng = torch.Generator().manual_seed(THEIR_SEED if seed is None else seed)
    train, rest = [], []
    for c in range(graph.num_classes):
        nodes = (graph.y == c).nonzero().flatten()
        nodes = nodes[torch.randperm(len(nodes), generator=rng)]
        train.append(nodes[:20])
        rest.append(nodes[20:])
    others = torch.cat(rest)
    others = others[torch.randperm(len(others), generator=rng)]
    return _masks(graph, torch.cat(train), others[:500], others[500:1500])


def _masks(graph: Graph, *parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    masks = [torch.zeros(graph.num_nodes, dtype=torch.bool) for _ in parts]
    for mask, nodes in zip(masks, parts, strict=True):
        mask[nodes] = True
    return masks[0], masks[1], masks[2]


class Plain(nn.Module):
    """Their model in PyG's own layers."""

    def __init__(self, model: str, settings: dict[str, Any], num_features: int, num_classes: int):
        super().__init__()
        layer: Any = {"gcn": GCNConv, "sage": SAGEConv, "gat": GATConv}[model]
        more = {"add_self_loops": False, "bias": False} if model == "gat" else {}
        widths = [num_features, *[settings["width"]] * settings["depth"]]
        pairs = list(itertools.pairwise(widths))
        self.layers = nn.ModuleList(layer(*pair, **more) for pair in pairs)
        self.beside = nn.ModuleList(nn.Linear(*pair) for pair in pairs if settings["residual"])
        norm = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        self.norms = nn.ModuleList(norm[settings["norm"]](width) for width in widths[1:])
        self.head = nn.Linear(widths[-1], num_classes)
        self.rate = settings["dropout"]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits of all nodes, (N, C)."""
        for place, layer in enumerate(self.layers):
            h = layer(x, edge_index) + (self.beside[place](x) if self.beside else 0)
            x = F.dropout(self.norms[place](h).relu(), self.rate, training=self.training)
        return self.head(x)


def edges_of(graph: Graph) -> Tensor:
    """``edge_index`` as they make it: both ways, and a self-loop on every node."""
    edges, _ = remove_self_loops(to_undirected(graph.edge_index))
    return add_self_loops(edges, num_nodes=graph.num_nodes)[0]


def plain(graph: Graph, model: str, seed: int, train: Tensor, val: Tensor) -> Tensor:
    """Logits of the best epoch, (N, C), by a loop that calls nothing of our baselines."""
    assert graph.x is not None and graph.y is not None
    settings = SETTINGS[graph.name][model]
    x = graph.x.float() if isinstance(graph.x, Tensor) else torch.tensor(graph.x.toarray()).float()
    if not is_planetoid(graph.name):
        x = x / x.sum(dim=1, keepdim=True).clamp(min=1)
    edges = edges_of(graph)
    torch.manual_seed(seed)
    network = Plain(model, settings, x.shape[1], graph.num_classes)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    best, kept = -1.0, torch.empty(0)
    for _ in range(settings["epochs"]):
        network.train()
        optimizer.zero_grad()
        F.cross_entropy(network(x, edges)[train], graph.y[train]).backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            said = network(x, edges)
        right = float((said.argmax(dim=1) == graph.y)[val].float().mean())
        if right > best:
            best, kept = right, said
    return kept


def run(
    name: str, model: str, seed: int, kind: str, files: Path | None, *, is_plain: bool
) -> dict[str, Any]:
    """One training: the receipt of a cell."""
    graph = Catalog.read().load(name)
    train, val, test = split(graph, kind, files)
    settings = SETTINGS[name][model]
    began, cpu = time.perf_counter(), time.process_time()
    if is_plain:
        proba = plain(graph, model, seed, train, val).numpy()
    else:
        task = LuoTask.of(graph, train, val)
        proba = PEERS[model].fit(task, settings, seed=seed, deadline=math.inf)
    assert graph.y is not None
    right = proba.argmax(axis=1) == graph.y.numpy()
    return {
        "graph": name,
        "model": model,
        "seed": seed,
        "split": label(kind, is_plain),
        "settings": {k: v for k, v in settings.items() if v != math.inf},
        "test": 100 * float(right[test.numpy()].mean()),
        "val": 100 * float(right[val.numpy()].mean()),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
    }


def label(kind: str, is_plain: bool) -> str:
    """What runs go by, in names of receipts and in the table."""
    return f"{kind}-plain" if is_plain else kind


def summary(cells: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each graph, split and model that has a run."""
    keys = sorted({(cell["graph"], cell["split"], cell["model"]) for cell in cells})
    for graph, kind, model in keys:
        here = [c for c in cells if (c["graph"], c["split"], c["model"]) == (graph, kind, model)]
        scores = [cell["test"] for cell in here]
        mean, spread = PUBLISHED[graph][model]
        yield {
            "graph": graph,
            "split": kind,
            "model": model,
            "runs": len(here),
            "mean": float(np.mean(scores)),
            "std": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            "published_mean": mean,
            "published_std": spread,
            "cpu_seconds": float(np.mean([cell["cpu_seconds"] for cell in here])),
        }


def main() -> None:
    """Run what is missing, then print all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of receipts and luo.json")
    parser.add_argument("--graphs", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--models", nargs="*", default=["gcn", "sage", "gat"])
    parser.add_argument(
        "--runs", type=int, default=5, help="trainings of a cell; theirs are 5 or 3"
    )
    parser.add_argument(
        "--split", default="luo", help="luo, public (of planetoid), or the seed of another draw"
    )
    parser.add_argument(
        "--files", type=Path, help="folder of their split files, of amazon and coauthor"
    )
    parser.add_argument(
        "--plain", action="store_true", help="PyG's layers in a plain loop, none of ours"
    )
    args = parser.parse_args()
    if args.split not in ("luo", "public") and not args.split.isdigit():
        parser.error(f"--split is luo, public or a whole number, not {args.split}")
    if args.files is not None:
        if not set(args.graphs) <= set(THEIR_FILES):
            parser.error(f"--files are of {' and '.join(THEIR_FILES)}: name --graphs")
        args.split = "file"
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.graphs:
        for model in args.models:
            for seed in range(args.runs):
                receipt = args.out / f"{name}-{label(args.split, args.plain)}-{model}-{seed}.json"
                if receipt.is_file():
                    continue
                cell = run(name, model, seed, args.split, args.files, is_plain=args.plain)
                print(
                    f"{name} {model} {seed}: {cell['test']:.2f}, {cell['seconds']:.0f} s",
                    flush=True,
                )
                with whole_file(receipt) as path:
                    path.write_text(json.dumps(cell, indent=1), encoding="utf-8")
    cells = [json.loads(p.read_text("utf-8")) for p in sorted(args.out.glob("*-*-*.json"))]
    rows = list(summary(cells))
    with whole_file(args.out / "luo.json") as path:
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table([_line(row) for row in rows], head=HEAD))


HEAD = ["graph", "split", "model", "runs", "here", "theirs", "apart", "in std", "CPU s"]


def _line(row: dict[str, Any]) -> list[str]:
    spread = "-" if row["std"] is None else f"{row['std']:.2f}"
    return [
        *(str(row[name]) for name in HEAD[:4]),
        f"{row['mean']:.2f} +- {spread}",
        f"{row['published_mean']:.2f} +- {row['published_std']:.2f}",
        f"{row['mean'] - row['published_mean']:+.2f}",
        f"{(row['mean'] - row['published_mean']) / row['published_std']:+.1f}",
        f"{row['cpu_seconds']:.0f}",
    ]


if __name__ == "__main__":
    main()
