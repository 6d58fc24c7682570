"""Ablation of the pool of experts on pretraining graphs: each expert left out, and alone.

For each graph, split and seed a pool is fitted once. It predicts the test nodes with all experts,
without each expert in turn, without the correction on validation nodes, with equal weights, and by
the best expert alone. No evaluation graph is used, so results may guide the choice of experts.

    python tools/study/experts.py --out docs/results/experts.json --seeds 2

Each fit is a line of OUT.jsonl; a second call measures only what is missing. Differences are
averaged over the graphs of a group, and their 95% t-interval is over groups.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPLITS = {"50/25/25": (0.5, 0.25, 0.25), "10/10/80": (0.1, 0.1, 0.8)}
POOL = "pool"
MAX_NODES = 25_000  # larger graphs are left out
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--graphs", nargs="+", help="ids; default: role=pretraining, not synthetic")
    parser.add_argument("--start", default="random", help="weights of the model")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 .. SEEDS-1")
    parser.add_argument("--out", type=Path, required=True, help="OUT.json; rows go to OUT.jsonl")
    args = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported
    lines = args.out.with_suffix(".jsonl")
    measure(args, lines)
    report = summary([json.loads(line) for line in lines.read_text("utf-8").splitlines()])
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


def measure(args: argparse.Namespace, lines: Path) -> None:
    """Append a line for each fit that is missing."""
    import torch
    from tqdm import tqdm

    from graphfm.benchmark.suite import read_suite
    from graphfm.model.graphfm import GraphFM

    torch.set_num_threads(1)
    suite = read_suite("pretraining")
    suite = suite.only(args.graphs) if args.graphs else suite
    lines.parent.mkdir(parents=True, exist_ok=True)
    lines.touch()
    rows = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    done = {(row["graph"], row["split"], row["seed"]) for row in rows}
    model = GraphFM.from_pretrained(args.start)
    for id in tqdm(list(suite.groups), unit="graph", disable=None):
        graph = suite.load(id)
        if graph.num_nodes > MAX_NODES or graph.y is None or graph.y.ndim > 1:
            continue
        for split in SPLITS:
            for seed in set(range(args.seeds)) - {s for g, p, s in done if (g, p) == (id, split)}:
                row = {"graph": id, "group": suite.groups[id], "split": split, "seed": seed}
                row["scores"] = scores_of(graph, model, split, seed)
                with lines.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


def scores_of(graph: Any, model: Any, split: str, seed: int) -> dict[str, list[float]]:
    """Return accuracy and loss / log C on test nodes of every variant; empty without a pool."""
    import torch

    from graphfm.errors import GraphFMError
    from graphfm.fitting.finetune import finetune
    from graphfm.fitting.probe import TARGET, bank_of, expert_log_probs, pool_correction
    from graphfm.graphs.features.prepare import prepare
    from graphfm.graphs.splits import stratified_split

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
    predicted = [expert_log_probs(fitted.model, bank, v, seed=seed) for v in (halves, tests)]

    def score(kept: Sequence[int], correct: bool = True, weigh: bool = True) -> list[float]:
        kept, own = list(kept), head.held_out.clone()
        head.held_out = own[kept] if weigh else torch.zeros(len(kept))
        on_val, on_test = ((p[:, kept], mask[:, kept]) for p, mask in predicted)
        free = torch.zeros(len(kept)), torch.zeros(())
        if correct and len(halves):
            free = pool_correction(head, *on_val, graph.y[halves])
        logits = head.pool_experts(on_test[0].double(), on_test[1], *free)
        loss = float(head.loss(logits, graph.y[tests]).mean())
        head.held_out = own
        return [float((logits.argmax(dim=1) == graph.y[tests]).double().mean()), loss]

    every = range(len(names))
    scores = {
        POOL: score(every),
        "no correction": score(every, correct=False),
        "equal weights": score(every, weigh=False),
        "equal weights, no correction": score(every, correct=False, weigh=False),
        "best expert alone": score([int(head.held_out.argmin())], correct=False),
    }
    for place, name in enumerate(names):
        scores[f"without {name}"] = score([e for e in every if e != place])
        scores[f"{name} alone"] = score([place], correct=False)
    return scores


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return each variant against the pool: points of accuracy and loss, mean over groups."""
    import numpy as np

    from graphfm.benchmark.statistics import mean_interval

    gains: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, (right, loss) in row["scores"].items():
            whole = row["scores"][POOL]
            gains[name][row["group"]].append((100 * (right - whole[0]), loss - whole[1]))
    gains.pop(POOL, None)
    variants = {}
    for name, by_group in gains.items():
        points, losses = np.array([np.mean(found, axis=0) for found in by_group.values()]).T
        mean, half = mean_interval(points)
        loss, loss_half = mean_interval(losses)
        variants[name] = {
            **{"groups": len(points), "points": mean, "interval": half},
            **{"won": int((points > 0).sum()), "lost": int((points < 0).sum())},
            **{"loss": loss, "loss_interval": loss_half},
        }
    counted = [row for row in rows if row["scores"]]
    sizes = {f"{key}s": len({row[key] for row in counted}) for key in ("graph", "group")}
    return {"fits": len(counted), **sizes, "variants": variants}


def table(report: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    lines = [
        f"{report['fits']} fits of {report['graphs']} graphs in {report['groups']} groups.\n",
        "| instead of the pool | points (95%) | groups won / lost | loss / log C (95%) |",
        "|---|---:|---:|---:|",
    ]
    for name, v in sorted(report["variants"].items(), key=lambda item: item[1]["points"]):
        half, loss_half = (v[key] or float("nan") for key in ("interval", "loss_interval"))
        lines.append(
            f"| {name} | {v['points']:+.2f} +- {half:.2f} | {v['won']} / {v['lost']} | "
            f"{v['loss']:+.4f} +- {loss_half:.4f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
