"""A fitted law: its intervals, its predictions, its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from graphfm.errors import DataError
from graphfm.scaling.law import Array, Cost, Law, Optimum
from graphfm.scaling.laws import LAWS, Chinchilla
from graphfm.scaling.runs import NAMES, NUMBERS, Runs

LEVEL = (2.5, 97.5)  # percentiles of an interval: 95%
STEEP = 2.0  # limit of an exponent: published ones are 0.05 to 0.8, the search covers 0.05 to 2


@dataclass(frozen=True)
class Interval:
    """A value with its 95% interval; NaN without resamples."""

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
    """Best use of given compute, each with its 95% interval."""

    params: Band
    targets: Band
    loss: Band


def interval(value: float, draws: Sequence[float]) -> Interval:
    """Return a value with the 95% interval of its resampled values."""
    low, high = np.percentile(draws, LEVEL) if len(draws) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def not_determined(names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each parameter that no run determines."""
    for name in names:
        yield f"{name} is not determined: the loss of no run depends on it"


def hardly_known(
    law: Law | type[Law], params: Mapping[str, Interval], unseen: Sequence[str] = ()
) -> Iterator[str]:
    """Yield a sentence for each exponent that is too steep or has a wide interval."""
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
    """Return the exponents that the runs do not determine, or that are above :data:`STEEP`."""
    return tuple(
        name
        for name in law.exponents
        if name in unseen or (name not in law.signed and params[name].value > STEEP)
    )


def _band(value: Array, draws: Array) -> Band:
    """Return predictions (n,) with the 95% interval of resampled ones (R, n)."""
    low, high = np.percentile(draws, LEVEL, axis=0) if len(draws) else (value * np.nan,) * 2
    return Band(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to runs.

    Args:
        law: The law with the fitted values.
        params: Parameters by name. A and alpha, B and beta are correlated (0.999): quote exponents.
        exponents: Exponents of the law, and of the best size and data in compute.
        objective: Sum over runs of Huber's loss of log loss, of width 0.001.
        condition: Condition number of the design; see :mod:`graphfm.scaling.identify`.
        no_power: Exponents without meaning: not determined by the runs, or above ``STEEP``. With
            one of them there is no best use of compute.
        warnings: Warnings for the reader, one sentence each.
        aicc: Corrected Akaike criterion; lower is better among laws fitted to the same runs.
        held_out_error: Mean relative error on the held-out runs.
        residuals: Log of measured over fitted loss, (n,).
        runs: The fitted runs, n.
        held_out: The held-out runs.
        draws: The resampled ``theta``, (R, p).
        centre: Log coordinates that ``theta`` is centred on.
        cost: Cost of a run.
        method: Method of the search.
        seed: Seed of the resampling.
        seconds: CPU time of the search.
        compared: AICc and error on the held-out runs, by law.
        refused: Reason why a law could not be fitted, by law.
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
        """Predict the loss of other runs, (n,); the interval has no noise of a seed."""
        value = self.law.predict(params, targets, unique)
        given = (params, targets, targets if unique is None else unique)
        x = {
            k: np.log(np.atleast_1d(np.asarray(v, float))) - self.centre[k]
            for k, v in zip(("params", "targets", "unique"), given, strict=True)
        }
        return _band(value, np.exp(type(self.law).log_curve(self.draws, x)))

    def optimal(self, flops: Any, unique: float | None = None) -> Best:
        """Return the best size and data for given compute, (n,).

        Args:
            flops: FLOPs of the whole run, (n,) or one number.
            unique: Number of different targets that exist, for a law with repeats. Default: nothing
                repeats.

        Raises:
            DataError: GFM704 for a law without a best size, or ``unique`` for a law without
                repeats.
        """
        kind = type(self.law)
        if not issubclass(kind, Chinchilla):
            raise DataError(
                "GFM704", f"{kind.name} has no best size for a given compute",
                why=kind.formula, fix="fit chinchilla, to runs that differ in size and in data",
            )  # fmt: skip
        if unique is not None and "unique" not in kind.axes:
            raise DataError(
                "GFM704", f"{kind.name} has no term for repeated data",
                fix="fit data-constrained, to runs that repeat their data more or less often",
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
        """Return the compute of runs divided by the largest fitted compute, (n,)."""
        largest = self.cost.flops(self.runs.params, self.runs.targets).max()
        return np.atleast_1d(self.cost.flops(params, targets) / largest)

    def to_json(self) -> str:
        """Return the text of ``fit.json``; NaN is null there."""
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
            DataError: GFM103 for a text that is not a fit.
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
    """Return a value in which NaN and infinity are None, as JSON needs."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
