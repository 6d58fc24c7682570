"""Write the tables and pictures of docs/notebook/scaling-local.md from the runs of a grid.

    python tools/study/grid_page.py runs/grid    # collect the receipts of a grid first
    python tools/study/grid_page.py              # from docs/results/local-grid*.csv

The text above the mark stays. If the runs do not determine a law, the page has the reason.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.benchmark.statistics import mean_interval
from graphfm.errors import DataError
from graphfm.scaling.fit import fit
from graphfm.scaling.fitted import Fit, Interval
from graphfm.scaling.mixed import MixedFit, fit_mixed
from graphfm.scaling.runs import Runs

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- below: written by tools/study/grid_page.py -->\n"
TEXT = ("run", "size", "commit")  # columns that are not numbers
HELD_OUT = 0.25  # share of the runs, those with the most compute
UNSEEN = {"unseen": "unseen graphs", "states": "unseen graphs, states"}
LAWS = {  # predictor of held-out runs: its law, and the column that it takes for targets
    "chinchilla": ("chinchilla", "targets"),
    "data-constrained": ("data-constrained", "targets"),
    "chinchilla over different nodes": ("chinchilla", "unique"),
    "power law in compute": ("power", "flops"),
}
AXES = {"targets": "targets seen", "params": "trunk parameters", "unique": "different nodes"}
AXES["datasets"] = "graphs"
Row = dict[str, Any]
Losses = dict[tuple[str, float], Row]  # by run and steps, then by graph


def main(argv: Sequence[str] | None = None) -> int:
    """Collect receipts if a grid is given, then write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("grid", type=Path, nargs="?", help="folder of `graphfm scaling grid --out`")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes/scaling/local-grid.yaml")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--resamples", type=int, default=400)
    args = parser.parse_args(argv)
    if args.grid is not None:
        collect(args.recipe, args.grid, args.docs / "results")
    rows, losses = read_tables(args.docs / "results")
    path, pictures = args.docs / "notebook" / "scaling-local.md", args.docs / "pictures"
    above = path.read_text(encoding="utf-8").partition(MARK)[0]
    text = "\n".join(page(rows, losses, args.resamples, pictures))
    path.write_text(f"{above}{MARK}\n{text}\n", encoding="utf-8")
    draw_axes(rows, pictures / "scaling-axes.png")
    return 0


def collect(recipe: Path, grid: Path, out: Path) -> None:
    """Write both tables from the receipts in a grid's folder, floats in five digits."""
    from graphfm.cli.scaling_grid import write_csv
    from graphfm.scaling.grid import losses, read_grid, rows

    config = read_grid(recipe)
    wide = [{"run": cell, "steps": steps, **each} for cell, steps, each in losses(config, grid)]
    for name, found in (("local-grid", list(rows(config, grid))), ("local-grid-losses", wide)):
        short = [
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in found
        ]
        write_csv(out / f"{name}.csv", short)


def read_tables(folder: Path) -> tuple[list[Row], Losses]:
    """Read both tables; an empty cell is left out of its row. Rows get ``loss_best``.

    ``loss_best`` is the least loss of the run's cell up to its length. On few nodes the loss rises
    again (2% of them: 0.87 after 200 steps, 1.12 after 400), and no law of repeated data rises: the
    laws are of runs that stop in time.
    """
    tables = []
    for name in ("local-grid", "local-grid-losses"):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            read = list(csv.DictReader(file))
        tables.append(
            [{k: v if k in TEXT else float(v) for k, v in row.items() if v} for row in read]
        )
    rows, wide = tables
    least: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: (row["run"], row["steps"])):
        row["loss_best"] = least[row["run"]] = min(row["loss"], least.get(row["run"], np.inf))
    return rows, {(row.pop("run"), row.pop("steps")): row for row in wide}


def having(rows: Iterable[Row], **values: Any) -> list[Row]:
    """Return the rows with these values."""
    return [row for row in rows if all(row[k] == v for k, v in values.items())]


def longest(rows: Iterable[Row]) -> list[Row]:
    """Return the longest run of each cell."""
    return list({r["run"]: r for r in sorted(rows, key=lambda row: row["steps"])}.values())


def runs_of(rows: Sequence[Row], loss: str, data: str = "targets") -> Runs:
    """Return a table for a law; ``data`` is the column that the law takes for targets."""
    names = ("params", "targets", "unique", "datasets", "flops", loss)
    column = {name: np.array([row[name] for row in rows]) for name in names}
    column["unique"] = np.minimum(column["unique"], column["targets"])
    seen = data == "targets"  # FLOPs and repeats belong to targets that were seen
    return Runs(
        params=column["params"],
        targets=column[data],
        unique=column["unique"] if seen else None,
        flops=column["flops"] if seen else None,
        loss=column[loss],
        seed=np.array([f"{row['seed']:g}" for row in rows]),
        run=np.array([row["run"] for row in rows]),
    )


def mixed(rows: Sequence[Row], losses: Losses, data: str, on: str, resamples: int = 0) -> Any:
    """Fit Chinchilla's law with a floor for each dataset; for each seed too on unseen graphs.

    A seed splits an unseen graph anew, which moves its loss more than anything that grows here.
    """
    long = [
        {**row, "each": loss, "dataset": graph}
        for row in rows
        for graph, loss in losses[row["run"], row["steps"]].items()
        if (graph.partition(":")[0] if ":" in graph else "corpus") == on
    ]
    if not long:
        raise DataError("GFM701", "no finished run")
    runs = replace(runs_of(long, "each", data), dataset=np.array([r["dataset"] for r in long]))
    return fit_mixed(runs, by_seed=on != "corpus", resamples=resamples)


def attempt(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return a result, or the text of the reason why these runs do not give one."""
    try:
        return make(*args, **kwargs)
    except DataError as error:
        return error.what


def page(rows: Sequence[Row], losses: Losses, resamples: int, pictures: Path) -> Iterator[str]:
    """Yield the lines below the mark; draw the law."""
    sizes = {row["size"]: row["params"] for row in sorted(rows, key=lambda row: row["params"])}
    yield f"{len(longest(rows))} cells, {len(rows)} runs, {resamples} resamples."
    for size, params in sizes.items():  # seconds of a longer run include those of the shorter ones
        hours = sum(row["seconds"] for row in having(longest(rows), size=size)) / 3600
        yield f"- {size}: {params:,.0f} trunk parameters, {hours:.2f} hours beside other work"
    yield f"\nCommits: {', '.join(sorted({row['commit'] for row in rows}))}."
    yield from effects_table(rows)
    yield "\n![what grows, and the loss](../pictures/scaling-axes.png)"
    yield from laws_table(rows, losses, resamples)
    yield from held_out_table(rows, losses, resamples, pictures / "scaling-corpus.png")
    yield "\n![the law, with the held-out runs hollow](../pictures/scaling-corpus.png)"


def effects_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table of the largest against the smallest of each axis, all else the same."""
    last, size = longest(rows), ("size", "seed")
    whole, every = having(last, graph_share=1), having(last, node_share=1)
    most = max(row["steps"] for row in rows)
    # Runs whose length is in proportion to their number of graphs.
    equal = [r for r in having(rows, node_share=1) if r["steps"] == most * r["graph_share"]]
    asked: list[Any] = [
        (f"trunk parameters, {share:g} of the nodes", "corpus", having(whole, node_share=share),
         "params", "loss_best", ("seed",))
        for share in sorted({r["node_share"] for r in whole})
    ]  # fmt: skip
    seen = having(rows, graph_share=1, node_share=1)
    asked += [
        ("targets seen", "corpus", seen, "steps", "loss", size),
        ("different nodes", "corpus", whole, "node_share", "loss_best", size),
        ("graphs, at equal targets", "common", every, "graph_share", "loss_common", size),
        ("graphs, at equal targets a graph", "common", equal, "graph_share", "loss_common", size),
    ]
    for on in UNSEEN:
        same = ("node_share", "graph_share", "seed")
        asked += [
            ("trunk parameters", on, last, "params", f"loss_{on}", same),
            ("different nodes", on, whole, "node_share", f"loss_{on}", size),
            ("graphs, at equal targets", on, every, "graph_share", f"loss_{on}", size),
        ]
    yield "\n## The largest against the smallest, all else the same\n"
    yield "| what grows | times | loss on | pairs | lower in | change of the loss | slope |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for axis, on, part, by, loss, same in asked:
        pairs, times = ratios(part, by, loss, same)
        if not len(pairs):
            continue
        middle, half = mean_interval(pairs)
        wide = np.nan if half is None else half
        ends = np.array([middle, middle - wide, middle + wide])
        change = cell(Interval(*np.expm1(ends).tolist()), "{:+.1%}")
        slope = cell(Interval(*(-ends[[0, 2, 1]] / np.log(times)).tolist()))
        lower = int((pairs < 0).sum())
        yield f"| {axis} | {times:.3g} | {on} | {len(pairs)} | {lower} | {change} | {slope} |"


def ratios(
    rows: Sequence[Row], by: str, loss: str, same: Sequence[str]
) -> tuple[np.ndarray, float]:
    """Return log loss ratios of the largest to the smallest ``by``, and the ratio of these two."""
    groups: dict[Any, dict[float, float]] = defaultdict(dict)
    for row in rows:
        if loss in row:
            groups[tuple(row[name] for name in same)][row[by]] = row[loss]
    ends = sorted({value for group in groups.values() for value in group})
    if len(ends) < 2:
        return np.empty(0), np.nan
    low, high = ends[0], ends[-1]
    pairs = [np.log(at[high] / at[low]) for at in groups.values() if low in at and high in at]
    return np.array(pairs), high / low


def laws_table(rows: Sequence[Row], losses: Losses, resamples: int) -> Iterator[str]:
    """Yield the table of exponents, and the warnings of the fits."""
    whole = having(rows, graph_share=1)
    full, last, every = having(whole, node_share=1), longest(whole), having(rows, node_share=1)
    best = longest(row for row in whole if row["loss"] == row["loss_best"])
    seen, nodes = runs_of(whole, "loss_best"), runs_of(last, "loss_best", "unique")
    fits: list[tuple[str, str, str, Any]] = [
        ("corpus", "targets seen", "one", attempt(fit, seen, resamples=resamples)),
        ("corpus", "different nodes", "one",
         attempt(fit, nodes, "chinchilla", resamples=resamples)),
    ]  # fmt: skip
    parts = [
        ("corpus", "targets seen", full, "targets"),
        ("corpus", "different nodes", best, "unique"),
    ]
    parts += [(on, "different nodes", last, "unique") for on in UNSEEN]
    parts += [(on, "graphs", longest(every), "datasets") for on in UNSEEN]
    for on, x, part, data in parts:
        made = attempt(mixed, part, losses, data, on, resamples)
        fits.append((UNSEEN.get(on, on), x, "of each dataset", made))
    yield "\n## Exponents\n"
    yield "| loss on | x | floors | law | rows | alpha | beta | E | condition |"
    yield "|---|---|---|---|---:|---:|---:|---:|---:|"
    notes = []
    for on, x, floors, one in fits:
        if isinstance(one, str):
            yield f"| {on} | {x} | {floors} | *{one}* | | | | | |"
            continue
        count = len(one.runs) if isinstance(one, Fit) else one.num_rows
        cells = [exponent(one, "alpha", "A"), exponent(one, "beta", "B"), cell(one.params["E"])]
        yield f"| {on} | {x} | {floors} | {one.law.name} | {count:,} | {' | '.join(cells)} | " + (
            f"{one.condition:.3g} |"
        )
        # No one asks for the best use of compute where x is nodes or graphs.
        texts = [text for text in one.warnings if "FLOPs" not in text]
        lost = ", ".join(text.split()[0] for text in texts if "not determined" in text)
        listed = [f"{lost} not determined"] * bool(lost)
        listed += [text for text in texts if "not determined" not in text]
        notes += [f"- {on}, {x}, floors {floors}: {'; '.join(listed)}."] if listed else []
    yield from ("\nWarnings of the fits:\n", *notes)


def exponent(one: Any, name: str, coefficient: str) -> str:
    """Return an exponent with its interval; the exponent of a term that is zero has none."""
    if one.params[coefficient].value < 1e-9:
        return "none"
    return "not determined" if name in one.no_power else cell(one.params[name])


def cell(one: Interval, form: str = "{:.3f}") -> str:
    """Return a value with its interval."""
    value, low, high = (form.format(v) for v in (one.value, one.low, one.high))
    return value if np.isnan(one.low) else f"{value} [{low}, {high}]"


def held_out_table(
    rows: Sequence[Row], losses: Losses, resamples: int, picture: Path
) -> Iterator[str]:
    """Yield the errors of laws and of other predictors on the runs with the most compute."""
    from graphfm.scaling.plot import draw_fit

    yield "\n## The largest quarter of compute, predicted\n"
    yield "| loss on | fitted | held out | predictor | mean relative error |"
    yield "|---|---:|---|---|---:|"
    for on in ("corpus", *UNSEEN):
        loss = "loss_best" if on == "corpus" else f"loss_{on}"
        whole = having(rows, graph_share=1)
        whole = whole if on == "corpus" else [r for r in longest(whole) if loss in r]
        if len(whole) < 4:
            continue
        spent = np.array([row["flops"] for row in whole])
        mask = spent >= np.sort(spent)[-max(1, round(HELD_OUT * len(spent)))] * (1 - 1e-9)
        kept = [row for row, large in zip(whole, mask, strict=True) if not large]
        out = [row for row, large in zip(whole, mask, strict=True) if large]
        errors: dict[str, str] = {}
        predicted = {"last value": [last_value(row, kept, loss) for row in out]}
        if on == "corpus":
            made = {}
            for name, (law, data) in LAWS.items():
                runs = runs_of(whole, loss, data)
                one = attempt(fit, runs, law, held_out=mask, resamples=resamples)
                if isinstance(one, Fit):
                    errors[name] = cell(one.held_out_error, "{:.2%}")
                    made |= {name: one} if data == "targets" else {}
            if made:
                draw_fit(min(made.values(), key=lambda one: one.aicc), picture)
        else:
            one = attempt(mixed, kept, losses, "unique", on)
            if isinstance(one, MixedFit):
                predicted["chinchilla"] = [mixed_loss(one, row, losses, on) for row in out]
            same = [[r[loss] for r in having(kept, seed=row["seed"])] for row in out]
            predicted["mean of the fitted runs"] = [float(np.mean(values)) for values in same]
        truth = np.array([row[loss] for row in out])
        for name, values in predicted.items():
            errors[name] = f"{np.mean(np.abs(np.array(values) / truth - 1)):.2%}"
        sizes = ", ".join(dict.fromkeys(r["size"] for r in sorted(out, key=lambda r: r["params"])))
        reach = max(row["flops"] for row in out) / max(row["flops"] for row in kept)
        for name, error in errors.items():
            yield (
                f"| {UNSEEN.get(on, on)} | {len(kept)} | {len(out)} of {sizes}, to {reach:.3g} "
                f"times | {name} | {error} |"
            )


def last_value(row: Row, kept: Sequence[Row], loss: str) -> float:
    """Return the loss of the fitted run with most compute on equal nodes and of equal seed."""
    same = having(kept, node_share=row["node_share"], seed=row["seed"])
    return float(max(same or kept, key=lambda each: each["flops"])[loss])


def mixed_loss(one: MixedFit, row: Row, losses: Losses, on: str) -> float:
    """Return the mean loss that a mixed law predicts on the unseen graphs of a run."""
    graphs = [k for k in losses[row["run"], row["steps"]] if k.startswith(f"{on}:")]
    seen, seed = min(row["unique"], row["targets"]), f"{row['seed']:g}"
    each = [one.predict(row["params"], seen, dataset=f"{k}@{seed}") for k in graphs]
    return float(np.mean(each))


def draw_axes(rows: Sequence[Row], out: Path) -> None:
    """Draw loss over length, and loss on unseen graphs over size, nodes and graphs."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(17, 8), layout="constrained")
    FigureCanvasAgg(figure)
    sizes = list(dict.fromkeys(r["size"] for r in sorted(rows, key=lambda r: r["params"])))
    shades = dict(zip(sizes, colormaps["viridis"](np.linspace(0, 0.85, len(sizes))), strict=True))
    mosaic = [["corpus targets", *(f"{on} {x}" for x in AXES if x != "targets")] for on in UNSEEN]
    for name, panel in figure.subplot_mosaic(mosaic).items():
        on, x = name.split()
        loss, part = ("loss", rows) if on == "corpus" else (f"loss_{on}", longest(rows))
        part = [row for row in part if loss in row]
        # A seed splits the unseen graphs anew: losses are compared within a seed.
        seeds = {row["seed"] for row in part}
        middle = {seed: np.mean([r[loss] for r in having(part, seed=seed)]) for seed in seeds}
        part = having(part, **{"node_share" if x == "datasets" else "graph_share": 1})
        for run in dict.fromkeys(row["run"] for row in part):  # a line: the lengths of a cell
            line = sorted(having(part, run=run), key=lambda row: row[x])
            y = [100 * (r[loss] / middle[r["seed"]] - 1) for r in line]
            panel.plot([r[x] for r in line], y, "o-", color=shades[line[0]["size"]], ms=3, lw=0.7)
        for size, color in shades.items():
            panel.plot([], [], "o", color=color, ms=3, label=size)
        panel.set(xscale="log", xlabel=AXES[x], ylabel="loss against its seed's mean, %")
        panel.set_title(UNSEEN.get(on, on))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.legend(frameon=False, fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=100, format=out.suffix[1:])


if __name__ == "__main__":
    raise SystemExit(main())
