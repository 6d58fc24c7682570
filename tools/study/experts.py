"""What each closed-form expert is worth in the pool, on graphs to learn from.

For each graph, split and seed it fits a pool once and answers test nodes with all of it, without
each expert in turn, without the correction on validation nodes, with equal trust, and by its best
expert alone. No graph of `evaluation` is among them: what is chosen here is judged elsewhere.

    python tools/study/experts.py --out docs/results/experts.json --seeds 2
    python tools/study/experts.py --out docs/results/experts.json --report-only

Each fit is a line of OUT.jsonl; a second call measures only what is missing. Differences are taken
on each graph, averaged over the graphs of a group, and their interval is over groups.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph

SPLITS = {"50/25/25": (0.5, 0.25, 0.25), "10/10/80": (0.1, 0.1, 0.8)}
POOL = "pool"
MOST_NODES = 25_000  # larger graphs are left out
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--graphs", nargs="+", help="ids; default: role=pretraining, not synthetic")
    parser.add_argument("--start", default="random", help="weights of the trunk")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 .. SEEDS-1")
    parser.add_argument("--out", type=Path, required=True, help="OUT.json; rows go to OUT.jsonl")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported
    lines = args.out.with_suffix(".jsonl")
    if not args.report_only:
        _measure(args, lines)
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    report = summary(rows)
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


def _measure(args: argparse.Namespace, lines: Path) -> None:
    import torch
    from tqdm import tqdm

    from graphfm.benchmark.suite import read_suite
    from graphfm.model.graphfm import GraphFM

    torch.set_num_threads(1)
    suite = read_suite("pretraining")
    suite = suite.only(args.graphs) if args.graphs else suite
    lines.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if lines.exists():
        done = {_key(json.loads(line)) for line in lines.read_text("utf-8").splitlines()}
    model = GraphFM.from_pretrained(args.start)
    for id in tqdm(list(suite.groups), unit="graph", disable=None):
        graph = suite.load(id)
        if graph.num_nodes > MOST_NODES or graph.y is None or graph.y.ndim > 1:
            continue
        for split in SPLITS:
            for seed in range(args.seeds):
                row = {"graph": id, "group": suite.groups[id], "split": split, "seed": seed}
                if _key(row) in done:
                    continue
                row["scores"] = _scores(graph, model, split, seed)
                with lines.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def _key(row: Row) -> tuple[Any, ...]:
    return row["graph"], row["split"], row["seed"]


def _scores(graph: Graph, model: Any, split: str, seed: int) -> dict[str, list[float]]:
    """Accuracy and loss / log C on test nodes of every variant; empty where no fit can be."""
    import torch

    from graphfm.errors import GraphFMError
    from graphfm.fitting.finetune import finetune
    from graphfm.fitting.probe import TARGET, bank_of, expert_log_probs, pool_correction
    from graphfm.graphs.features.prepare import prepare
    from graphfm.graphs.splits import stratified_split

    assert graph.y is not None
    prepared = prepare(graph)
    train, val, test = stratified_split(graph.y, SPLITS[split], seed=seed, ids=graph.ids())
    try:
        fitted = finetune(
            prepared, model, train_mask=train, val_mask=val, tune="auto", max_steps=0, seed=seed
        )
    except GraphFMError:
        return {}
    if fitted.experts is None:
        return {}
    bank = bank_of(prepared, torch.device("cpu"), like=fitted.scaling, experts=fitted.experts)
    head = fitted.model.head(TARGET)
    names = ("state", *fitted.experts.names)
    halves = (val & graph.labelled).nonzero().flatten()[::2]
    tests = (test & graph.labelled).nonzero().flatten()
    found = {
        k: expert_log_probs(fitted.model, bank, v, seed=seed)
        for k, v in (("val", halves), ("test", tests))
    }
    none = torch.zeros(len(names)), torch.zeros(())

    def judged(kept: Sequence[int], correct: bool = True, trust: bool = True) -> list[float]:
        own = head.held_out.clone()
        head.held_out = own[list(kept)] if trust else torch.zeros(len(kept))
        parts = {k: (p[:, list(kept)], mask[:, list(kept)]) for k, (p, mask) in found.items()}
        free = none[0][: len(kept)], none[1]
        if correct and len(halves):
            free = pool_correction(head, *parts["val"], graph.y[halves])
        log_probs, answers = parts["test"]
        logits = head.pool_experts(log_probs.double(), answers, *free)
        loss = float(head.loss(logits, graph.y[tests]).mean())
        head.held_out = own
        return [float((logits.argmax(dim=1) == graph.y[tests]).double().mean()), loss]

    every = range(len(names))
    scores = {
        POOL: judged(every),
        "no correction": judged(every, correct=False),
        "equal trust": judged(every, trust=False),
        "equal trust, no correction": judged(every, correct=False, trust=False),
        "best expert alone": judged([int(head.held_out.argmin())], correct=False),
    }
    for place, name in enumerate(names):
        scores[f"without {name}"] = judged([e for e in every if e != place])
        scores[f"{name} alone"] = judged([place], correct=False)
    return scores


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Each variant against the pool: points of accuracy by split, and over groups with interval."""
    import numpy as np

    by_variant: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        for name, (right, loss) in row["scores"].items():
            if name != POOL:
                whole = row["scores"][POOL]
                found = by_variant[name][row["group"]]
                found[row["split"]].append(100 * (right - whole[0]))
                found["loss"].append(loss - whole[1])
    variants = {}
    for name, groups in by_variant.items():
        points = np.array(
            [np.mean([v for s in SPLITS for v in g.get(s, [])]) for g in groups.values()]
        )
        losses = np.array([np.mean(g["loss"]) for g in groups.values()])
        variants[name] = {
            "groups": len(points),
            "points": float(points.mean()),
            "interval": _half(points),
            "won": int((points > 0).sum()),
            "lost": int((points < 0).sum()),
            "loss": float(losses.mean()),
            "loss_interval": _half(losses),
        }
    counted = [row for row in rows if row["scores"]]
    return {
        "fits": len(counted),
        "graphs": len({row["graph"] for row in counted}),
        "groups": len({row["group"] for row in counted}),
        "variants": variants,
    }


def _half(values: Any) -> float:
    """Half the width of the 95% t-interval of a mean."""
    import numpy as np
    from scipy import stats

    if len(values) < 2:
        return float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(stats.t.ppf(0.975, len(values) - 1)) * error


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        f"{report['fits']} fits of {report['graphs']} graphs in {report['groups']} groups.\n",
        "| instead of the pool | points (95%) | groups won / lost | loss / log C (95%) |",
        "|---|---:|---:|---:|",
    ]
    ranked = sorted(report["variants"].items(), key=lambda item: item[1]["points"])
    for name, v in ranked:
        lines.append(
            f"| {name} | {v['points']:+.2f} +- {v['interval']:.2f} | {v['won']} / {v['lost']} | "
            f"{v['loss']:+.4f} +- {v['loss_interval']:.4f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
