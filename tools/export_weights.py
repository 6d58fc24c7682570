"""Export a pretraining run as weights for the package.

    python tools/export_weights.py runs/small --out graphfm/weights/small

Writes the shared weights and the universal adapter in float16, the data for the novelty of a graph,
and a model card with pretraining graphs, licences, audit and training receipt. Adapters and heads
of single graphs and the optimizer are left out. Refuses pretraining graphs that overlap with an
evaluation graph. ``--scores`` adds the table.json of ``graphfm benchmark`` to the card. An earlier
export can be given in place of a run: it gets new scores and keeps everything else.
Outside graphfm/weights the weights may have any size.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphfm.checkpoint.folder import find_checkpoint
from graphfm.checkpoint.pretrained import SHIPPED, WEIGHTS
from graphfm.errors import GraphFMError
from graphfm.fitting.inference import node_states
from graphfm.fitting.probe import SAMPLING, adopt, bank_of
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.catalog.sources.synthetic import Config
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.model.graphfm import GraphFM
from graphfm.training.pretrain import audit_corpus

MAX_BYTES = 4_000_000  # bytes; everybody who installs the package downloads them
CURVE_POINTS = 12
KEPT_OF_RECEIPT = ("steps", "targets_seen", "unique_targets", "flops", "seconds", "nodes", "params")


class CannotShip(Exception):
    """Raised for a checkpoint that cannot become part of the package."""


def main(argv: list[str] | None = None) -> int:
    """Export a run; return 0, or the exit code of an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="run or checkpoint folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default=SHIPPED)
    parser.add_argument("--scores", type=Path, help="table.json of graphfm benchmark")
    args = parser.parse_args(argv)
    try:
        report = export(args.checkpoint, args.out, name=args.name, scores=args.scores)
    except GraphFMError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except CannotShip as error:
        print(f"{args.checkpoint} cannot ship: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=1))
    return 0


def export(given: Path, out: Path, *, name: str, scores: Path | None = None) -> dict[str, Any]:
    """Write the exported checkpoint; return its size and other facts.

    Args:
        given: Run folder, checkpoint folder, or an earlier export.
        out: Folder to write.
        name: Name of the weights.
        scores: ``table.json`` of a benchmark. Default: keep the scores of an earlier export.

    Raises:
        DataError: GFM147 for a corpus that overlaps with an evaluation graph.
        CannotShip: For a checkpoint without pretraining graphs, or with too many weights.
    """
    path = find_checkpoint(given)
    model = GraphFM.from_checkpoint(path)
    corpus = model.about.get("corpus")
    if not corpus or "estimator" in model.about:
        raise CannotShip("it does not name the graphs that it was pretrained on")
    catalog = Catalog.read()
    unknown = sorted(set(corpus) - set(catalog.entries))
    if unknown:
        raise CannotShip(f"the catalog has no entry for {', '.join(unknown[:5])}")
    audited = audit_corpus(corpus, catalog)
    for graph in list(model.specs):
        model.drop_graph(graph)
    halves = halved(model)
    size = sum(t.nbytes for each in (halves, *model.extra.values()) for t in each.values())
    if size > MAX_BYTES and WEIGHTS in out.resolve().parents:
        raise CannotShip(f"{size:,} bytes of weights, but the wheel may have {MAX_BYTES:,}")
    entries = [catalog.entries[id] for id in corpus]
    licenses: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        licenses[entry.license].append(entry.id)
    if "precision" not in model.about:  # not for an earlier export, whose run folder is unknown
        run = path.parent.parent
        receipt = _json(run / "run.json")
        model.about |= {
            "receipt": {k: v for k, v in receipt.items() if k in KEPT_OF_RECEIPT},
            "curve": curve(run / "metrics.jsonl", model.about.get("step", 0)),
            "rounding": f"{rounding(model, halves):.1e} of its length",
        }
    model.about |= {
        "name": name,
        "precision": "float16",
        **audited,
        "licenses": dict(sorted(licenses.items())),
        "personal": [entry.id for entry in entries if entry.personal],
        # Re-exporting a folder keeps its scores.
        "scores": model.about.get("scores") if scores is None else scores_of(_json(scores)),
    }
    model.save_pretrained(out, weights=halves)
    return {
        "out": str(out),
        "bytes": sum(p.stat().st_size for p in out.iterdir()),
        "params": model.num_params(),
        "graphs": len(corpus),
        "audit": "clean",
        "audited_by_entry_only": audited["audit"]["declared_only"],
        "rounding": model.about["rounding"],
    }


def halved(model: GraphFM) -> dict[str, Tensor]:
    """Return all weights in float16.

    Raises:
        CannotShip: If a weight is beyond the range of float16 and would become infinite.
    """
    weights = model.state_dict()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    bad = [k for k, v in halves.items() if not v.isfinite().all()]
    if bad:
        raise CannotShip(f"values too large for float16: {', '.join(bad[:5])}")
    return halves


@torch.no_grad()
def rounding(model: GraphFM, halves: dict[str, Tensor]) -> float:
    """Return the largest change of a node state by rounding, relative to its length."""
    prepared = prepare(probe_graph(), cache=False)
    bank = bank_of(prepared, torch.device("cpu"))
    rounded = copy.deepcopy(model)
    rounded.load_state_dict(halves)
    nodes = torch.arange(prepared.num_nodes)
    one, other = (
        node_states(adopt(each, prepared, bank), bank, 0, nodes, seed=0, **SAMPLING).double()
        for each in (model, rounded)
    )
    return float(((one - other).norm(dim=1) / one.norm(dim=1)).max())


def probe_graph() -> Graph:
    """Return a typical graph: 300 nodes, homophilous, with features."""
    drawn = Config(
        seed=0, num_nodes=300, mean_degree=6.0, num_classes=3, homophily=0.7,
        num_features=32, feature_signal=1.0,
    )  # fmt: skip
    return drawn.build(name="probe", data=Path("unused"))


def curve(path: Path, last: int) -> list[tuple[int, float, float]]:
    """Return (step, loss / log C, accuracy) on validation nodes, at some steps and at the last.

    Args:
        path: ``metrics.jsonl`` of the run. If it does not exist, the curve is empty.
        last: Step of the checkpoint.
    """
    if not path.is_file():
        return []
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    points = {
        r["step"]: (r["step"], round(r["loss"], 4), round(r["accuracy"], 4))
        for r in records
        if r["kind"] == "eval" and r["step"] <= last
    }
    found = [points[step] for step in sorted(points)]
    stride = max(1, -(-len(found) // CURVE_POINTS))
    return found[::-1][::stride][::-1]


def scores_of(summary: Any) -> dict[str, Any]:
    """Return the ranks and Elo ratings of a benchmark's ``table.json``, one table per split.

    Raises:
        CannotShip: If the file is of another kind, or the benchmark is not complete.
    """
    try:
        plan, cells = summary["plan"], summary["cells"]
        missing = {k: n for k, n in cells.items() if n and k in ("failed", "not done yet")}
        if missing:
            raise CannotShip(f"the benchmark is not complete: {missing}")
        tables = [
            {
                "title": f"Split {split}, {len(found['ranked'])} graphs, {plan['seeds']} seeds",
                "columns": ["model", "average rank (95%)", "Elo (95%)"],
                "rows": [
                    [name, *(_with_interval(it, *how) for how in (("rank", 2), ("elo", 0)))]
                    for name, it in sorted(found["models"].items(), key=lambda m: m[1]["rank"])
                ],
            }
            for split, found in summary["splits"].items()
        ]
        return {"suite": plan["suite"], "commits": summary["commits"], "tables": tables}
    except (KeyError, TypeError) as error:
        raise CannotShip(f"--scores is not a table.json of graphfm benchmark: {error!r}") from None


def _with_interval(standing: dict[str, Any], name: str, digits: int) -> str:
    low, high = (f"{v:.{digits}f}" for v in standing[f"{name}_interval"])
    return f"{standing[name]:.{digits}f} ({low} to {high})"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


if __name__ == "__main__":
    sys.exit(main())
