"""What the runs of a grid say: laws with intervals, held-out errors, plain differences.

Everything here works on rows as ``graphfm.scaling.grid.rows`` gives them, and on what is in: a law
that the runs of an unfinished grid cannot tell is recorded with the reason.

Shapes:
    n  runs
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from graphfm.errors import DataError
from graphfm.scaling.fit import fit
from graphfm.scaling.fitted import Fit, Interval, finite
from graphfm.scaling.mixed import MixedFit, fit_mixed
from graphfm.scaling.runs import Runs

Row = dict[str, Any]
Losses = Mapping[tuple[str, int], Mapping[str, float]]  # by cell and steps, then by graph
RESAMPLES = 400
CORPUS = "corpus"
NEVER_SEEN = ("unseen", "states")  # after the short fit; a closed form on states alone
# A row of a mean loss, and what its laws call targets: targets seen, different targets, graphs.
COLUMNS = ("params", "targets", "unique", "datasets", "flops")


def best_so_far(rows: Sequence[Row]) -> list[Row]:
    """Rows with ``loss_best``: the least loss of their cell up to their length.

    On few nodes the loss rises again (2% of them: 0.87 after 200 steps, 1.12 after 400), and no law
    of repeated data bends upwards: they are laws of runs that stop in time.
    """
    least: dict[str, float] = {}
    found = []
    for row in sorted(rows, key=lambda row: (row["run"], row["steps"])):
        least[row["run"]] = min(row["loss"], least.get(row["run"], np.inf))
        found.append({**row, "loss_best": least[row["run"]]})
    return found


def longest(rows: Iterable[Row]) -> list[Row]:
    """The longest run of each cell."""
    last: dict[str, Row] = {}
    for row in rows:
        if row["steps"] >= last.get(row["run"], row)["steps"]:
            last[row["run"]] = row
    return list(last.values())


def runs_of(rows: Sequence[Row], loss: str, *, data: str = "targets", spent: bool = True) -> Runs:
    """A table for a law.

    Args:
        rows: Those that have ``loss``.
        loss: A column.
        data: What the law's ``targets`` are: ``targets``, ``unique`` (of which a run has seen no
            more than its targets), or ``datasets``.
        spent: Whether FLOPs belong to such a table: they do where targets are targets seen.
    """
    column = {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}
    column["unique"] = np.minimum(column["unique"], column["targets"])
    return Runs(
        params=column["params"],
        targets=column[data],
        unique=column["unique"] if data == "targets" else None,
        flops=column["flops"] if spent and data == "targets" else None,
        loss=np.array([row[loss] for row in rows]),
        seed=np.array([str(row["seed"]) for row in rows]),
        run=np.array([row["run"] for row in rows]),
    )


def attempt(what: Callable[[], Any]) -> Any:
    """The result, or the text of why these runs do not give one."""
    try:
        return what()
    except DataError as error:
        return error.what


def by_aicc(runs: Runs, laws: Sequence[str], *, resamples: int) -> Fit | str:
    """The law with the least AICc, of those that the runs can tell."""
    fits = [attempt(partial(fit, runs, law, resamples=resamples)) for law in laws]
    told = [one for one in fits if isinstance(one, Fit)]
    return min(told, key=lambda one: one.aicc) if told else str(fits[0])


def laws(rows: Sequence[Row], *, resamples: int = RESAMPLES) -> dict[str, Fit | str]:
    """Every law of the page by its name; a text where the runs cannot tell it.

    ``targets``: over targets seen, repeats counted. ``nodes``: over different targets, each cell at
    its best length. On validation nodes of the graphs learned from.
    """
    whole = [row for row in best_so_far(rows) if row["graph_share"] == 1.0]
    if not whole:
        return dict.fromkeys(("corpus-targets", "corpus-nodes"), "no finished run")
    both = ("chinchilla", "data-constrained")
    return {
        "corpus-targets": by_aicc(runs_of(whole, "loss_best"), both, resamples=resamples),
        "corpus-nodes": by_aicc(
            runs_of(longest(whole), "loss_best", data="unique"), both[:1], resamples=resamples
        ),
    }


def mixed_laws(
    rows: Sequence[Row],
    losses: Losses,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, MixedFit | str]:
    """Laws with a floor of every dataset's own.

    ``corpus-targets`` on all nodes, where no target repeats; ``corpus-nodes`` at each cell's best
    length; ``unseen-nodes`` and ``unseen-graphs`` on graphs never seen, over different targets and
    over graphs learned from; ``states-nodes`` and ``states-graphs`` the same by their states alone.
    An unseen graph has a floor for each seed: the seed splits its nodes anew, which moves its loss
    more than anything that grows here.
    """
    rows = best_so_far(rows)
    known = {(row["run"], row["steps"]): row for row in rows}
    last = {(row["run"], row["steps"]): row for row in longest(rows)}
    stopped = {(r["run"], r["steps"]): r for r in rows if r["loss"] == r["loss_best"]}
    stopped = {(r["run"], r["steps"]): r for r in longest(stopped.values())}
    tables = {
        "corpus-targets": (known, CORPUS, "targets", "node_share"),
        "corpus-nodes": (stopped, CORPUS, "unique", ""),
        **{f"{on}-nodes": (last, on, "unique", "") for on in NEVER_SEEN},
        **{f"{on}-graphs": (last, on, "datasets", "node_share") for on in NEVER_SEEN},
    }
    found: dict[str, MixedFit | str] = {}
    for name, (some, on, data, all_of) in tables.items():
        kept = [
            row
            for row in some.values()
            if data == "datasets" or row["graph_share"] == 1.0
            if not all_of or row[all_of] == 1.0
        ]
        runs = by_dataset(kept, losses, data=data, on=on)
        found[name] = (
            "no finished run"
            if runs is None
            else attempt(partial(fit_mixed, runs, by_seed=on != CORPUS, resamples=resamples))
        )
    return found


def by_dataset(rows: Sequence[Row], losses: Losses, *, data: str, on: str) -> Runs | None:
    """A row for each run and dataset; None where no run was judged on one.

    Args:
        rows: Runs.
        losses: Of each dataset.
        data: As :func:`runs_of` has it.
        on: ``CORPUS`` or one of ``NEVER_SEEN``, whose datasets have that before their names.
    """
    long = [
        {**row, "each": loss, "dataset": graph}
        for row in rows
        for graph, loss in losses[row["run"], row["steps"]].items()
        if (graph.partition(":")[0] if ":" in graph else CORPUS) == on
    ]
    if not long:
        return None
    names = np.array([row["dataset"] for row in long])
    return replace(runs_of(long, "each", data=data), dataset=names)


def effects(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What the largest brings over the smallest of each axis, all else the same, pair by pair.

    ``change`` is the relative change of the loss, ``slope`` minus its exponent without a floor;
    95% t-intervals over the pairs.
    """
    rows = best_so_far(rows)
    last = longest(rows)
    whole = [row for row in last if row["graph_share"] == 1.0]
    every = [row for row in last if row["node_share"] == 1.0]
    asked = [
        *(
            (f"trunk parameters, {share:g} of the nodes", "corpus",
             [r for r in whole if r["node_share"] == share], "params", "loss_best", ("seed",))
            for share in sorted({r["node_share"] for r in whole})
        ),
        ("targets seen", "corpus", [r for r in rows if r["graph_share"] == r["node_share"] == 1.0],
         "steps", "loss", ("size", "seed")),
        ("different nodes", "corpus", whole, "node_share", "loss_best", ("size", "seed")),
        ("graphs, at equal targets", "common", every, "graph_share", "loss_common",
         ("size", "seed")),
        ("graphs, at equal targets a graph", "common", _equal_exposure(rows), "graph_share",
         "loss_common", ("size", "seed")),
        *(
            one
            for on in NEVER_SEEN
            for one in (
                ("trunk parameters", on, last, "params", f"loss_{on}",
                 ("node_share", "graph_share", "seed")),
                ("different nodes", on, whole, "node_share", f"loss_{on}", ("size", "seed")),
                ("graphs, at equal targets", on, every, "graph_share", f"loss_{on}",
                 ("size", "seed")),
            )
        ),
    ]  # fmt: skip
    return [_effect(*one) for one in asked]


def fit_record(one: Fit | MixedFit | str) -> dict[str, Any]:
    """What of a fit goes to the file of results."""
    if isinstance(one, str):
        return {"refused": one}
    record: dict[str, Any] = {
        "law": one.law.name,
        "params": {k: asdict(v) for k, v in one.params.items()},
        "exponents": {k: asdict(v) for k, v in one.exponents.items()},
        "condition": one.condition,
        "no_power": list(one.no_power),
        # Where the data are nodes or graphs, nobody asks for the best use of compute.
        "warnings": [text for text in one.warnings if "FLOPs" not in text],
    }
    if isinstance(one, MixedFit):
        record |= {"rows": one.num_rows, "floors": len(one.floors), "noise": asdict(one.noise),
                   "spread": asdict(one.spread)}  # fmt: skip
    else:
        record |= {"runs": len(one.runs), "aicc": one.aicc,
                   "residual": float(np.abs(one.residuals).mean())}  # fmt: skip
    plain: dict[str, Any] = finite(record)
    return plain


def _equal_exposure(rows: Sequence[Row]) -> list[Row]:
    """Runs whose length is in proportion to their graphs, up to the longest on all graphs."""
    whole = [row for row in rows if row["node_share"] == 1.0]
    most = max((row["steps"] for row in whole), default=0)
    return [row for row in whole if abs(row["steps"] - most * row["graph_share"]) < 1e-9]


def _effect(
    axis: str, on: str, rows: Sequence[Row], by: str, loss: str, same: tuple[str, ...]
) -> dict[str, Any]:
    groups: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.get(loss) is not None:
            groups[tuple(row[name] for name in same)].append(row)
    ends = {row[by] for group in groups.values() for row in group}
    pairs = []
    for group in groups.values():
        at = {row[by]: row[loss] for row in group}
        if len(ends) > 1 and min(ends) in at and max(ends) in at:
            pairs.append(np.log(at[max(ends)] / at[min(ends)]))
    record: dict[str, Any] = {"axis": axis, "on": on, "pairs": len(pairs)}
    if not pairs:
        return record
    change = np.array(pairs)
    middle, width, times = float(change.mean()), _half_width(change), max(ends) / min(ends)
    ends_of = np.array([middle, middle - width, middle + width])  # NaN with one pair
    slope = -ends_of[[0, 2, 1]] / np.log(times)
    return record | {
        "least": min(ends), "most": max(ends), "times": times,
        "change": asdict(Interval(*np.expm1(ends_of).tolist())),
        "slope": asdict(Interval(*slope.tolist())),
        "lower_in": int((change < 0).sum()),
    }  # fmt: skip


def _half_width(values: np.ndarray) -> float:
    """Half of the 95% t-interval of a mean; a bootstrap of three pairs is far too narrow."""
    from scipy.stats import t

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
