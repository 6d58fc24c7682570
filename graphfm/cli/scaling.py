"""``graphfm scaling fit | predict | optimal | design | grid``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphfm.cli.output import check_file
from graphfm.cli.scaling_design import design
from graphfm.cli.scaling_grid import grid
from graphfm.cli.scaling_inputs import positive, read_fit
from graphfm.cli.terminal import next_step, note, pairs, show, show_json, table
from graphfm.errors import OutputError, RecipeError
from graphfm.storage import whole_file

if TYPE_CHECKING:
    from graphfm.scaling.fitted import Band, Fit, Interval
    from graphfm.scaling.runs import Runs

FAR = 10.0  # times the largest fitted compute above which a prediction gets a note

app = typer.Typer(
    no_args_is_help=True, help="Fit scaling laws to runs, predict other runs, choose the next runs."
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OverwriteOption = Annotated[bool, typer.Option(help="Replace what --out and --plot name.")]
FitOption = Annotated[Path, typer.Option("--fit", help="fit.json of `graphfm scaling fit --out`.")]


@app.command()
def fit(
    runs: Annotated[
        list[Path], typer.Argument(help="Receipts (run.json), or tables: params, targets, loss.")
    ],
    law: Annotated[
        str, typer.Option(help="Name of a law, or auto: the least held-out error.")
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option(help="NAME=COLUMN: column of params, targets, loss, ... in the files."),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(help="Share of the runs, those of most compute, to predict and not fit."),
    ] = 0.0,
    method: Annotated[str, typer.Option(help="varpro, multistart or corr.")] = "varpro",
    resamples: Annotated[int, typer.Option(min=0, help="Resamples for 95% intervals.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    by_dataset: Annotated[
        bool, typer.Option("--by-dataset", help="Fit a floor for each dataset (column dataset).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="fit.json to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture: .png, .svg or .pdf.")] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a law to finished runs, with intervals."""
    from graphfm.scaling.fit import fit as fit_law
    from graphfm.scaling.plot import FORMATS
    from graphfm.scaling.runs import read_runs

    for path in (out, plot):
        if path is not None:
            check_file(path, overwrite=overwrite)
    if plot is not None and plot.suffix not in FORMATS:
        raise OutputError(
            "GFM403", f"--plot must end in {', '.join(FORMATS)}, got {plot.name!r}", where=str(plot)
        )
    if by_dataset and (held_out or plot or method != "varpro"):
        raise RecipeError(
            "GFM705", "--by-dataset cannot be combined with --held-out, --plot or --method",
            fix="leave them out, or fit the mean over datasets",
        )  # fmt: skip
    known = read_runs(runs, columns=_columns(column or []))
    if by_dataset:
        _fit_by_dataset(known, law, resamples, seed, out, as_json)
        return
    found = fit_law(
        known,
        law,
        method=method,
        resamples=resamples,
        seed=seed,
        held_out=held_out or None,
    )
    if out is not None:
        with whole_file(out) as path:
            path.write_text(found.to_json(), encoding="utf-8")
    if plot is not None:
        from graphfm.scaling.plot import draw_fit

        with whole_file(plot) as path:
            draw_fit(found, path)
    if as_json:
        show(found.to_json().rstrip())
        return
    show(f"{found.law.name}: {found.law.formula}")
    show(pairs(_facts(found)))
    if len(found.compared) > 1:
        show(table(_compared(found), head=["law", "AICc", "held-out error"]))
    for name, why in found.refused.items():
        note(f"{name} is left out: {why}")
    if out is not None:
        size, data = (f"{10 * v.max():.2g}" for v in (found.runs.params, found.runs.targets))
        next_step("graphfm scaling predict --fit", out, "--params", size, "--targets", data)


@app.command()
def predict(
    params: Annotated[float, typer.Option(help="Trunk parameters, such as 1e9.")],
    targets: Annotated[float, typer.Option(help="Targets seen, repeats counted.")],
    unique: Annotated[
        float | None, typer.Option(help="Different targets. Default: no target repeats.")
    ] = None,
    fit: FitOption = Path("fit.json"),
    as_json: JsonOption = False,
) -> None:
    """Predict the loss of another run."""
    found = read_fit(fit)
    positive(params=params, targets=targets, unique=unique)
    if unique is not None and unique > targets:
        note(f"--unique is reduced to {targets:g}: a run of {targets:g} targets sees no more")
        unique = targets
    if unique is not None and "unique" not in found.law.axes:
        note(f"--unique is not used: {found.law.name} has no term for repeats")
    band = found.predict(params, targets, unique)
    reach = float(found.reach(params, targets)[0])
    if as_json:
        show_json({"law": found.law.name, "loss": _first(band), "times_largest_compute": reach})
        return
    show(pairs({"loss": _interval(_first(band)), "compute": f"{reach:.3g} x the largest fitted"}))
    _note_if_far(reach)


@app.command()
def optimal(
    flops: Annotated[float, typer.Option(help="FLOPs of one run, such as 1e21.")],
    unique: Annotated[
        float | None, typer.Option(help="Different targets that exist; data-constrained only.")
    ] = None,
    fit: FitOption = Path("fit.json"),
    as_json: JsonOption = False,
) -> None:
    """Show the best size and data for given compute."""
    found = read_fit(fit)
    positive(flops=flops, unique=unique)
    best = found.optimal(flops, unique)
    parts = {name: _first(getattr(best, name)) for name in ("params", "targets", "loss")}
    reach = float(found.reach(parts["params"]["value"], parts["targets"]["value"])[0])
    if as_json:
        facts = {"times_largest_compute": reach, "no_power": list(found.no_power)}
        show_json({"law": found.law.name, **parts, **facts})
        return
    show(pairs({name: _interval(part) for name, part in parts.items()}))
    if found.no_power:
        lost = ", ".join(found.no_power)
        note(f"The runs do not determine {lost}: this best size has no meaning; add more sizes")
    _note_if_far(reach)


app.command()(design)
app.command()(grid)


def _fit_by_dataset(
    runs: Runs, law: str, resamples: int, seed: int, out: Path | None, as_json: bool
) -> None:
    from graphfm.scaling.mixed import fit_mixed

    found = fit_mixed(runs, "chinchilla" if law == "auto" else law, resamples=resamples, seed=seed)
    if out is not None:
        with whole_file(out) as path:
            path.write_text(found.to_json(), encoding="utf-8")
    if as_json:
        show(found.to_json().rstrip())
        return
    show(f"{found.law.name}, a floor for each of {len(found.floors)} datasets")
    facts = {name: _interval(vars(it)) for name, it in found.exponents.items()}
    facts["mean floor"] = _interval(vars(found.params["E"]))
    facts["sd of floors"] = _interval(vars(found.spread))
    facts["noise"] = _interval(vars(found.noise))
    show(pairs({**facts, "rows": f"{found.num_rows:,}"}))


def _columns(given: list[str]) -> dict[str, str]:
    """Parse NAME=COLUMN pairs."""
    found = {}
    for pair in given:
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise RecipeError("GFM705", f"--column must be NAME=COLUMN, got {pair!r}")
        found[name] = column
    return found


def _facts(found: Fit) -> dict[str, str]:
    facts = {name: _interval(vars(it)) for name, it in found.exponents.items()}
    if "E" in found.params:
        facts["E"] = _interval(vars(found.params["E"]))
    facts["objective"] = f"{found.objective:.6g}"
    facts["runs"] = f"{len(found.runs):,}"
    facts["condition"] = f"{found.condition:.3g}"
    if found.held_out is not None and found.held_out_error is not None:
        facts["held out"] = f"{len(found.held_out):,}, error {_percent(found.held_out_error)}"
    return facts


def _compared(found: Fit) -> list[list[str]]:
    return [
        [name, f"{it['aicc']:.1f}", "-" if it["held_out_error"] is None
         else f"{it['held_out_error']:.2%}"]
        for name, it in found.compared.items()
    ]  # fmt: skip


def _interval(it: dict[str, float]) -> str:
    known = it["low"] == it["low"]
    return f"{it['value']:.4g}" + (f"  [{it['low']:.4g}, {it['high']:.4g}]" if known else "")


def _percent(it: Interval) -> str:
    known = it.low == it.low
    return f"{it.value:.2%}" + (f" [{it.low:.2%}, {it.high:.2%}]" if known else "")


def _first(band: Band) -> dict[str, float]:
    return {name: float(getattr(band, name)[0]) for name in ("value", "low", "high")}


def _note_if_far(reach: float) -> None:
    if reach > FAR:
        note(
            f"extrapolation: {reach:.3g} times the largest fitted compute; the interval holds only "
            "if the law does"
        )
