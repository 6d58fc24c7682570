"""The page of a grid, from its file of results, and the picture of what grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from report_grid_fits import NEVER_SEEN, Row, best_so_far, longest

MARK = "<!-- below: written by tools/report_grid.py -->\n"
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
GROWS = {
    "params": "trunk parameters, all graphs",
    "unique": "different nodes, all graphs",
    "datasets": "graphs, all their nodes",
}
EXPONENTS = (("alpha", "A"), ("beta", "B"))
NOTHING = 1e-9  # of a coefficient: it stands at its bound
ON = {"unseen": "after a short fit", "states": "states alone"}
ABOVE = "# What size, nodes and graphs are worth here, measured\n\n"
MEANING = {
    "corpus-targets": ("corpus", "targets seen"),
    "corpus-nodes": ("corpus", "different nodes"),
    "unseen-nodes": ("unseen graphs", "different nodes"),
    "unseen-graphs": ("unseen graphs", "graphs"),
    "states-nodes": ("unseen graphs, states", "different nodes"),
    "states-graphs": ("unseen graphs, states", "graphs"),
}


def page(record: Mapping[str, Any], path: Path) -> None:
    """Replace what stands below the mark."""
    text = path.read_text(encoding="utf-8") if path.exists() else ABOVE
    above = text.partition(MARK)[0]
    path.write_text(above + MARK + "\n" + "\n".join(_below(record)) + "\n", encoding="utf-8")


def _below(record: Mapping[str, Any]) -> Iterator[str]:
    state = record["cells"]
    if state["in"] < state["of"]:
        yield (
            f"**Not finished: {state['in']} of {state['of']} cells, {state['runs']} runs.** "
            "Every figure below is of those; run the tool again when more are in."
        )
    else:
        yield f"All {state['of']} cells, {state['runs']} runs."
    sizes = ", ".join(f"{name} {count:,.0f}" for name, count in record["sizes"].items())
    hours = ", ".join(f"{name} {value:.2f}" for name, value in record["hours"].items())
    yield f"Trunk parameters: {sizes}. Hours of training, beside other work: {hours}."
    yield f"Commits: {', '.join(record['commits'])}."
    yield from _effects(record["effects"])
    yield from _laws(record)
    yield from _held_out(record["held_out"])
    yield from _can_tell(record)


def _effects(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "\n## The largest against the smallest, all else the same\n"
    yield "| what grows | times | loss on | pairs | lower in | change of the loss | slope |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for one in found:
        if not one["pairs"]:
            yield f"| {one['axis']} | | {one['on']} | 0 | | no pair yet | |"
            continue
        yield (
            f"| {one['axis']} | {one['times']:.3g} | {one['on']} | {one['pairs']} | "
            f"{one['lower_in']} | {_interval(one['change'], '{:+.1%}')} | "
            f"{_interval(one['slope'])} |"
        )
    yield (
        "\nSlope: loss ~ x^-slope, without a floor. *Corpus*: validation nodes of all graphs "
        "learned from; *common*: of those that each run of a seed has; *unseen*: test nodes of "
        "graphs that no run has seen, after a few steps at depth `decoder`; *states*: the same "
        "by a closed form on the trunk's states alone. 95% t-intervals are over pairs; one pair "
        "has none."
    )
    yield "\n![what grows, and the loss](pictures/scaling-axes.png)"


def _laws(record: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## Exponents\n"
    yield "L = E + A / N^alpha + B / x^beta: alpha for trunk parameters N, beta for what x is.\n"
    yield "| loss on | x | floors | law | rows | alpha | beta | E | condition |"
    yield "|---|---|---|---|---:|---:|---:|---:|---:|"
    for kind, floors in (("laws", "one"), ("mixed", "of each dataset")):
        for name, one in record[kind].items():
            on, data = MEANING[name]
            if "refused" in one:
                yield f"| {on} | {data} | {floors} | {_unknown(one['refused'])} | | | | | |"
                continue
            cells = [_exponent(one, *pair) for pair in EXPONENTS]
            cells += [_interval(one["params"]["E"])]
            rows = one.get("rows", one.get("runs"))
            yield (
                f"| {on} | {data} | {floors} | {one['law']} | {rows:,} | {' | '.join(cells)} | "
                f"{one['condition']:.3g} |"
            )
    draws = record["resamples"]
    yield (
        f"\n95% intervals of {draws['laws']} resamples of cells (size, shares, seed; the lengths "
        f"of one are drawn together), with floors of {draws['mixed']} resamples of cells and "
        "datasets. An exponent whose interval is as wide as itself is not known. *None*: its term "
        "is zero, the loss falls with nothing of the kind. *Not told*: no run tells it, or it is "
        "above 2, a step between the least values."
    )


def _held_out(both: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## The largest quarter of compute, predicted\n"
    yield "| loss on | fitted | held out | predictor | mean relative error | more than the law's |"
    yield "|---|---:|---|---|---:|---:|"
    for on, one in both.items():
        if "refused" in one:
            yield f"| {on} | | not yet: {one['refused']} | | | |"
            continue
        said = f"{one['held_out']} of {', '.join(one['sizes'])}, to {one['reach']:.3g} times"
        for name, error in one["errors"].items():
            more = one["better"].get(name)
            yield (
                f"| {on} | {one['runs']} | {said} | {f'**{name}**' if more is None else name} | "
                f"{_interval(error, '{:.2%}')} | {_interval(more, '{:+.2%}') if more else ''} |"
            )
    yield (
        "\n*Times*: the largest compute that was fitted. Bold: the law, chosen by AICc on the "
        "fitted runs. *Last value*: the fitted run of most compute on the same nodes and of the "
        "same seed. Intervals on the corpus: resamples of the fit and of the held-out cells; on "
        "unseen graphs: of the held-out cells. *More* is drawn together."
    )
    for law, why in both["corpus"].get("refused_laws", {}).items():
        yield f"\n`{law}` is not among them: {why}."
    if "refused" not in both["corpus"]:
        yield "\n![the law, with the held-out runs hollow](pictures/scaling-corpus.png)"


def _can_tell(record: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## What these runs cannot tell\n"
    said = 0
    for kind in ("laws", "mixed"):
        for name, one in record[kind].items():
            on, data = MEANING[name]
            for text in one.get("warnings", [one.get("refused")]):
                yield f"- {on}, {data}{', a floor each' if kind == 'mixed' else ''}: {text}."
                said += 1
    if not said:
        yield "No law of the table above carries a warning."


def _exponent(fitted: Mapping[str, Any], name: str, coefficient: str) -> str:
    """An exponent with its interval; of a term that is zero there is none."""
    params = fitted["params"]
    if params[coefficient]["value"] < NOTHING:
        return "none"
    return "not told" if name in fitted["no_power"] else _interval(params[name])


def _interval(one: Mapping[str, float | None], form: str = "{:.3f}") -> str:
    if one["low"] is None or one["high"] is None:
        return form.format(one["value"])
    return f"{form.format(one['value'])} [{form.format(one['low'])}, {form.format(one['high'])}]"


def _unknown(text: str) -> str:
    return f"*{text.split(':')[0]}*"


def draw_axes(rows: Sequence[Row], out: Path) -> None:
    """Loss over length for each share of the nodes; loss on unseen graphs over what grows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = best_so_far(rows)
    figure = Figure(figsize=(17, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic([["corpus", *(f"{on} {x}" for x in GROWS)] for on in NEVER_SEEN])
    sizes = [row["size"] for row in sorted(rows, key=lambda row: row["params"])]
    colors = _colors(list(dict.fromkeys(sizes)))
    _draw_lengths(panels["corpus"], rows, colors)
    for on in NEVER_SEEN:
        judged = _from_seed_mean(longest(rows), f"loss_{on}")
        for x, title in GROWS.items():
            panel = panels[f"{on} {x}"]
            _draw_growth(panel, judged, x, colors)
            panel.axhline(0, color="black", linewidth=0.8)
            panel.set(xlabel=title, ylabel="loss against its seed's mean, %",
                      title=f"Unseen graphs, {ON[on]}")  # fmt: skip
    figure.savefig(out, dpi=100, format=out.suffix[1:])


def _draw_lengths(panel: Any, rows: Sequence[Row], colors: Mapping[str, Any]) -> None:
    """Loss on the corpus: a colour for each size, a style for each share of the nodes."""
    rows = [row for row in rows if row["graph_share"] == 1.0]
    styles = _styles(rows)
    for size, color in colors.items():
        for share, style in styles.items():
            part = [r for r in rows if r["size"] == size and r["node_share"] == share]
            _line(panel, part, "targets", "loss", color, style)
    by_share = [_key(f"{share:g} of the nodes", "gray", style) for share, style in styles.items()]
    _finish(panel, rows, "targets", [*(_key(s, c) for s, c in colors.items()), *by_share])
    panel.set(title="Corpus: loss at each length", xlabel="targets seen",
              ylabel="validation loss / log C")  # fmt: skip


def _draw_growth(panel: Any, rows: Sequence[Row], x: str, colors: Mapping[str, Any]) -> None:
    """Loss on unseen graphs over one axis: a line for each size, over size for each share."""
    other = "node_share" if x == "datasets" else "graph_share"
    whole = [row for row in rows if row[other] == 1.0]
    if x == "params":
        styles = _styles(whole)
        shades = _colors(list(styles), "plasma")
        for share, style in styles.items():
            part = [r for r in whole if r["node_share"] == share]
            _line(panel, part, x, "off", shades[share], style)
        keys = [_key(f"{s:g} of the nodes", shades[s], style) for s, style in styles.items()]
    else:
        for size, color in colors.items():
            _line(panel, [r for r in whole if r["size"] == size], x, "off", color)
        keys = [_key(size, color) for size, color in colors.items()]
    _finish(panel, rows, x, keys)


def _styles(rows: Sequence[Row]) -> dict[float, Any]:
    """A style for each share of the nodes."""
    shares = sorted({row["node_share"] for row in rows}, reverse=True)
    return {share: STYLES[min(i, len(STYLES) - 1)] for i, share in enumerate(shares)}


def _key(label: str, color: Any, style: Any = "-") -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, linestyle=style, label=label)


def _finish(panel: Any, rows: Sequence[Row], x: str, handles: Sequence[Any]) -> None:
    panel.set_xscale("log")
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(handles=handles, frameon=False, fontsize=8, ncols=2)
    ticks = sorted({_place(row, x): row[x] for row in rows}.values())
    panel.set_xticks(ticks, [_thousands(tick) for tick in ticks])
    panel.set_xticks([], minor=True)


def _from_seed_mean(rows: Sequence[Row], loss: str) -> list[Row]:
    """Rows with ``off``, percent above the mean of their seed: a seed splits the nodes anew."""
    rows = [row for row in rows if row.get(loss) is not None]
    mean = {
        seed: np.mean([row[loss] for row in rows if row["seed"] == seed])
        for seed in {row["seed"] for row in rows}
    }
    return [{**row, "off": 100 * (row[loss] / mean[row["seed"]] - 1)} for row in rows]


def _line(axes: Any, part: Sequence[Row], x: str, y: str, color: Any, style: Any = "-") -> None:
    """A line through the means over seeds, the band of their least and most, every run a point."""
    at: dict[Any, list[Row]] = {}
    for row in part:
        at.setdefault(_place(row, x), []).append(row)
    places = [at[place] for place in sorted(at)]
    middle = [np.mean([row[x] for row in group]) for group in places]
    values = [[row[y] for row in group] for group in places]
    axes.plot(middle, [np.mean(v) for v in values], color=color, linewidth=1.2, linestyle=style)
    axes.fill_between(
        middle, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.12,
        linewidth=0,
    )  # fmt: skip
    axes.scatter([r[x] for r in part], [r[y] for r in part], color=color, s=8, zorder=3)


def _colors(names: Sequence[Any], of: str = "viridis") -> dict[Any, Any]:
    from matplotlib import colormaps

    drawn = colormaps[of](np.linspace(0, 0.85, max(len(names), 1)))
    return dict(zip(names, drawn, strict=True))


def _thousands(value: float) -> str:
    if value < 1e3:
        return f"{value:g}"
    return f"{value / 1e3:.3g}k" if value < 1e6 else f"{value / 1e6:.2g}m"


def _place(row: Row, x: str) -> Any:
    """What runs of different seeds at one place share: targets differ a little between them."""
    return {"targets": row["steps"], "unique": row["node_share"]}.get(x, row[x])
