"""Scaling fits: time of each method on one table, and how often the 95% intervals hold the truth.

    python tools/bench/scaling_fit.py --simulations 400 --out docs/results/scaling-fit.json

The table is Epoch's reconstruction of the Chinchilla runs where GRAPHFM_SCALING_DATA names it (a
CSV with "Model Size", "Training FLOP" and loss; the five highest losses are left out, as there),
else 240 runs of a planted law.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.scaling.fit import METHODS, fit
from graphfm.scaling.law import Law
from graphfm.scaling.laws import Broken, Chinchilla, DataConstrained, PowerLaw
from graphfm.scaling.runs import Runs, read_runs

NOISE = 0.005  # of the loss, relative
CHINCHILLA = Chinchilla(E=1.817, A=482.0, B=2085.0, alpha=0.348, beta=0.366)


def grid(*axes: np.ndarray, seeds: int) -> list[np.ndarray]:
    """Every combination, ``seeds`` times, each (n,)."""
    return [np.repeat(a.ravel(), seeds) for a in np.meshgrid(*axes)]


def planted() -> dict[str, tuple[Law, dict[str, np.ndarray]]]:
    """Laws and the places of their runs."""
    n, d = grid(np.geomspace(5e7, 1e10, 4), np.geomspace(1e9, 2e11, 4), seeds=3)
    big_n, big_d = grid(np.geomspace(5e7, 1e10, 8), np.geomspace(1e9, 2e11, 10), seeds=3)
    x = np.repeat(np.geomspace(1e4, 1e9, 12), 3)
    y = np.repeat(np.geomspace(1e4, 1e9, 30), 3)
    few_n, few_d, few_u = grid(
        np.geomspace(1e7, 1e10, 4), np.geomspace(1e9, 1e12, 5), np.geomspace(3e8, 1e11, 4), seeds=1
    )
    ok = few_d >= few_u
    return {
        "chinchilla, 48 runs": (CHINCHILLA, {"params": n, "targets": d}),
        "chinchilla, 240 runs": (CHINCHILLA, {"params": big_n, "targets": big_d}),
        "power, 36 runs": (
            PowerLaw(E=0.5, A=30.0, alpha=0.35), {"params": np.full_like(x, 1e6), "targets": x},
        ),
        "broken, 90 runs": (
            Broken(E=0.3, A=20.0, alpha=0.15, bend=0.4, at=3e6, width=0.4),
            {"params": np.full_like(y, 1e6), "targets": y},
        ),
        f"data-constrained, {ok.sum()} runs": (
            DataConstrained(E=1.87, A=521.0, B=1488.0, alpha=0.353, beta=0.353, RD=15.4, RN=5.3),
            {"params": few_n[ok], "targets": few_d[ok], "unique": few_u[ok]},
        ),
    }  # fmt: skip


def sample(law: Law, places: dict[str, np.ndarray], rng: np.random.Generator) -> Runs:
    """One table of a planted law."""
    loss = law.predict(**places)
    return Runs(**places, loss=loss * np.exp(NOISE * rng.standard_normal(len(loss))))


def table() -> tuple[str, Runs]:
    """The runs that the methods are timed on."""
    path = os.environ.get("GRAPHFM_SCALING_DATA")
    if not path:
        law, places = planted()["chinchilla, 240 runs"]
        return "240 planted runs", sample(law, places, np.random.default_rng(0))
    # Epoch's table has no tokens: they are flops / (6 params), by the model they assume.
    names = {"params": "Model Size", "targets": "Training FLOP", "flops": "Training FLOP"}
    runs = read_runs([path], names)
    kept = np.argsort(runs.loss)[:-5]
    runs = Runs(
        params=runs.params, targets=runs.compute / 6 / runs.params, loss=runs.loss, flops=runs.flops
    )
    return f"{len(kept)} runs of Epoch's table", runs.take(kept)


def speed(repeats: int) -> dict[str, Any]:
    """CPU seconds and objective of each method on one table."""
    name, runs = table()
    fit(runs, "chinchilla")  # imports scipy.optimize, 0.4 s once
    found: dict[str, Any] = {"table": name, "methods": {}}
    for method in METHODS:
        times = []
        for _ in range(1 if method == "multistart" else repeats):
            began = time.process_time()
            result = fit(runs, "chinchilla", method=method)
            times.append(time.process_time() - began)
        found["methods"][method] = {
            "cpu_s": float(np.median(times)), "objective": result.objective, **result.law.values,
        }  # fmt: skip
    began = time.process_time()
    fit(runs, "chinchilla", resamples=400)
    found["bootstrap_400_cpu_s"] = time.process_time() - began
    return found


def coverage(
    law: Law, places: dict[str, np.ndarray], *, simulations: int, resamples: int, seed: int = 0
) -> dict[str, Any]:
    """Share of simulations whose interval holds the truth, for what a fit reports.

    Returns:
        By name of a parameter, of ``params_in_compute`` and of ``extrapolated`` (the loss at ten
        times the largest size and data): the share; and the median bias in standard errors.
    """
    rng = np.random.default_rng(seed)
    far = {k: 10 * v.max() for k, v in places.items()}
    truth = dict(law.values, extrapolated=float(law.predict(**far)[0]))
    if isinstance(law, Chinchilla):
        truth["params_in_compute"] = law.frontier()["params"]
    held: dict[str, list[bool]] = {name: [] for name in truth}
    off: dict[str, list[float]] = {name: [] for name in truth}
    for i in range(simulations):
        result = fit(sample(law, places, rng), law.name, resamples=resamples, seed=i)
        band = result.predict(**far)
        ends = {
            k: (v.low, v.high, v.value) for k, v in {**result.params, **result.exponents}.items()
        }
        ends["extrapolated"] = (band.low[0], band.high[0], band.value[0])
        for name, value in truth.items():
            low, high, best = ends[name]
            held[name].append(bool(low <= value <= high))
            off[name].append(best - value)
    return {
        "runs": len(places["params"]), "simulations": simulations, "resamples": resamples,
        "coverage": {name: float(np.mean(values)) for name, values in held.items()},
        "bias_in_sd": {k: float(np.mean(v) / (np.std(v) + 1e-300)) for k, v in off.items()},
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables, and write them."""
    parser = argparse.ArgumentParser(description="Time and coverage of scaling fits.")
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    result: dict[str, Any] = {"speed": speed(args.repeats), "coverage": {}}
    methods = result["speed"]["methods"]
    print(f"{result['speed']['table']}\n{'method':<12}{'CPU s':>8}{'objective':>16}{'alpha':>9}"
          f"{'beta':>9}")  # fmt: skip
    for name, row in methods.items():
        print(f"{name:<12}{row['cpu_s']:>8.3f}{row['objective']:>16.9e}{row['alpha']:>9.4f}"
              f"{row['beta']:>9.4f}")  # fmt: skip
    ratio = methods["multistart"]["cpu_s"] / methods["varpro"]["cpu_s"]
    print(f"varpro is {ratio:.0f} times as fast as multistart; 400 resamples take "
          f"{result['speed']['bootstrap_400_cpu_s']:.2f} s\n")  # fmt: skip
    for name, (law, places) in planted().items():
        began = time.process_time()
        row = coverage(law, places, simulations=args.simulations, resamples=args.resamples)
        result["coverage"][name] = row
        listed = "  ".join(f"{k} {v:.3f}" for k, v in row["coverage"].items())
        print(f"{name:<28}{listed}  ({time.process_time() - began:.0f} s)", flush=True)
        if args.out:  # after every law: all of them take a quarter of an hour
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
