"""What each field of a pretraining recipe is worth, on graphs that no run has learned from.

Short runs of `graphfm-small`, one field of the recipe changed in each; then closed-form heads on
the states of graphs that were left out, each run against the recipe as it is, by
compare_objectives.py: the mean difference over groups of graphs with its bootstrap interval, and a
sign test. `another seed` and `a third seed` change nothing else: what they differ by is what no
idea is believed below. No evaluation graph is read.

    python tools/ablate_recipe.py --steps 300 --jobs 2 --out docs/results/recipe.json
    python tools/ablate_recipe.py --changes seed=1 --ideas "no latents" --runs runs/one --out ...

Runs and measurements are kept under --runs: a second call makes what is missing. The call with
--changes weighs an idea from another seed: the base has the change too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compare_objectives
from compare_trunks import pretrain

RECIPE = "graphfm-small"
BASE = "base"
JUDGED = (
    "polbooks nba wiki-tadw acm-3025 heco-aminer tu-msrc-9 polblogs tennis-atp celegans-herm "
    "heco-freebase tu-ptc-mr pygod-books physicians fb100-reed98 fb100-simmons81 twitch-ptbr "
    "synth-002 synth-008 synth-014 synth-020 synth-026 synth-032 synth-038 synth-044 synth-050 "
    "synth-056 synth-062"
).split()
NO_SYNTHETIC = "no synthetic graphs"
IDEAS = {
    BASE: "",
    "another seed": "seed=1",
    "a third seed": "seed=2",
    "16 latents": "model.encoder.num_latents=16",
    "128 latents": "model.encoder.num_latents=128",
    "no latents": "model.decoder.kind=transformer",
    "mean of neighbors, no latents": "model.decoder.kind=sage",
    "encoder of depth 0": "model.encoder.depth=0",
    "encoder of depth 4": "model.encoder.depth=4",
    "decoder of depth 1": "model.decoder.depth=1",
    "decoder of depth 4": "model.decoder.depth=4",
    "width 64": "model.dim=64",
    "width 192": "model.dim=192",
    "4 neighbors": "sampling.num_neighbors=4",
    "32 neighbors": "sampling.num_neighbors=32",
    "no encodings": "model.num_eigenvectors=0",
    "features rotated": "model.universal_turn=rotation",
    "features not turned": "model.universal_turn=none",
    "adapters of their own too": "model.universal_share=0.5",
    "half of features dropped": "model.adapter.dropout=0.5",
    "raw features beside": "objective.beside=raw",
    "2 folds": "objective.folds=2",
    "targets weigh alike": "objective.balance=target",
    "AdamW": "train.optimizer=adamw",
    "learning rate 3e-3": "train.lr=3e-3",
    NO_SYNTHETIC: "",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing, then report; exit code 1 if a run failed."""
    args = parse(argv)
    with ThreadPoolExecutor(args.jobs) as pool:
        made = list(pool.map(lambda idea: run(args, idea), args.ideas))
    done = [idea for idea, there in zip(args.ideas, made, strict=True) if there]
    if BASE not in done or len(done) < 2:
        return 1  # nothing to compare; what was said says why
    models = [f"{idea}={folder_of(args, idea)}" for idea in done]
    given = ["--graphs", ",".join(args.graphs), "--seeds", str(args.seeds)]
    given += ["--heads", "state", "state+raw", "--cells", str(args.runs / "cells")]
    compare_objectives.main([*models, *given, "--out", str(args.out)])
    return int(not all(made))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ideas", nargs="+", choices=list(IDEAS), default=list(IDEAS))
    parser.add_argument("--graphs", nargs="+", default=JUDGED, help="ids to judge on")
    parser.add_argument("--changes", nargs="+", default=[], help="key=value, for all runs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1, help="splits of each graph")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, of one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--out", type=Path, required=True, help="the table as JSON")
    args = parser.parse_args(argv)
    args.ideas = [BASE, *(idea for idea in args.ideas if idea != BASE)]
    return args


def folder_of(args: argparse.Namespace, idea: str) -> Path:
    """Of one run."""
    folder: Path = args.runs / idea.replace(" ", "-").replace(",", "")
    return folder


def changes_of(args: argparse.Namespace, idea: str) -> list[str]:
    """What a run changes in its recipe."""
    from graphfm.config import load_recipe
    from graphfm.graphs.catalog import Catalog

    catalog = Catalog.read()
    groups = {catalog.entries[id].group for id in args.graphs}
    left_out = [
        id
        for id in catalog.mixture(load_recipe(RECIPE).data.mixture)
        if catalog.entries[id].group in groups
        or (idea == NO_SYNTHETIC and catalog.entries[id].synthetic)
    ]
    return [
        f"data.exclude=[{','.join(left_out)}]",
        f"train.steps={args.steps}",
        f"train.warmup_steps={min(100, args.steps // 10)}",
        f"train.eval_every={args.steps}",
        *args.changes,
        *IDEAS[idea].split(),
    ]


def run(args: argparse.Namespace, idea: str) -> bool:
    """Make one run, or nothing where it is there; False if it failed or is of another recipe."""
    return pretrain(RECIPE, changes_of(args, idea), folder_of(args, idea), name=idea)


if __name__ == "__main__":
    sys.exit(main())
