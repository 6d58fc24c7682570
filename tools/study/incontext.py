"""Gate of the in-context network: kept-out corpus graphs, few labels, network against its pool.

    python tools/study/incontext.py prepare STORE
    python tools/study/incontext.py table STORE RUN/checkpoints/step_000625 ... --out ROWS.jsonl

``prepare`` solves the experts on every kept-out graph (parts of at most 2,000 nodes), with K labels
a class and no validation set. ``table`` compares networks with the pool that they start from; each
task and model is a line of ROWS.jsonl, and a second call measures only what is missing.
Differences are averaged over seeds, graphs and then groups; 95% t-intervals are over groups. No
evaluation graph is used. A checkpoint must not be chosen by this table.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

KEPT_OUT = {
    "acm": ("acm-3025", "heco-acm"),
    "celegans": ("celegans-herm", "celegans-male"),
    "dblp": ("citationfull-dblp", "heco-dblp"),
    "lazega": ("lazega-advice", "lazega-cowork", "lazega-friends"),
    "msrc": ("tu-msrc-9", "tu-msrc-21", "tu-msrc-21c"),
    "physicians": ("physicians", "physicians-peoria", "physicians-bloomington"),
    "tennis": ("tennis-atp", "tennis-wta"),
    "twitch": ("twitch-de", "twitch-engb", "twitch-es", "twitch-fr", "twitch-ptbr", "twitch-ru",
               "twitch-zhtw"),
}  # fmt: skip
MAX_NODES = 2000
PER_CLASS = (3, 10)
POOLS = ("trust 5", "pool", "pool with trees")
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the tasks of the gate, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=("prepare", "table"))
    parser.add_argument("store", type=Path, help="folder of the gate's tasks")
    parser.add_argument("networks", type=Path, nargs="*", help="folders of checkpoints")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="ROWS.jsonl")
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported
    if args.action == "prepare":
        prepare_tasks(args.store, args.seeds)
        return 0
    lines = args.out or args.store / "rows.jsonl"
    for row in measure(args.store, args.networks, rows_of(lines)):
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print(table(rows_of(lines)))
    return 0


def rows_of(lines: Path) -> list[Row]:
    """Return the rows of a file; none if there is no file."""
    text = lines.read_text(encoding="utf-8") if lines.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def prepare_tasks(folder: Path, seeds: int) -> None:
    """Solve the experts, trees among them, on each graph, number of labels and seed."""
    import numpy as np
    import torch

    from graphfm.experts.pool import fit_experts
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.features.multihop import multihop
    from graphfm.training.tasks.solve import SolvedTask
    from graphfm.training.tasks.store import TaskStore

    torch.set_num_threads(1)
    catalog = Catalog.read()
    for group, ids in KEPT_OUT.items():
        for id in ids:
            graph = part_of(id, catalog)
            assert graph.y is not None
            num_classes = graph.task.num_classes
            store = TaskStore(folder / id)
            if store.num_tasks():
                continue
            raw, tasks = multihop(graph), []
            for labels in PER_CLASS:
                for seed in range(seeds):
                    nodes = few(graph.y.numpy(), labels, np.random.default_rng([seed, labels]))
                    found = fit_experts(
                        graph, raw, torch.from_numpy(nodes), num_classes=num_classes, seed=seed
                    )
                    assert found is not None
                    shown = torch.zeros(graph.num_nodes, dtype=torch.bool)
                    shown[nodes] = True
                    tasks.append(
                        SolvedTask(
                            kind=f"few:{labels}",
                            source=f"{group}/{id}",
                            rowptr=graph.rowptr,
                            col=graph.col,
                            y=graph.y,
                            shown=shown,
                            names=found[0].names,
                            log_probs=found[1].unflatten(1, (len(found[0].names), -1)),
                            held_out=found[0].held_out,
                        )
                    )
            store.write(0, tasks)
            print(id, graph.num_nodes, num_classes, len(tasks), flush=True)


def part_of(id: str, catalog: Any) -> Any:
    """Return a prepared graph of at most MAX_NODES nodes."""
    from dataclasses import replace

    import numpy as np
    import torch
    from scipy import sparse

    from graphfm.graphs.features.position import encode_positions
    from graphfm.graphs.features.prepare import prepare
    from graphfm.training.tasks.structures import choose_part

    graph = prepare(catalog.load(id))
    if graph.num_nodes <= MAX_NODES:
        return graph
    rowptr, col = graph.rowptr.numpy(), graph.col.numpy()
    nodes = choose_part(rowptr, col, MAX_NODES, np.random.default_rng(0))
    shape = (graph.num_nodes, graph.num_nodes)
    whole = sparse.csr_array((np.ones(len(col), np.float32), col, rowptr), shape=shape)
    part = whole[nodes][:, nodes]
    part.sort_indices()
    rowptr = torch.from_numpy(part.indptr.astype(np.int64))
    col = torch.from_numpy(part.indices.astype(np.int64))
    assert graph.y is not None
    y = graph.y[nodes]
    seen = torch.bincount(y[y >= 0], minlength=graph.task.num_classes) >= 2
    place = torch.where(seen, seen.cumsum(0) - 1, -1)
    y = torch.where(y >= 0, place[y.clamp(min=0)], -1)
    return replace(
        graph,
        rowptr=rowptr,
        col=col,
        x=graph.x[nodes],
        pe=encode_positions(rowptr, col, time_limit_s=60).pe,
        y=y,
        task=graph.task.model_copy(update={"num_classes": int(seen.sum())}),
        train_mask=None,
        val_mask=None,
        test_mask=None,
        node_ids=None,
    )


def few(y: Any, labels: int, rng: Any) -> Any:
    """Choose nodes: ``labels`` of each class, but never more than half of a class."""
    import numpy as np

    found = []
    for c in range(y.max() + 1):
        nodes = rng.permutation(np.flatnonzero(y == c))
        found.append(nodes[: min(labels, len(nodes) // 2)])
    return np.sort(np.concatenate(found))


def measure(folder: Path, networks: Sequence[Path], done: Sequence[Row]) -> Iterator[Row]:
    """Return loss and accuracy of every model on every task, without those that are done."""
    import torch

    from graphfm.model.heads.classify import TRUST, pool_log_probs, trust_in_held_out
    from graphfm.training.incontext import load_network
    from graphfm.training.incontext_step import pack_of
    from graphfm.training.tasks.store import TaskStore

    torch.set_num_threads(1)
    models = {str(path): load_network(path) for path in networks}
    known = {(row["graph"], row["number"], row["model"]) for row in done}
    for group, ids in KEPT_OUT.items():
        for id in ids:
            store = TaskStore(folder / id)
            for number in range(2 * len(PER_CLASS) * 9):
                try:
                    task = store.read(number)
                except IndexError:
                    break
                assert task is not None
                wanted = [m for m in (*POOLS, *models) if (id, number, m) not in known]
                if not wanted:
                    continue
                num_classes, hidden = task.log_probs.shape[2], (task.y >= 0) & ~task.shown
                no_trees = torch.tensor([name != "trees" for name in task.names])
                by = trust_in_held_out(float(task.shown.sum()) / num_classes)
                pools = {}
                for name, trust, kept in zip(
                    POOLS, (TRUST, by, by), (no_trees, no_trees, no_trees | True), strict=True
                ):
                    weight = (-trust * task.held_out[kept]).expand(len(task.y), -1)
                    pools[name] = pool_log_probs(task.log_probs[:, kept], weight)
                pack = pack_of(task, (~no_trees).numpy())
                for model in wanted:
                    with torch.no_grad():
                        logits = pools[model] if model in pools else models[model](pack)
                    log_probs, y = logits.log_softmax(dim=1)[hidden], task.y[hidden]
                    yield {
                        "group": group,
                        "graph": id,
                        "labels": int(task.kind.split(":")[1]),
                        "number": number,
                        "model": model,
                        "loss": -float(log_probs.gather(1, y[:, None]).mean())
                        / math.log(num_classes),
                        "accuracy": float((log_probs.argmax(dim=1) == y).float().mean()),
                    }


def table(rows: Sequence[Row]) -> str:
    """Return a table of differences to the pool, with intervals over groups."""
    lines = ["| labels a class | model | loss / log C | change | accuracy | change | won / lost |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    models = list(dict.fromkeys(row["model"] for row in rows))
    for labels in PER_CLASS:
        for model in models:
            cells = [str(labels), model]
            for field in ("loss", "accuracy"):
                own, base = (by_group(rows, labels, name, field) for name in (model, "pool"))
                cells.append(f"{sum(own.values()) / len(own):.3f}")
                change = [own[group] - base[group] for group in own]
                cells.append(interval(change))
                if field == "loss":
                    better = sum(x < 0 for x in change), sum(x > 0 for x in change)
            lines.append("| " + " | ".join([*cells, f"{better[0]} / {better[1]}"]) + " |")
    return "\n".join(lines)


def by_group(rows: Sequence[Row], labels: int, model: str, field: str) -> dict[str, float]:
    """Return the mean of each group: over seeds, then over its graphs."""
    graphs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["labels"] == labels and row["model"] == model:
            graphs[row["group"], row["graph"]].append(row[field])
    groups: dict[str, list[float]] = defaultdict(list)
    for (group, _), values in graphs.items():
        groups[group].append(sum(values) / len(values))
    return {group: sum(values) / len(values) for group, values in groups.items()}


def interval(values: Sequence[float]) -> str:
    """Return the mean and its 95% t-interval."""
    from scipy.stats import t

    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))
    half = t.ppf(0.975, len(values) - 1) * deviation / math.sqrt(len(values))
    return f"{mean:+.4f} +- {half:.4f}"


if __name__ == "__main__":
    raise SystemExit(main())
