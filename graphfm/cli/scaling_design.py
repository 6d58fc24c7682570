"""``graphfm scaling design``."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.output import check_file
from graphfm.cli.scaling_inputs import numbers, positive, read_fit, span
from graphfm.cli.terminal import note, show, show_json, table
from graphfm.errors import DataError, RecipeError
from graphfm.storage import whole_file

if TYPE_CHECKING:
    from graphfm.scaling.fitted import Fit
    from graphfm.scaling.laws import Cost, Law


def design(
    budget: Annotated[str, typer.Option(help="FLOPs of all runs (1e18), or time (8h).")],
    params: Annotated[str, typer.Option(help="Range of trunk parameters, 5e4:1.5e6.")],
    targets: Annotated[str, typer.Option(help="Range of targets seen, 1e5:3e7.")],
    unique: Annotated[
        str | None, typer.Option(help="Different targets to choose among: 1e5,7e5.")
    ] = None,
    fit: Annotated[
        Path | None, typer.Option("--fit", help="fit.json: the first guess of the law.")
    ] = None,
    like: Annotated[
        list[Path] | None, typer.Option(help="Receipts that say how long a run takes.")
    ] = None,
    branch: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of its cost that a shorter run adds to a longer."),
    ] = 1.0,
    max_runs: Annotated[int | None, typer.Option(min=1, help="Runs in all at most.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs at one point at most.")] = 3,
    noise: Annotated[float, typer.Option(help="Sd of log loss between seeds.")] = 0.005,
    draws: Annotated[int, typer.Option(min=2, help="Simulated fits of each design.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV of the runs to make.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what --out names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Choose the runs that bound the exponents most tightly within a budget."""
    from graphfm.scaling.design import design_runs, naive_grid, simulate, variance
    from graphfm.scaling.laws import Chinchilla

    if out is not None:
        check_file(out, overwrite=overwrite)
    positive(noise=noise)
    found = None if fit is None else read_fit(fit)
    law: Law = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
    if found is None:
        note("no --fit: the first guess is Chinchilla's law of language models (2404.10102)")
    else:
        law = found.law
    if not {"params", "targets"} <= set(law.axes):
        raise RecipeError(
            "GFM705", f"{law.name} knows of one coordinate only: there is no grid to choose",
            fix="fit chinchilla or data-constrained, or leave --fit out",
        )  # fmt: skip
    spend, cost, unit = _budget(budget, like or [], found)
    sizes, data = span("params", params), span("targets", targets)
    kinds = numbers("unique", unique) if unique else None
    if kinds and "unique" not in law.axes:
        raise RecipeError(
            "GFM705", f"--unique is for a law that knows of repeats, and {law.name} does not",
            fix="--fit of a data-constrained law",
        )  # fmt: skip
    chosen = design_runs(
        spend, law, cost, params=sizes, targets=data, unique=kinds, max_seeds=seeds,
        max_runs=max_runs, branch=branch, seed=seed,
    )  # fmt: skip
    naive = naive_grid(
        spend, cost, params=sizes, targets=data, unique=max(kinds) if kinds else None, seeds=seeds,
        branch=branch,
    )  # fmt: skip
    compared: dict[str, Any] = {}
    for name, one in (("designed", chosen), ("naive grid", naive)):
        expected = variance(one, law, noise=noise, cost=cost)
        fits = simulate(one, law, noise=noise, draws=draws, seed=seed, cost=cost)
        compared[name] = {
            "runs": one.num_runs, "points": len(one.params), unit: one.flops,
            "sd": {k: float(v) ** 0.5 if v < inf else None for k, v in expected.items()},
            "sd_simulated": {
                k: float(v.std(ddof=1)) if expected[k] < inf else None for k, v in fits.items()
            },
        }  # fmt: skip
    rows = [
        {
            "params": float(chosen.params[i]),
            "targets": float(chosen.targets[i]),
            **({} if chosen.unique is None else {"unique": float(chosen.unique[i])}),
            "seeds": int(chosen.seeds[i]),
            unit: float(cost.flops(chosen.params[i], chosen.targets[i])),
        }
        for i in range(len(chosen.params))
    ]
    if out is not None:
        lines = [",".join(rows[0]), *(",".join(f"{v:.6g}" for v in row.values()) for row in rows)]
        with whole_file(out) as path:
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if as_json:
        show_json({"law": law.values, "budget": spend, "unit": unit, "runs": rows, **compared})
        return
    show(table([[f"{v:.3g}" for v in row.values()] for row in rows], head=list(rows[0])))
    names = [k for k in compared["designed"]["sd"] if k in ("E", "frontier", *law.exponents)]
    show(table(
        [
            [name, str(one["runs"]), f"{one[unit]:.3g}"]
            + [_sd(one["sd"][k], one["sd_simulated"][k]) for k in names]
            for name, one in compared.items()
        ],
        head=["", "runs", unit, *(f"sd of {name}" for name in names)],
    ))  # fmt: skip
    lost = [k for k, v in compared["designed"]["sd"].items() if v is None]
    if lost:
        note(f"not determined by these runs: {', '.join(lost)}")
    note(f"sd: to first order, and of {draws} simulated fits at a noise of {noise:.2%}")


def _sd(expected: float | None, simulated: float | None) -> str:
    return "-" if expected is None else f"{expected:.4f} ({simulated:.4f})"


def _budget(text: str, like: list[Path], found: Fit | None) -> tuple[float, Cost, str]:
    """What may be spent, what a run costs, and in which unit both are."""
    from graphfm.config.recipe import seconds
    from graphfm.scaling.laws import Cost

    value = seconds(text)
    if isinstance(value, float):  # it had a unit of time
        if not like:
            raise RecipeError(
                "GFM705", f"a budget of {text} needs to know how long a run takes",
                where="--budget",
                fix="--like runs/mine/run.json, a receipt of this machine; or a budget in FLOPs",
            )  # fmt: skip
        return value, _measured(like, "seconds"), "seconds"
    positive(budget=(spend := numbers("budget", text)[0]))
    if like:
        return spend, _measured(like, "flops"), "flops"
    if found is None:
        note("no --like and no --fit: a run is taken to cost 6 x params x targets")
    return spend, found.cost if found else Cost(), "flops"


def _measured(paths: list[Path], key: str) -> Cost:
    """A law of cost from receipts; also of runs that did not finish, whose cost is known too."""
    import numpy as np

    from graphfm.scaling.runs import Runs

    columns: dict[str, list[float]] = {"params": [], "targets": [], "flops": []}
    for path in paths:
        try:
            receipt = json.loads(path.read_text(encoding="utf-8"))
            row = (receipt["params"]["trunk"], receipt["targets_seen"], receipt[key])
            for column, value in zip(columns.values(), row, strict=True):
                column.append(float(value))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "GFM103", f"not the receipt of a run: {type(error).__name__} {error}",
                where=str(path),
            ) from None  # fmt: skip
    if len(set(columns["params"])) == 1:
        note(f"--like names runs of one size: {key} are taken to grow as it does")
    params, targets, spent = (np.array(values) for values in columns.values())
    return Runs(params=params, targets=targets, flops=spent, loss=np.ones(len(paths))).cost()
