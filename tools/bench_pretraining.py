"""What pretraining is worth on graphs the model has never seen, beside controls that cost less.

For each graph and seed (which decides the split and, for random trunks, the weights) it fits every
model, and measures test accuracy and the seconds of the fit. A trunk of the same shape with fresh
weights and a closed-form head is the control that counts; ridge on raw multi-hop features, which
both read too, is the other. states-* is the same closed-form head without the raw features: what
the trunk itself carries over. Preparing a graph is the same for all and is not in the seconds.

    python tools/bench_pretraining.py --checkpoint runs/small --out runs/bench/small.json
    python tools/bench_pretraining.py --out runs/bench/small.json --report-only

Each result is a line of OUT.jsonl beside OUT.json, written when it is there; a second call measures
only what is missing. A line carries a key of all it depends on (split, steps, weights), so that
results of another checkpoint are never taken for those of this one.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_report import Row, as_table, markdown, newest_key_only, read_rows, summarise

if TYPE_CHECKING:
    import numpy as np

    from graphfm.graphs.graph import Graph
    from graphfm.model import GraphFM

TRUNKS = (
    "states-pretrained",
    "states-random",
    "probe-pretrained",
    "probe-random",
    "decoder-pretrained",
    "decoder-random",
)
BASELINES = ("ridge", "gcn", "majority", "label-propagation")
MODELS = (*TRUNKS, *BASELINES)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, then report; exit code 1 if a fit failed."""
    args = parse(argv)
    # Before numpy and torch are imported, here and in the workers: they read it once.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    lines = args.out.with_suffix(".jsonl")
    keys = model_keys(args)
    num_failed = 0
    if not args.report_only:
        graphs = args.graphs or evaluation_graphs()
        if args.checkpoint:
            refuse_overlap(args.checkpoint, graphs)
        num_failed = measure(args, graphs, keys, lines)
    rows = [r for r in read_rows(lines) if keys.get(r["model"], r["key"]) == r["key"]]
    rows = newest_key_only(rows)
    table = as_table(rows, args.models, args.graphs)
    if not table:
        print(f"{lines} holds no results of these models and graphs", file=sys.stderr)
        return 1
    summary = summarise(table, args.models)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    rows = [row for by_model in table.values() for s in by_model.values() for row in s.values()]
    results = {"settings": settings, "keys": keys, "summary": summary, "rows": rows}
    text = json.dumps(results, indent=1)
    args.out.with_suffix(".part").write_text(text + "\n", encoding="utf-8")
    os.replace(args.out.with_suffix(".part"), args.out)
    print(markdown(summary, args.models))
    if num_failed:
        print(f"{num_failed} fits failed; run again to retry them", file=sys.stderr)
    return 1 if num_failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path, help="run folder of the pretrained model")
    parser.add_argument("--graphs", nargs="+", default=[], help="ids; default: role=evaluation")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 .. SEEDS-1")
    parser.add_argument("--split", default="0.6/0.2/0.2", help="shares of train/val/test")
    parser.add_argument("--steps", type=int, default=20, help="gradient steps of decoder-*")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--out", type=Path, required=True, help="OUT.json; rows go to OUT.jsonl")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    args = parser.parse_args(argv)
    args.models = [m for m in MODELS if m in args.models]
    args.split = [float(s) for s in args.split.split("/")]
    if len(args.split) != 3:
        parser.error("--split needs three shares, for example 0.6/0.2/0.2")
    if args.out.suffix != ".json":
        parser.error(f"--out must end in .json, got {args.out.name}")
    if not args.report_only and not args.checkpoint and set(args.models) & set(TRUNKS):
        parser.error("--checkpoint is needed; without one, choose --models " + " ".join(BASELINES))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return args


def measure(args: argparse.Namespace, graphs: list[str], keys: dict[str, str], lines: Path) -> int:
    """Fit what has no line yet; returns how many fits failed."""
    from tqdm import tqdm

    known = {
        (r["graph"], r["seed"], r["model"], r["key"])
        for r in read_rows(lines)
        if r["accuracy"] is not None
    }
    units = []
    for graph in graphs:
        for seed in range(args.seeds):
            wanted = [m for m in args.models if (graph, seed, m, keys[m]) not in known]
            if wanted:
                units.append((graph, seed, wanted))
    num_fits = sum(len(models) for _, _, models in units)
    num_failed = 0
    run = functools.partial(run_unit, args, keys)
    with tqdm(total=num_fits, unit="fit", file=sys.stderr, disable=num_fits == 0) as bar:

        def keep(row: Row) -> None:
            nonlocal num_failed
            append(lines, row)
            bar.update()
            bar.set_postfix_str(f"{row['graph']} {row['model']}")
            if row["accuracy"] is None:
                num_failed += 1
                bar.write(
                    f"{row['graph']} seed {row['seed']} {row['model']}: {row['error']}", sys.stderr
                )

        if args.jobs == 1:
            for unit in units:
                for row in run(*unit):
                    keep(row)
            return num_failed
        # spawn: a forked child of a process that has used OpenMP threads can hang.
        with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
            waiting = [pool.submit(run_list, args, keys, *unit) for unit in units]
            for done in as_completed(waiting):
                for row in done.result():
                    keep(row)
    return num_failed


def run_list(
    args: argparse.Namespace, keys: dict[str, str], graph: str, seed: int, models: list[str]
) -> list[Row]:
    """``run_unit`` for a worker process."""
    return list(run_unit(args, keys, graph, seed, models))


def run_unit(
    args: argparse.Namespace, keys: dict[str, str], graph: str, seed: int, models: list[str]
) -> Iterator[Row]:
    """Fit some models on one split of one graph."""
    import torch

    from graphfm.graphs.splits import with_split
    from graphfm.training.metrics import accuracy

    torch.set_num_threads(args.threads)
    whole = load_graph(graph)
    split = with_split(whole, tuple(args.split), seed=seed)
    assert split.y is not None and split.test_mask is not None
    y = split.y[split.test_mask].numpy()
    # No model of the table ever holds a test label, whatever it does inside.
    split = split.replace(y=split.y.masked_fill(split.test_mask, -1))
    for model in models:
        row: Row = {
            "graph": graph,
            "num_nodes": whole.num_nodes,
            "seed": seed,
            "model": model,
            "key": keys[model],
            "accuracy": None,
            "num_test": len(y),
        }
        try:
            proba, row["fit_s"], row["predict_s"] = fit_one(args, model, split, seed)
            row["accuracy"] = accuracy(y, proba)
        except Exception as error:  # one graph that fails must not end a night's run
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        yield row


def fit_one(
    args: argparse.Namespace, model: str, graph: Graph, seed: int
) -> tuple[np.ndarray, float, float]:
    """Probabilities of the test nodes, seconds of fitting and of predicting.

    A baseline answers for all nodes in the call that fits it: its seconds are all in the first.
    """
    assert graph.train_mask is not None and graph.test_mask is not None
    if model in BASELINES:
        predict = baseline(model)
        begin = time.perf_counter()
        proba = predict(graph, graph.train_mask, graph.val_mask, seed=seed)
        return proba[graph.test_mask.numpy()], time.perf_counter() - begin, 0.0

    from graphfm.checkpoint import load_model
    from graphfm.estimator import GraphFMClassifier
    from graphfm.model import GraphFM

    tune, trunk = model.split("-")
    start = load_model(args.checkpoint)
    if trunk == "random":
        start = GraphFM.from_config(start.config(), seed=seed)
    if tune == "states":
        return closed_form_on_states(start, graph, seed)
    classifier = GraphFMClassifier(checkpoint=start, tune=tune, seed=seed, max_steps=args.steps)
    begin = time.perf_counter()
    classifier.fit(graph)
    fitted = time.perf_counter()
    proba = classifier.predict_proba(mask=graph.test_mask)
    return proba, fitted - begin, time.perf_counter() - fitted


def closed_form_on_states(
    model: GraphFM, graph: Graph, seed: int
) -> tuple[np.ndarray, float, float]:
    """Ridge on the states alone: scores of the test nodes, as ``fit_one`` returns them."""
    import torch

    from graphfm.finetune import SAMPLING, TARGET, adopt, bank_of
    from graphfm.graphs.prepare import prepare
    from graphfm.training.inference import node_states
    from graphfm.training.ridge import fit_ridge

    assert graph.train_mask is not None and graph.test_mask is not None and graph.y is not None
    prepared = prepare(graph)
    begin = time.perf_counter()
    bank = bank_of(prepared, torch.device("cpu"))
    own = adopt(model, prepared, bank)
    nodes = (graph.train_mask & graph.labelled).nonzero().flatten()
    states = node_states(own, bank, 0, nodes, seed=seed, **SAMPLING)
    fit = fit_ridge(states, own.head(TARGET).targets(graph.y[nodes], graph.num_classes))
    fitted = time.perf_counter()
    asked = graph.test_mask.nonzero().flatten()
    states = node_states(own, bank, 0, asked, seed=seed, **SAMPLING)
    proba = (states @ fit.weight + fit.bias).numpy()
    return proba, fitted - begin, time.perf_counter() - fitted


def baseline(model: str) -> Callable[..., np.ndarray]:
    """The function of a baseline: its file has its name."""
    from importlib import import_module

    name = model.replace("-", "_")
    function: Callable[..., np.ndarray] = getattr(import_module(f"graphfm.baselines.{name}"), name)
    return function


@functools.lru_cache(maxsize=1)  # one: two large graphs at once are memory for nothing
def load_graph(graph: str) -> Graph:
    """A graph of the catalog, its features and encodings in the cache."""
    from graphfm.graphs.catalog import Catalog
    from graphfm.graphs.prepare import prepare

    loaded = Catalog.read().load(graph)
    prepare(loaded)
    return loaded


def evaluation_graphs() -> list[str]:
    """All graphs that models are judged on and that have one class per node."""
    from graphfm.graphs.catalog import Catalog

    entries = Catalog.read().entries.values()
    return [e.id for e in entries if e.role == "evaluation" and e.task == "classify"]


def refuse_overlap(checkpoint: Path, graphs: list[str]) -> None:
    """A model is not judged on what it was trained on, nor on a graph of the same group."""
    from graphfm.checkpoint import load_model
    from graphfm.errors import DataError
    from graphfm.graphs.catalog import Catalog

    catalog = Catalog.read()
    trained = {name: catalog.entries.get(name) for name in load_model(checkpoint).specs}
    groups = {entry.group for entry in trained.values() if entry}
    seen = [g for g in graphs if g in trained or catalog.entry(g).group in groups]
    if seen:
        raise DataError(
            "GFM137",
            f"the checkpoint was trained on {', '.join(seen)}, or on graphs of the same group",
            where=str(checkpoint),
            fix="leave them out of --graphs, or out of the mixture",
        )


def model_keys(args: argparse.Namespace) -> dict[str, str]:
    """A short hash of all that a model's results depend on; none without a checkpoint to read."""
    weights = shape = ""
    if args.checkpoint and set(args.models) & set(TRUNKS):
        from graphfm.checkpoint import load_model

        model = load_model(args.checkpoint)
        shape = json.dumps(model.config(), sort_keys=True)
        digest = hashlib.sha256(shape.encode())
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        weights = digest.hexdigest()
    keys = {}
    for model_name in args.models:
        depends: list[Any] = [args.split]
        if model_name in TRUNKS:
            if not args.checkpoint:
                continue
            tune, trunk = model_name.split("-")
            depends += [weights if trunk == "pretrained" else shape]
            depends += [args.steps] if tune == "decoder" else []
        keys[model_name] = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:12]
    return keys


def append(lines: Path, row: Row) -> None:
    """Add a line; one that an interrupted run left half-written is ended first."""
    with lines.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(row).encode() + b"\n")


if __name__ == "__main__":
    from graphfm.errors import GraphFMError

    try:
        sys.exit(main())
    except GraphFMError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
