"""A law that has been fitted: its intervals, its predictions, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from graphfm.errors import DataError
from graphfm.scaling.laws import LAWS, Array, Chinchilla, Cost, Law, Optimum
from graphfm.scaling.runs import NAMES, NUMBERS, Runs

LEVEL = (2.5, 97.5)  # percentiles of an interval: 95%
STEEP = 2.0  # an exponent above it: published ones are 0.05 to 0.8, a search begins with 0.02 to 2


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval, which is NaN where nothing was resampled."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Band:
    """Predicted losses with their 95% interval, each (n,)."""

    value: Array
    low: Array
    high: Array


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best use of some compute, each with its 95% interval."""

    params: Band
    targets: Band
    loss: Band


def interval(value: float, draws: Sequence[float]) -> Interval:
    """A value and the 95% interval of its draws."""
    low, high = np.percentile(draws, LEVEL) if len(draws) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def not_determined(names: Sequence[str]) -> Iterator[str]:
    """A sentence for each parameter that no run tells anything of."""
    for name in names:
        yield f"{name} is not determined: the loss of no run depends on it"


def hardly_known(
    law: Law | type[Law], params: Mapping[str, Interval], unseen: Sequence[str] = ()
) -> Iterator[str]:
    """A sentence for each exponent that is no power or hardly known, but for the unseen."""
    for name in law.exponents:
        it = params[name]
        if name in unseen:
            continue
        if name in no_power(law, params):
            yield f"{name} {it.value:.3g} is a step between the least values, not a power law"
        elif it.high - it.low > abs(it.value):
            ends = f"{it.low:.3g} to {it.high:.3g}"
            yield f"{name} is hardly known: {it.value:.3g}, 95% interval {ends}"


def no_power(
    law: Law | type[Law], params: Mapping[str, Interval], unseen: Sequence[str] = ()
) -> tuple[str, ...]:
    """Exponents that the runs do not tell, or above :data:`STEEP`."""
    return tuple(
        name
        for name in law.exponents
        if name in unseen or (name not in law.signed and params[name].value > STEEP)
    )


def _band(value: Array, draws: Array) -> Band:
    """(n,) and (R, n) draws."""
    low, high = np.percentile(draws, LEVEL, axis=0) if len(draws) else (value * np.nan,) * 2
    return Band(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to runs.

    Args:
        law: With the fitted values.
        params: By name. A and alpha, B and beta hang together (0.999): quote the exponents.
        exponents: The law's, and those of the best size and data in compute.
        objective: Sum over runs of Huber's loss of log loss, of width 0.001.
        condition: Of the design; see :mod:`graphfm.scaling.identify`.
        no_power: Exponents that say nothing: not determined by the runs, or above ``STEEP``. With
            one of them there is no best use of compute to speak of.
        warnings: What a reader should know, one sentence each.
        aicc: Lower is better; of laws fitted to the same runs.
        held_out_error: Mean relative error on the runs that were held out.
        residuals: Log of measured over fitted loss, (n,).
        runs: Those that were fitted, n.
        held_out: Those that were not.
        draws: (R, p), the resampled ``theta``.
        centre: Log coordinates around which ``theta`` is.
        cost: What a run costs.
        method: How it was found.
        seed: Of the resampling.
        seconds: CPU time of the search.
        compared: By law: its AICc and its error on the held-out runs.
        refused: By law: why it could not be fitted.
    """

    law: Law
    params: dict[str, Interval]
    exponents: dict[str, Interval]
    objective: float
    condition: float
    no_power: tuple[str, ...]
    warnings: tuple[str, ...]
    aicc: float
    held_out_error: Interval | None
    residuals: Array
    runs: Runs
    held_out: Runs | None
    draws: Array
    centre: dict[str, float]
    cost: Cost
    method: str
    seed: int
    seconds: float
    compared: dict[str, dict[str, float | None]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def predict(self, params: Any, targets: Any, unique: Any = None) -> Band:
        """Loss of runs that were not made, (n,), with its interval: of the law, not of a seed."""
        value = self.law.predict(params, targets, unique)
        given = (params, targets, targets if unique is None else unique)
        x = {
            k: np.log(np.atleast_1d(np.asarray(v, float))) - self.centre[k]
            for k, v in zip(("params", "targets", "unique"), given, strict=True)
        }
        return _band(value, np.exp(type(self.law).log_curve(self.draws, x)))

    def optimal(self, flops: Any, unique: float | None = None) -> Best:
        """The best size and data for some compute, (n,).

        Args:
            flops: Of the whole run, (n,) or one number.
            unique: Different targets there are, for a law that knows of repeats; without it nothing
                is repeated, whatever the compute.

        Raises:
            DataError: GFM704 for a law that has no trade between the two, or knows no repeats.
        """
        kind = type(self.law)
        if not issubclass(kind, Chinchilla):
            raise DataError(
                "GFM704", f"{kind.name} has no best size for a given compute",
                why=kind.formula, fix="fit chinchilla, to runs that differ in size and in data",
            )  # fmt: skip
        if unique is not None and "unique" not in kind.axes:
            raise DataError(
                "GFM704", f"{kind.name} does not know what repeated data are worth",
                fix="fit data-constrained, to runs that repeat their data differently often",
            )  # fmt: skip
        more = {} if unique is None else {"unique": unique}

        def of(law: Any) -> Optimum:
            best: Optimum = law.optimal(flops, self.cost, **more)
            return best

        best, drawn = of(self.law), [of(kind.of_theta(draw, self.centre)) for draw in self.draws]
        bands = {
            name: _band(getattr(best, name), np.array([getattr(one, name) for one in drawn]))
            for name in ("params", "targets", "loss")
        }
        return Best(**bands)

    def reach(self, params: Any, targets: Any) -> Array:
        """How many times the largest fitted compute a run has, (n,): how far it extrapolates."""
        largest = self.cost.flops(self.runs.params, self.runs.targets).max()
        return np.atleast_1d(self.cost.flops(params, targets) / largest)

    def to_json(self) -> str:
        """The fit as the text of ``fit.json``; NaN is null there."""
        law = self.law
        plain = {
            "law": law.name, "formula": law.formula, "source": law.source, "units": law.units,
            "objective": self.objective,
            "params": {k: asdict(v) for k, v in self.params.items()},
            "exponents": {k: asdict(v) for k, v in self.exponents.items()},
            "condition": self.condition, "no_power": list(self.no_power),
            "warnings": list(self.warnings), "aicc": self.aicc,
            "held_out_error": asdict(self.held_out_error) if self.held_out_error else None,
            "compared": self.compared, "refused": self.refused,
            "method": self.method, "resamples": len(self.draws), "seed": self.seed,
            "seconds": self.seconds, "cost": asdict(self.cost), "centre": self.centre,
            "runs": _columns(self.runs),
            "held_out": _columns(self.held_out) if self.held_out else None,
            "residuals": self.residuals.tolist(),
            "draws": [[float(f"{v:.9g}") for v in draw] for draw in self.draws],
        }  # fmt: skip
        return json.dumps(finite(plain), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "") -> Fit:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: GFM103 for a text that is no fit.
        """
        try:
            plain = json.loads(text)
            kind = LAWS[plain["law"]]
            params = {k: _interval(v) for k, v in plain["params"].items()}
            law = kind(**{k: v.value for k, v in params.items()})
            return cls(
                law=law, params=params,
                exponents={k: _interval(v) for k, v in plain["exponents"].items()},
                objective=plain["objective"], condition=plain["condition"],
                no_power=tuple(plain["no_power"]),
                warnings=tuple(plain["warnings"]), aicc=_number(plain["aicc"]),
                held_out_error=plain["held_out_error"] and _interval(plain["held_out_error"]),
                residuals=np.array(plain["residuals"], float), runs=Runs(**plain["runs"]),
                held_out=Runs(**plain["held_out"]) if plain["held_out"] else None,
                draws=np.array(plain["draws"], float).reshape(-1, len(params)),
                centre=plain["centre"], cost=Cost(**plain["cost"]), method=plain["method"],
                seed=plain["seed"], seconds=plain["seconds"], compared=plain["compared"],
                refused=plain["refused"],
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                "GFM103", f"not a fitted law: {type(error).__name__} {error}", where=where,
                fix="give the fit.json that `graphfm scaling fit --out` wrote",
            ) from None  # fmt: skip


def _interval(plain: dict[str, Any]) -> Interval:
    return Interval(*(_number(plain[k]) for k in ("value", "low", "high")))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _columns(runs: Runs) -> dict[str, list[Any]]:
    found = {name: getattr(runs, name) for name in (*NUMBERS, *NAMES)}
    return {name: array.tolist() for name, array in found.items() if array is not None}


def finite(value: Any) -> Any:
    """A value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
