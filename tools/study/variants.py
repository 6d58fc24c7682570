"""Compare variants of a pretraining recipe on graphs that no run has learned from.

    python tools/study/variants.py docs/notebook/studies/fields.yaml --out runs/fields --jobs 2
    python tools/study/variants.py --table docs/results/recipe.json    # print a result again

A study is a YAML file: a base recipe, named changes of it, seeds, and unseen graphs. Every variant
is trained with every seed, each run in a process of its own (:class:`Study` lists the fields).
Unseen graphs and their groups are left out of all corpora. Closed-form heads are then fitted to
each unseen graph on the states of each run:

- ``state``: ridge on the states alone;
- ``state+raw``: ridge on the states beside the raw multi-hop features, as in a fit;
- ``probe``: the whole pool of experts.

``corpus`` needs no fit: validation nodes of the graphs that a run learned from.

The result has loss / log C and accuracy of each variant, and its gain over the first one: the mean
difference over groups of graphs with its 95% bootstrap interval, and a sign test. A variant that
changes the seed alone shows the noise. A second call only makes what is missing under --out.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from graphfm.config.load import load_recipe
from graphfm.config.parts import StrictConfig, validated
from graphfm.config.yaml_text import read_yaml
from graphfm.storage import write_json

Head = Literal["corpus", "state", "state+raw", "probe"]
MEASURES = {"loss": -1.0, "accuracy": 1.0}  # sign of a gain
ADDED = ("recipe", "weights", "seed")  # keys of a variant that are not in its recipe


class Study(StrictConfig):
    """Variants of a recipe and how they are compared."""

    recipe: str
    """Base recipe."""
    changes: dict[str, Any] = {}
    """``key: value`` in the recipe's keys, for all runs."""
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    """Changes of each variant by its name; the first variant is the reference. ``recipe`` names
    another base, ``seed`` is added to the seed of the run, ``weights`` names a folder of weights in
    place of a run, or ``random`` for fresh weights of the first run's shape."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs."""
    unseen: tuple[str, ...] = ()
    """Ids of the graphs that heads are fitted to."""
    heads: tuple[Head, ...] = ("state", "state+raw")
    """Measurements of each run."""
    split: tuple[float, float, float] = (0.5, 0.25, 0.25)
    """Shares of training, validation and test nodes of an unseen graph."""
    split_seeds: int = Field(default=1, ge=1)
    """Splits of each unseen graph."""
    most: int = Field(default=2000, ge=1)
    """Limit of test nodes of a graph."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train and fit what is missing, then report; return 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("study", type=Path, nargs="?", help="YAML file")
    parser.add_argument("--out", type=Path, help="folder of runs, fits and results.json")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, one thread each")
    parser.add_argument("--table", type=Path, help="print the table of a result file; run nothing")
    args = parser.parse_args(argv)
    if args.table:
        print(markdown(json.loads(args.table.read_text(encoding="utf-8"))))
        return 0
    if args.study is None or args.out is None:
        parser.error("name a study and --out, or --table")
    study: Study = validated(Study, read_yaml(args.study))
    cells = [(name, seed) for seed in study.seeds for name in study.variants]
    with ThreadPoolExecutor(args.jobs) as pool:
        ended = list(pool.map(lambda cell: train(study, args.out, *cell), cells))
    failed = {name for (name, _), ok in zip(cells, ended, strict=True) if not ok}
    first, *others = study.variants
    kept = [first, *(name for name in others if name not in failed)]
    if first in failed or not others:
        return 1
    result = compare(study, args.out, kept)
    write_json(args.out / "results.json", result)
    print(markdown(result))
    return 1 if failed else 0


def run_folder(study: Study, out: Path, name: str, seed: int) -> Path:
    """Return the folder of a variant's weights; random ones have the shape of the first run."""
    weights = study.variants[name].get("weights")
    if weights == "random":
        first = next(each for each, keys in study.variants.items() if "weights" not in keys)
        return run_folder(study, out, first, seed)
    slug = "".join(c if c.isalnum() else "-" for c in name)
    return out / "runs" / f"{slug}-seed{seed}" if weights is None else Path(weights)


def changes_of(study: Study, name: str, seed: int) -> tuple[str, list[str]]:
    """Return the recipe of a run and its changes, ``key=value``."""
    variant = study.variants[name]
    recipe = variant.get("recipe", study.recipe)
    changes = {**study.changes, **{k: v for k, v in variant.items() if k not in ADDED}}
    changes["seed"] = seed + variant.get("seed", 0)
    if study.unseen:
        mixture = changes.get("data.mixture") or load_recipe(recipe).data.mixture
        left_out = of_their_groups(study.unseen, mixture)
        changes["data.exclude"] = [*left_out, *changes.get("data.exclude", [])]
    return recipe, as_text(changes)


@functools.cache
def of_their_groups(ids: tuple[str, ...], mixture: str) -> list[str]:
    """Return the graphs of a mixture that share a group with one of these graphs."""
    from graphfm.graphs.catalog.catalog import Catalog

    catalog = Catalog.read()
    groups = {catalog.entries[id].group for id in ids}
    return [id for id in catalog.mixture(mixture) if catalog.entries[id].group in groups]


def as_text(changes: Mapping[str, Any]) -> list[str]:
    """Return changes as the command line takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def train(study: Study, out: Path, name: str, seed: int) -> bool:
    """Make one run unless it is there; return True if it reached its end.

    Raises:
        SystemExit: If the folder holds a run of another recipe.
    """
    from graphfm.training.run_folder import recipe_differences

    if "weights" in study.variants[name]:
        return True
    folder = run_folder(study, out, name, seed)
    recipe, changes = changes_of(study, name, seed)
    receipt = folder / "run.json"
    if receipt.is_file() and json.loads(receipt.read_text(encoding="utf-8"))["finished"]:
        asked = load_recipe(recipe, changes)
        differ = recipe_differences(read_yaml(folder / "config.resolved.yaml"), asked)
        if differ:
            raise SystemExit(f"{folder} holds another recipe ({', '.join(differ)}): change --out")
        return True
    command = [sys.executable, "-m", "graphfm", "pretrain", recipe, "--out", str(folder), *changes]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    end = done.stderr.strip()[-500:] if done.returncode else "done"
    print(f"{name}, seed {seed}: {end}", file=sys.stderr, flush=True)
    return not done.returncode


Scores = dict[str, dict[str, dict[str, float]]]  # measures by head and graph


def compare(study: Study, out: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the means of each variant by head and graph, and its gains over the first one."""
    from graphfm.benchmark.statistics import compare_pair
    from graphfm.graphs.catalog.catalog import Catalog

    found = {name: means(study, out, name) for name in names}
    entries = Catalog.read().entries
    table: dict[str, Any] = {}
    against: dict[str, Any] = {}
    for head in study.heads:
        graphs = [id for id in found[names[0]][head] if all(id in found[n][head] for n in names)]
        table[head] = {id: {name: found[name][head][id] for name in names} for id in graphs}
        groups: dict[str, list[str]] = {}
        for id in graphs:
            groups.setdefault(entries[id].group, []).append(id)

        def by_group(name: str, what: str, rows: Any = table[head], of: Any = groups) -> np.ndarray:
            return np.array([np.mean([rows[id][name][what] for id in ids]) for ids in of.values()])

        against[head] = {
            name: {
                what: asdict(
                    compare_pair(
                        sign * by_group(name, what), sign * by_group(names[0], what), list(groups)
                    )
                )
                for what, sign in MEASURES.items()
            }
            for name in names[1:]
        }
    split = "/".join(f"{100 * share:g}" for share in study.split)
    return {
        "models": list(names),
        "graphs": {id: entries[id].group for rows in table.values() for id in rows},
        "seeds": len(study.seeds) * study.split_seeds,
        "splits": {split: {"table": table, "against": against}},
    }


def means(study: Study, out: Path, name: str) -> Scores:
    """Return loss / log C and accuracy by head and graph: mean over seeds and splits."""
    values: dict[str, dict[str, list[dict[str, float]]]] = {head: {} for head in study.heads}
    for seed in study.seeds:
        folder = run_folder(study, out, name, seed)
        if "corpus" in values:
            for id, score in last_evaluation(folder).items():
                values["corpus"].setdefault(id, []).append(score)
        for id in study.unseen:
            for split in range(study.split_seeds):
                for head, score in fits_of(study, out, name, seed, id, split).items():
                    values[head].setdefault(id, []).append(score)
    return {
        head: {
            id: {what: float(np.mean([score[what] for score in scores])) for what in MEASURES}
            for id, scores in by_graph.items()
        }
        for head, by_graph in values.items()
    }


def last_evaluation(folder: Path) -> dict[str, dict[str, float]]:
    """Return loss / log C and accuracy on the validation nodes of each graph of a run's corpus."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    graphs: dict[str, dict[str, float]] = [
        record["graphs"] for record in map(json.loads, lines) if record["kind"] == "eval"
    ][-1]
    return graphs


def fits_of(
    study: Study, out: Path, name: str, seed: int, id: str, split: int
) -> dict[str, dict[str, float]]:
    """Return the scores of the heads on one split of an unseen graph, from a file or by fitting."""
    heads = [head for head in study.heads if head != "corpus"]
    folder = run_folder(study, out, name, seed)
    label = "random-" * (study.variants[name].get("weights") == "random") + folder.name
    path = out / "fits" / f"{label}.seed{seed}.{id}.{split}.json"
    found: dict[str, dict[str, float]] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    )
    missing = [head for head in heads if head not in found]
    if missing:
        found |= fit_heads(study, name, folder, seed, id, split, missing)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return {head: found[head] for head in heads}


def fit_heads(
    study: Study, name: str, folder: Path, seed: int, id: str, split: int, heads: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Fit closed-form heads to one split of an unseen graph; return loss / log C and accuracy."""
    import torch

    from graphfm.checkpoint.folder import not_judged_on
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.features.prepare import prepare
    from graphfm.graphs.splits import stratified_split
    from graphfm.model.graphfm import GraphFM
    from graphfm.sampling.batch import subsample
    from graphfm.scaling.unseen import score

    torch.set_num_threads(1)
    model = GraphFM.from_pretrained(str(folder))
    if id in not_judged_on(model.about):
        raise SystemExit(f"{folder} learned from {id} or from a graph of its group")
    if study.variants[name].get("weights") == "random":
        model = GraphFM.from_config(model.config(), seed=1000 + seed)
    graph = prepare(Catalog.read().load(id))
    masks = stratified_split(graph.y, study.split, seed=split, ids=graph.node_ids)
    asked = subsample(masks[2].nonzero().flatten(), study.most, seed=split)
    return {
        head: score(log_proba(head, model, graph, masks[0], masks[1], asked, split), graph.y[asked])
        for head in heads
    }


def log_proba(
    head: str, model: Any, graph: Any, train: Any, val: Any, asked: Any, seed: int
) -> Any:
    """Return log-probabilities of one head, (Q, C)."""
    import torch

    from graphfm.fitting.answers import answer
    from graphfm.fitting.finetune import finetune
    from graphfm.fitting.inference import node_logits
    from graphfm.fitting.probe import SAMPLING, adopt, answer_by_states, bank_of, solve_head

    if head == "probe":
        fit = finetune(graph, model, train_mask=train, val_mask=val, tune="probe", seed=seed)
        bank = bank_of(graph, model.device, like=fit.scaling, experts=fit.experts)
        found = answer(
            fit.model, bank, asked, fit.calibration, coverage=None, seed=seed, **SAMPLING
        )
        return torch.from_numpy(np.log(np.maximum(found.proba, 1e-9)))
    bank = bank_of(graph, model.device)
    own = adopt(model, graph, bank)
    nodes = train.nonzero().flatten()
    if head == "state":
        return answer_by_states(own, bank, nodes, asked, seed=seed)
    solve_head(own, bank, nodes, seed=seed)
    return node_logits(own, bank, 0, asked, seed=seed, **SAMPLING).log_softmax(dim=1)


def markdown(result: Mapping[str, Any]) -> str:
    """Return the tables of a result."""
    first, lines = result["models"][0], []
    for split, found in result["splits"].items():
        graphs, groups = result["graphs"], set(result["graphs"].values())
        lines += [
            f"{split}, {len(graphs)} graphs in {len(groups)} groups, {result['seeds']} seeds; "
            f"gains over {first}, mean over groups (95%)",
            "",
            "| head | variant | loss / log C | accuracy | less loss | groups won / lost | sign p | "
            "points | groups won / lost | sign p |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for head, rows in found["table"].items():
            for name in result["models"]:
                loss, accuracy = (
                    np.mean([row[name][what] for row in rows.values()]) for what in MEASURES
                )
                cells = [head, name, f"{loss:.4f}", f"{100 * accuracy:.1f}%"]
                pairs = found["against"][head].get(name, {})
                for what, times, digits in (("loss", 1, 4), ("accuracy", 100, 2)):
                    cells += gain_cells(pairs.get(what), times, digits)
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def gain_cells(pair: Mapping[str, Any] | None, times: float, digits: int) -> list[str]:
    """Return a gain with its interval, groups won and lost, and the p-value of the sign test."""
    if pair is None:
        return ["", "", ""]
    gain, low, high = (f"{times * pair[key]:+.{digits}f}" for key in ("gain", "low", "high"))
    return [f"{gain} ({low} to {high})", f"{pair['won']} / {pair['lost']}", f"{pair['sign_p']:.3f}"]


if __name__ == "__main__":
    sys.exit(main())
