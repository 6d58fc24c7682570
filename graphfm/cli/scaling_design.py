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
    from graphfm.scaling.law import Cost, Law


def design(
    budget: Annotated[str, typer.Option(help="Budget of all runs: FLOPs (1e18) or time (8h).")],
    params: Annotated[str, typer.Option(help="Range of trunk parameters, such as 5e4:1.5e6.")],
    targets: Annotated[str, typer.Option(help="Range of targets seen, such as 1e5:3e7.")],
    unique: Annotated[
        str | None, typer.Option(help="Numbers of different targets to choose among: 1e5,7e5.")
    ] = None,
    fit: Annotated[
        Path | None, typer.Option("--fit", help="fit.json whose law is the first guess.")
    ] = None,
    like: Annotated[
        list[Path] | None, typer.Option(help="Receipts whose time or FLOPs give the cost of a run.")
    ] = None,
    branch: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of its cost that a shorter run adds to a longer."),
    ] = 1.0,
    max_runs: Annotated[int | None, typer.Option(min=1, help="Limit of all runs.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Limit of the runs at one point.")] = 3,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of log loss between seeds.")
    ] = 0.005,
    draws: Annotated[int, typer.Option(min=2, help="Simulated fits of each design.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    out: Annotated[Path | None, typer.Option(help="CSV of the runs to make.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what --out names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Choose the runs that determine the exponents best within a budget."""
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
            "GFM705", f"{law.name} has one coordinate only: a design needs size and data",
            fix="fit chinchilla or data-constrained, or leave --fit out",
        )  # fmt: skip
    spend, cost, unit = _budget(budget, like or [], found)
    sizes, data = span("params", params), span("targets", targets)
    kinds = numbers("unique", unique) if unique else None
    if kinds and "unique" not in law.axes:
        raise RecipeError(
            "GFM705", f"--unique needs a law with repeats, and {law.name} has none",
            fix="give --fit of a data-constrained law",
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
    """Return the budget, the cost of a run, and the unit of both."""
    from graphfm.config.recipe import seconds
    from graphfm.scaling.law import Cost

    value = seconds(text)
    if isinstance(value, float):  # the text has a unit of time
        if not like:
            raise RecipeError(
                "GFM705", f"a budget of {text} needs the time of some runs",
                where="--budget",
                fix="add --like runs/mine/run.json, a receipt of this machine; or give FLOPs",
            )  # fmt: skip
        return value, _measured(like, "seconds"), "seconds"
    positive(budget=(spend := numbers("budget", text)[0]))
    if like:
        return spend, _measured(like, "flops"), "flops"
    if found is None:
        note("no --like and no --fit: the cost of a run is 6 x params x targets FLOPs")
    return spend, found.cost if found else Cost(), "flops"


def _measured(paths: list[Path], key: str) -> Cost:
    """Fit the cost of a run to receipts, also of runs that did not finish."""
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
        note(f"--like has runs of one size only: {key} are assumed proportional to the size")
    params, targets, spent = (np.array(values) for values in columns.values())
    return Runs(params=params, targets=targets, flops=spent, loss=np.ones(len(paths))).cost()
