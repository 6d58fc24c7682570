"""How well the laws of a grid foretell its largest runs, beside what needs no law.

Shapes:
    h  held-out runs   R  resamples
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from report_grid_fits import (
    RESAMPLES,
    Losses,
    Row,
    attempt,
    best_so_far,
    by_dataset,
    longest,
    runs_of,
)

from graphfm.scaling.fit import fit
from graphfm.scaling.fitted import Fit, interval
from graphfm.scaling.mixed import MixedFit, fit_mixed
from graphfm.scaling.runs import Runs

log = logging.getLogger(__name__)

HELD_OUT = 0.25  # of the runs, those with the most compute
LAWS = {
    "chinchilla": ("chinchilla", "targets"),
    "data-constrained": ("data-constrained", "targets"),
    "chinchilla over different nodes": ("chinchilla", "unique"),
}


def held_out(rows: Sequence[Row], *, resamples: int = RESAMPLES) -> dict[str, Any] | str:
    """Mean relative error on the quarter of runs with the most compute, of the laws and of others.

    The others: the loss of the last fitted run, with most compute, on the same nodes and of the
    same seed; a power law in compute alone, over all runs and for each share of the nodes.
    Intervals are over the resamples of the law and, with weights on whole cells, over the held-out
    runs; ``better`` is by how much the chosen law's error is smaller, drawn together.
    """
    rows = [row for row in best_so_far(rows) if row["graph_share"] == 1.0]
    if not rows:
        return "no finished run"
    spent = np.array([row["flops"] for row in rows])
    mask = _largest(spent)
    # Where nothing depends on N, data-constrained cannot be told: RN is of no run. Chinchilla's law
    # over different targets needs neither RN nor RD, and knows of repeats all the same.
    fits = {
        name: attempt(
            partial(fit, runs_of(rows, "loss_best", data=data), law, held_out=mask,
                    resamples=resamples)
        )
        for name, (law, data) in LAWS.items()
    }  # fmt: skip
    told = {name: one for name, one in fits.items() if isinstance(one, Fit)}
    if not told:
        return str(fits["chinchilla"])
    chosen = min(told, key=lambda name: told[name].aicc)
    kept = [row for row, large in zip(rows, mask, strict=True) if not large]
    out = [row for row, large in zip(rows, mask, strict=True) if large]
    off: dict[str, np.ndarray] = {
        name: _off(one, runs_of(out, "loss_best", data=LAWS[name][1])) for name, one in told.items()
    }  # (R + 1, h)
    last = [_last_value(row, kept) / row["loss_best"] - 1 for row in out]
    off["last value"] = np.array(last)[None]
    in_compute = _in_compute(kept, out, resamples)
    if in_compute is not None:
        off["power law in compute"] = in_compute
    shares = [row["node_share"] for row in out]
    parts = [
        _in_compute([row for row in kept if row["node_share"] == share],
                    [row for row in out if row["node_share"] == share], resamples)
        for share in sorted(set(shares))
    ]  # fmt: skip
    fitted = [part for part in parts if part is not None]
    if len(fitted) == len(parts):
        back = np.argsort(np.argsort(shares, kind="stable"))
        off["power law in compute for each share"] = np.concatenate(fitted, 1)[:, back]
    return {
        **_compared(chosen, off, kept, out, resamples),
        "refused_laws": {law: one for law, one in fits.items() if isinstance(one, str)},
        "aicc": {law: one.aicc for law, one in told.items()},
        # The picture is over targets seen.
        "fit": told[min((name for name in told if LAWS[name][1] == "targets"),
                        key=lambda name: told[name].aicc, default=chosen)],
    }  # fmt: skip


def held_out_unseen(
    rows: Sequence[Row], losses: Losses, *, on: str = "unseen", resamples: int = RESAMPLES
) -> dict[str, Any] | str:
    """The same on graphs never seen: their mean loss after the longest run of a cell.

    ``on`` is one of ``NEVER_SEEN``. The law is the mixed one over different nodes; intervals are
    over held-out cells alone.
    """
    cells = [
        row for row in longest(rows)
        if row["graph_share"] == 1.0 and row.get(f"loss_{on}") is not None
    ]  # fmt: skip
    if len(cells) < 4:
        return f"{len(cells)} cells are in"
    mask = _largest(np.array([row["flops"] for row in cells]))
    kept = [row for row, large in zip(cells, mask, strict=True) if not large]
    out = [row for row, large in zip(cells, mask, strict=True) if large]
    runs = by_dataset(kept, losses, data="unique", on=on)
    if runs is None:
        return f"all {len(cells)} cells that are in had the same compute"
    one = attempt(partial(fit_mixed, runs, by_seed=True))
    if isinstance(one, str):
        return one
    known = {row["seed"] for row in kept}
    out = [row for row in out if row["seed"] in known]  # a split's floor is known from its runs
    if not out:
        return "no seed is in with small and large compute"
    loss = np.array([row[f"loss_{on}"] for row in out])
    of_seed = [[r[f"loss_{on}"] for r in kept if r["seed"] == row["seed"]] for row in out]
    off = {
        "chinchilla": np.array([_mixed_mean(one, row, losses, on) for row in out]) / loss - 1,
        "last value": np.array([_last_value(row, kept, f"loss_{on}") for row in out]) / loss - 1,
        "mean of the fitted runs": np.array([np.mean(values) for values in of_seed]) / loss - 1,
    }
    return _compared("chinchilla", {k: v[None] for k, v in off.items()}, kept, out, resamples)


def _mixed_mean(one: MixedFit, row: Row, losses: Losses, on: str) -> float:
    seen = min(row["unique"], row["targets"])
    graphs = [k for k in losses[row["run"], row["steps"]] if k.startswith(f"{on}:")]
    each = [one.predict(row["params"], seen, dataset=f"{k}@{row['seed']}") for k in graphs]
    return float(np.mean(each))


def _compared(
    chosen: str,
    off: Mapping[str, np.ndarray],
    kept: Sequence[Row],
    out: Sequence[Row],
    resamples: int,
) -> dict[str, Any]:
    """Errors of predictors (R + 1 or 1, h), with intervals, and what each has more than the law."""
    weights = _cell_weights([row["run"] for row in out], resamples)
    errors = {name: np.asarray((np.abs(one) * weights).sum(1)) for name, one in off.items()}
    return {
        "law": chosen,
        "runs": len(kept),
        "held_out": len(out),
        "sizes": list(dict.fromkeys(r["size"] for r in sorted(out, key=lambda r: r["params"]))),
        "reach": max(row["flops"] for row in out) / max(row["flops"] for row in kept),
        "errors": {name: asdict(interval(e[0], e[1:].tolist())) for name, e in errors.items()},
        "better": {
            name: asdict(interval(e[0] - errors[chosen][0], (e - errors[chosen])[1:].tolist()))
            for name, e in errors.items()
            if name != chosen
        },
    }


def _largest(spent: np.ndarray) -> np.ndarray:
    """Which runs are held out, (n,): runs of equal compute are on one side."""
    least = np.sort(spent)[-max(1, round(HELD_OUT * len(spent)))]
    return np.asarray(spent >= least * (1 - 1e-9))


def _off(one: Fit, runs: Runs) -> np.ndarray:
    """Relative errors of a fit and of its resamples, (R + 1, h)."""
    x = {k: v - one.centre[k] for k, v in runs.logs().items()}
    theta = np.concatenate([one.law.theta(one.centre)[None], one.draws])
    return np.expm1(type(one.law).log_curve(theta, x) - np.log(runs.loss))


def _last_value(row: Row, kept: Sequence[Row], loss: str = "loss_best") -> float:
    same = [r for r in kept if r["node_share"] == row["node_share"] and r["seed"] == row["seed"]]
    same = same or [r for r in kept if r["node_share"] == row["node_share"]] or list(kept)
    return float(max(same, key=lambda r: r["flops"])[loss])


def _in_compute(kept: Sequence[Row], out: Sequence[Row], resamples: int) -> np.ndarray | None:
    """Relative errors of a power law in compute, (R + 1, h); None where it cannot be fitted."""
    if not kept:
        return None
    spent = [{**r, "targets": r["flops"], "unique": r["flops"]} for r in kept]
    one = attempt(partial(fit, runs_of(spent, "loss_best"), "power", resamples=resamples))
    if isinstance(one, str):
        log.warning("power law in compute: %s", one)
        return None
    asked = [{**r, "targets": r["flops"], "unique": r["flops"]} for r in out]
    return _off(one, runs_of(asked, "loss_best"))


def _cell_weights(cells: Sequence[str], resamples: int) -> np.ndarray:
    """Weights of held-out runs, (R + 1, h): none drawn first; runs of a cell together."""
    group = np.unique(cells, return_inverse=True)[1]
    drawn = np.random.default_rng(0).exponential(size=(resamples, group.max() + 1))[:, group]
    weights = np.concatenate([np.ones((1, len(group))), drawn])
    return np.asarray(weights / weights.sum(1, keepdims=True))
