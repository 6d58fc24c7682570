"""What pretraining objectives are worth, on graphs that none of the checkpoints has seen.

Each trunk's states are read by closed-form heads: `state` = ridge on the state alone, `state+raw` =
beside the raw multi-hop features, as in a fit, `probe` = the whole pool of experts. Reported are
loss / log C and accuracy on test nodes, and each model against the first one: the mean difference
over groups of graphs (graphs of one group share nodes or features) with its bootstrap interval, and
a sign test.

    EX='data.exclude=[wiki-tadw,nba,polbooks]'
    graphfm pretrain local-small "$EX" --out runs/a
    graphfm pretrain graphfm-small "$EX" --out runs/b
    python tools/compare_objectives.py random supervised=runs/a episodic=runs/b \
        --graphs wiki-tadw,nba,polbooks --out docs/results/objectives.json

A model is `random` (fresh weights of the next checkpoint's shape, others with each seed) or
NAME=FOLDER. Cells are kept under --cells: a second call makes what is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

HEADS = ("state", "state+raw", "probe")
RANDOM = "random"


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing, then report."""
    args = parse(argv)
    torch.set_num_threads(1)
    for name, folder, id, split, seed in missing(args):
        found = measured(args, name, folder, id, split, seed)
        path = cell(args, name, id, split, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".tmp")
        whole.write_text(json.dumps(found), encoding="utf-8")
        whole.replace(path)
    result = summarise(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(result))
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="random, or NAME=FOLDER; the first = reference")
    parser.add_argument("--graphs", required=True, help="ids, with commas between")
    parser.add_argument("--splits", nargs="+", default=["50/25/25"], help="train/val/test")
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 .. SEEDS-1")
    parser.add_argument("--most", type=int, default=2000, help="test nodes of a graph")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--cells", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    args.graphs = args.graphs.split(",")
    pairs = [model.partition("=") for model in args.models]
    if any(not folder and name != RANDOM for name, _, folder in pairs) or len(pairs) < 2:
        parser.error("at least two models, each of them random or NAME=FOLDER")
    args.models = {name: folder for name, _, folder in pairs}
    folders = [folder for folder in args.models.values() if folder]
    if not folders:
        parser.error("random has the shape of a checkpoint: name one")
    if RANDOM in args.models:
        args.models[RANDOM] = folders[0]
    return args


def cell(args: argparse.Namespace, name: str, id: str, split: str, seed: int) -> Path:
    """Where one measurement lies."""
    path: Path = args.cells / f"{name}.{id}.{split.replace('/', '-')}.{seed}.json"
    return path


def missing(args: argparse.Namespace) -> Iterator[tuple[str, str, str, str, int]]:
    """Measurements that are still to be made, graph by graph."""
    for id in args.graphs:
        for split in args.splits:
            for seed in range(args.seeds):
                for name, folder in args.models.items():
                    if not cell(args, name, id, split, seed).is_file():
                        yield name, folder, id, split, seed


def measured(
    args: argparse.Namespace, name: str, folder: str, id: str, split: str, seed: int
) -> dict[str, dict[str, float]]:
    """Loss / log C and accuracy of each head, on at most ``--most`` test nodes."""
    from graphfm.graphs.catalog import Catalog
    from graphfm.graphs.prepare import prepare
    from graphfm.graphs.splits import stratified_split
    from graphfm.model import GraphFM
    from graphfm.sampling.batch import some_of

    model = GraphFM.from_pretrained(folder)
    if id in model.about.get("not_judged_on", ()):
        raise SystemExit(f"{folder} must not be judged on {id}: its corpus has it, or its group")
    if name == RANDOM:
        model = GraphFM.from_config(model.config(), seed=1000 + seed)
    graph = prepare(Catalog.read().load(id))
    shares = [float(part) / 100 for part in split.split("/")]
    masks = stratified_split(graph.y, tuple(shares), seed=seed, ids=graph.node_ids)
    asked = some_of(masks[2].nonzero().flatten(), args.most, seed=seed)
    return {
        head: scored(head, model, graph, (masks[0], masks[1]), asked, seed) for head in args.heads
    }


def scored(
    head: str, model: Any, graph: Any, masks: tuple[Any, Any], asked: Any, seed: int
) -> dict[str, float]:
    """Of one closed-form head."""
    from graphfm.finetune import SAMPLING, adopt, bank_of, finetune
    from graphfm.training.calibration import answer
    from graphfm.training.inference import node_logits
    from graphfm.training.probe import answer_by_states, solve_head

    train, val = masks
    y = graph.y[asked]
    if head == "probe":
        fit = finetune(graph, model, train_mask=train, val_mask=val, tune="probe", seed=seed)
        bank = bank_of(graph, model.device, like=fit.scaling, experts=fit.experts)
        said = answer(fit.model, bank, asked, fit.calibration, coverage=None, seed=seed, **SAMPLING)
        log_p = torch.from_numpy(np.log(np.maximum(said.proba, 1e-9)))
    else:
        bank = bank_of(graph, model.device)
        own = adopt(model, graph, bank)
        nodes = train.nonzero().flatten()
        if head == "state":
            log_p = answer_by_states(own, bank, nodes, asked, seed=seed)
        else:
            solve_head(own, bank, nodes, seed=seed)
            log_p = node_logits(own, bank, 0, asked, seed=seed, **SAMPLING).log_softmax(dim=1)
    loss = -log_p[torch.arange(len(y)), y].mean() / math.log(log_p.shape[1])
    return {"loss": float(loss), "accuracy": float((log_p.argmax(dim=1) == y).double().mean())}


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """Means by graph, and every model against the first."""
    from dataclasses import asdict

    from graphfm.benchmark.statistics import pair
    from graphfm.graphs.catalog import Catalog

    group_of = {id: Catalog.read().entries[id].group for id in args.graphs}
    names = list(args.models)
    result: dict[str, Any] = {
        "models": names,
        "graphs": group_of,
        "seeds": args.seeds,
        "splits": {},
    }
    for split in args.splits:
        table: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        against: dict[str, dict[str, dict[str, Any]]] = {}
        for head in args.heads:
            table[head] = {
                id: {name: over_seeds(args, name, id, split, head) for name in names}
                for id in args.graphs
            }
            groups = sorted(set(group_of.values()))

            def of_group(group: str, name: str, what: str, rows: Any = table[head]) -> float:
                mine = [rows[id][name][what] for id in args.graphs if group_of[id] == group]
                return float(np.mean(mine))

            against[head] = {}
            for name in names[1:]:
                found = {}
                for what, sign in (("loss", -1.0), ("accuracy", 1.0)):
                    ours, theirs = (
                        np.array([sign * of_group(group, n, what) for group in groups])
                        for n in (name, names[0])
                    )
                    found[what] = asdict(pair(ours, theirs))
                against[head][name] = found
        result["splits"][split] = {"table": table, "against": against}
    return result


def over_seeds(
    args: argparse.Namespace, name: str, id: str, split: str, head: str
) -> dict[str, float]:
    """Mean over seeds of loss and accuracy."""
    rows = [
        json.loads(cell(args, name, id, split, seed).read_text(encoding="utf-8"))[head]
        for seed in range(args.seeds)
    ]
    return {what: float(np.mean([row[what] for row in rows])) for what in ("loss", "accuracy")}


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    names = result["models"]
    groups = len(set(result["graphs"].values()))
    lines = []
    for split, of_split in result["splits"].items():
        lines += [
            f"{split}, {len(result['graphs'])} unseen graphs in {groups} groups, "
            f"{result['seeds']} seeds; gains over {names[0]}, mean over groups (95%)",
            "",
            "| head | model | loss / log C | accuracy | less loss | groups won / lost | sign p | "
            "accuracy, points | groups won / lost | sign p |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for head, rows in of_split["table"].items():
            for name in names:
                loss, accuracy = (
                    np.mean([row[name][what] for row in rows.values()])
                    for what in ("loss", "accuracy")
                )
                cells = [head, name, f"{loss:.4f}", f"{100 * accuracy:.1f}%"]
                for what, times, digits in (("loss", 1, 4), ("accuracy", 100, 2)):
                    p = of_split["against"][head].get(name, {}).get(what)
                    if p is None:
                        cells += ["", "", ""]
                        continue
                    gain, low, high = (times * p[of] for of in ("gain", "low", "high"))
                    cells += [
                        f"{gain:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})",
                        f"{p['won']} / {p['lost']}",
                        f"{p['sign_p']:.3f}",
                    ]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
