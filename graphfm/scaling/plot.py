"""Picture of a fitted law: curves with bands, equal loss with the frontier, residuals.

Held-out runs are drawn hollow; no curve was fitted to them. Bands are 95% intervals of the fit's
resamples; without resamples there are none.

Shapes:
    n  runs   g  points of a curve
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import OutputError
from graphfm.scaling.fitted import Band, Fit
from graphfm.scaling.law import Array
from graphfm.scaling.runs import Runs

FORMATS = (".png", ".svg", ".pdf")
MAX_CURVES = 6  # limit of the sizes with a curve; runs of all sizes are drawn
GRID = 80
NAMES = {
    "params": "trunk parameters N",
    "targets": "targets seen D",
    "unique": "different targets U",
}


def draw_fit(fit: Fit, out: Path, *, title: str = "") -> None:
    """Draw a fitted law with its fitted and held-out runs.

    Args:
        fit: The law. With one coordinate it gives a curve and residuals; with size and data also
            lines of equal loss, and the least loss for each compute.
        out: Picture to write; its suffix is one of :data:`FORMATS`.
        title: Title above all panels. Default: the law and its exponents.

    Raises:
        OutputError: GFM403 for another format.
    """
    if out.suffix not in FORMATS:
        raise OutputError(
            "GFM403",
            f"a picture must end in {', '.join(FORMATS)}, got {out.name!r}",
            where=str(out),
        )
    figure_of(fit, title=title).savefig(out, dpi=100, format=out.suffix[1:])


def figure_of(fit: Fit, *, title: str = "") -> Any:
    """Return the picture of :func:`draw_fit` as a matplotlib figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure

    whole = {"params", "targets"} <= set(fit.law.axes)
    figure = Figure(figsize=(13, 10) if whole else (13, 5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 if whole else 1, 2).ravel()
    if whole:
        _curves(figure, panels[0], fit)
        _contours(panels[1], fit)
        _compute(panels[2], fit)
    else:
        _curve(panels[0], fit)
    _residuals(panels[-1], fit)
    for panel in panels:
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title or _title(fit), fontsize=11)
    return figure


def _title(fit: Fit) -> str:
    exponents = ", ".join(
        f"{name} not determined"
        if name in fit.no_power
        else f"{name} {it.value:.3f}"
        + (f" [{it.low:.3f}, {it.high:.3f}]" if it.low == it.low else "")
        for name, it in fit.exponents.items()
        if name in fit.law.exponents
    )
    left = "" if fit.held_out is None else f", {len(fit.held_out)} held out"
    return f"{fit.law.name}: {exponents}; {len(fit.runs)} runs{left}"


def _curves(figure: Any, axes: Any, fit: Fit) -> None:
    """Draw loss over targets, a curve for each of some sizes."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    every = _both(fit, "params")
    low, high = every.min(), every.max()
    norm = LogNorm(low, high if high > low else low * 1.01)
    colors = colormaps["viridis"]
    x = _span(_both(fit, "targets"))
    unique = _unique(fit)
    for size in _some(every):
        seen = np.full_like(x, size)
        band = fit.predict(seen, x, None if unique is None else np.minimum(unique, x))
        _draw_band(axes, x, band, colors(norm(size)))
    for runs, hollow in ((fit.runs, False), (fit.held_out, True)):
        if runs is not None:
            color = colors(norm(runs.params))
            _points(axes, runs.targets, runs.loss, color, hollow=hollow)
    from matplotlib.cm import ScalarMappable

    figure.colorbar(ScalarMappable(norm, colors), ax=axes, label=NAMES["params"])
    at = "" if unique is None else f"; curves for U = {unique:.3g}"
    _loss_axis(axes)
    axes.set(xscale="log", xlabel=NAMES["targets"])
    axes.set_title(f"Loss of each size{at}")


def _curve(axes: Any, fit: Fit) -> None:
    """Draw loss over the one coordinate of a law."""
    axis = fit.law.axes[0]
    x = _span(_both(fit, axis))
    given = {name: x if name == axis else np.ones_like(x) for name in NAMES}
    _draw_band(axes, x, fit.predict(**given), "tab:blue")
    for runs, hollow in ((fit.runs, False), (fit.held_out, True)):
        if runs is not None:
            _points(axes, np.exp(runs.logs()[axis]), runs.loss, "tab:blue", hollow=hollow)
    _loss_axis(axes)
    axes.set(xscale="log", xlabel=NAMES[axis], title="Loss")


def _contours(axes: Any, fit: Fit) -> None:
    """Draw equal loss over size and data, with the best size for each compute."""
    n, d = _span(_both(fit, "params")), _span(_both(fit, "targets"))
    unique = _unique(fit)
    sizes, data = np.meshgrid(n, d)
    loss = fit.law.predict(
        sizes.ravel(), data.ravel(), None if unique is None else np.minimum(unique, data.ravel())
    ).reshape(sizes.shape)
    levels = np.geomspace(loss.min(), loss.max(), 14)[1:-1]
    lines = axes.contour(sizes, data, loss, levels=levels, cmap="magma", linewidths=0.8)
    axes.clabel(lines, fontsize=7, fmt="%.3g")
    if not fit.no_power:
        spent = fit.cost.flops(sizes, data)
        _frontier(axes, fit, np.geomspace(spent.min(), spent.max(), GRID))
    for runs, hollow in ((fit.runs, False), (fit.held_out, True)):
        if runs is not None:
            _points(axes, runs.params, runs.targets, "tab:blue", hollow=hollow)
    axes.set(
        xscale="log", yscale="log", xlim=(n[0], n[-1]), ylim=(d[0], d[-1]), xlabel=NAMES["params"],
        ylabel=NAMES["targets"],
    )  # fmt: skip
    at = "" if unique is None else f" for U = {unique:.3g}"
    axes.set_title(f"Equal loss{at}{_of_frontier(fit)}")
    if not fit.no_power:
        axes.legend(frameon=True, fontsize=8, loc="upper left")


def _frontier(axes: Any, fit: Fit, flops: Array) -> None:
    """Draw the best size and data for each compute."""
    best = fit.optimal(flops)
    axes.plot(best.params.value, best.targets.value, color="black", linewidth=1.6,
              label="best use of compute")  # fmt: skip
    # Its error is along a line of equal compute: too large a size means too little data.
    for size in (best.params.low, best.params.high):
        seen = flops / fit.cost.flops(size, 1.0)
        axes.plot(size, seen, color="black", linewidth=0.9, linestyle=":")


def _of_frontier(fit: Fit) -> str:
    """Return the part of a title about the best use of compute."""
    if fit.no_power:
        return f"; no frontier without {', '.join(fit.no_power)}"
    return "; frontier without repeats" if "unique" in fit.law.axes else ""


def _compute(axes: Any, fit: Fit) -> None:
    """Draw loss over compute, with the least loss that any size reaches."""
    parts = [(fit.runs, "tab:blue", False), (fit.held_out, "tab:red", True)]
    spent = [_flops(fit, runs) for runs, _, _ in parts if runs is not None]
    if not fit.no_power:
        x = _span(np.concatenate(spent))
        _draw_band(axes, x, fit.optimal(x).loss, "black", label="best use of compute")
    for runs, color, hollow in parts:
        if runs is not None:
            label = "held out" if hollow else "fitted"
            _points(axes, _flops(fit, runs), runs.loss, color, hollow=hollow, label=label)
    _loss_axis(axes)
    axes.set(xscale="log", xlabel="FLOPs of a run")
    axes.set_title(f"Loss and compute{_of_frontier(fit)}")
    axes.legend(frameon=False, fontsize=8)


def _residuals(axes: Any, fit: Fit) -> None:
    """Draw the difference of each run from the law, in percent."""
    axes.axhline(0, color="black", linewidth=0.8)
    parts = [(fit.runs, "tab:blue", False), (fit.held_out, "tab:red", True)]
    for runs, color, hollow in parts:
        if runs is None:
            continue
        unique = np.exp(runs.logs()["unique"])
        off = 100 * (runs.loss / fit.law.predict(runs.params, runs.targets, unique) - 1)
        label = f"{'held out' if hollow else 'fitted'}: {np.abs(off).mean():.2g}% off on average"
        _points(axes, _flops(fit, runs), off, color, hollow=hollow, label=label)
    axes.set(xscale="log", xlabel="FLOPs of a run", ylabel="measured above the law, %")
    axes.set_title("Residuals")
    axes.legend(frameon=False, fontsize=8)


def _loss_axis(axes: Any) -> None:
    """Set a logarithmic axis with plain numbers: losses seldom span a power of ten."""
    from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullLocator

    axes.set(yscale="log", ylabel="loss")
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))


def _draw_band(axes: Any, x: Array, band: Band, color: Any, *, label: str = "") -> None:
    if np.isfinite(band.low).all():
        axes.fill_between(x, band.low, band.high, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, band.value, color=color, linewidth=1.3, label=label or None)


def _points(
    axes: Any, x: Array, y: Array, color: Any, *, hollow: bool, label: str | None = None
) -> None:
    face = {"facecolors": "none", "edgecolors": color, "s": 36, "linewidths": 1.2}
    solid = {"c": color if isinstance(color, np.ndarray) else [color], "s": 18, "linewidths": 0}
    axes.scatter(x, y, zorder=3, label=label, **(face if hollow else solid))


def _flops(fit: Fit, runs: Runs) -> Array:
    """Return the counted FLOPs, else those of the law of cost, (n,)."""
    return fit.cost.flops(runs.params, runs.targets) if runs.flops is None else runs.flops


def _both(fit: Fit, axis: str) -> Array:
    """Return a coordinate of all runs, held-out ones included."""
    parts = [fit.runs, *([fit.held_out] if fit.held_out is not None else [])]
    return np.exp(np.concatenate([runs.logs()[axis] for runs in parts]))


def _unique(fit: Fit) -> float | None:
    """Return the largest number of different targets of a run, for a law with repeats."""
    return float(_both(fit, "unique").max()) if "unique" in fit.law.axes else None


def _span(values: Array) -> Array:
    """Return points from a little below the least to a little above the largest value, (g,)."""
    return np.geomspace(values.min() / 1.3, values.max() * 1.3, GRID)


def _some(values: Array) -> Array:
    """Return at most :data:`MAX_CURVES` of the values, spread by rank."""
    found = np.unique(values)
    at = np.linspace(0, len(found) - 1, min(len(found), MAX_CURVES)).round().astype(int)
    return found[at]
