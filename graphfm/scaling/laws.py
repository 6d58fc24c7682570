"""The scaling laws: power law, broken power law, Chinchilla, data-constrained.

Shapes:
    n  runs   p  parameters of a law   m  its coefficients   ...  any leading dimensions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphfm.scaling.law import Array, Cost, Law, Optimum, exp

_ALPHAS = tuple(np.geomspace(0.05, 2.0, 15).tolist())  # published exponents: 0.05 to 0.6
_FEW_ALPHAS = tuple(np.geomspace(0.05, 2.0, 7).tolist())


@dataclass(frozen=True, kw_only=True)
class PowerLaw(Law):
    """Power law with a floor, in one of the coordinates.

    Args:
        E: Floor: the loss at infinite data.
        A: Reducible loss where the coordinate is 1.
        alpha: Exponent.
    """

    name: ClassVar[str] = "power"
    formula: ClassVar[str] = "L(x) = E + A / x^alpha"
    source: ClassVar[str] = "Henighan et al. 2020, arXiv 2010.14701, equation 1.1"
    coefficients: ClassVar[tuple[str, ...]] = ("E", "A")
    shapes: ClassVar[Mapping[str, tuple[float, ...]]] = {"alpha": _ALPHAS}
    exponents: ClassVar[tuple[str, ...]] = ("alpha",)
    axes: ClassVar[tuple[str, ...]] = ("targets",)

    E: float
    A: float
    alpha: float

    def _shift(self, centre: Mapping[str, float], *, sign: float) -> dict[str, float]:
        return {"A": self.A * exp(sign * self.alpha * centre.get(self.axes[0], 0.0))}

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """See :meth:`Law.basis`."""
        term = np.exp(-shape[..., :1] * x[cls.axes[0]])
        return np.stack([np.ones_like(term), term], -1)


@dataclass(frozen=True, kw_only=True)
class PowerLawInParams(PowerLaw):
    """Power law in the size of the model."""

    name: ClassVar[str] = "power-params"
    axes: ClassVar[tuple[str, ...]] = ("params",)


@dataclass(frozen=True, kw_only=True)
class PowerLawInUnique(PowerLaw):
    """Power law in the number of different targets or graphs (column ``unique``)."""

    name: ClassVar[str] = "power-unique"
    axes: ClassVar[tuple[str, ...]] = ("unique",)


@dataclass(frozen=True, kw_only=True)
class Broken(Law):
    """Power law in the targets seen whose exponent changes once, smoothly.

    Args:
        E: Floor: the loss at infinite data.
        A: Reducible loss at 1 target.
        alpha: Exponent before the break.
        bend: Change of the exponent at the break; negative if progress slows.
        at: Position of the break, in targets.
        width: Width of the break, in e-foldings of the targets.
    """

    name: ClassVar[str] = "broken"
    formula: ClassVar[str] = "L(x) = E + A x^-alpha (1 + (x/at)^(1/width))^(-bend width)"
    source: ClassVar[str] = "Caballero et al. 2022, arXiv 2210.14891, with one break"
    coefficients: ClassVar[tuple[str, ...]] = ("E", "A")
    shapes: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "alpha": _FEW_ALPHAS,
        "bend": (-0.4, -0.15, 0.15, 0.4, 1.0),
        "at": tuple(np.exp([-2.0, -1.0, 0.0, 1.0, 2.0]).tolist()),  # around the centre
        "width": (0.2, 1.0),
    }
    exponents: ClassVar[tuple[str, ...]] = ("alpha", "bend")
    signed: ClassVar[tuple[str, ...]] = ("bend",)
    axes: ClassVar[tuple[str, ...]] = ("targets",)

    E: float
    A: float
    alpha: float
    bend: float
    at: float
    width: float

    def _shift(self, centre: Mapping[str, float], *, sign: float) -> dict[str, float]:
        x = sign * centre.get("targets", 0.0)
        return {"A": self.A * exp(self.alpha * x), "at": self.at * exp(x)}

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """See :meth:`Law.basis`."""
        alpha, bend, at, width = (shape[..., i, None] for i in range(4))
        z = (x["targets"] - np.log(at)) / width
        # log(1 + e^z) without overflow, and analytic, for slopes by a complex step
        soft = np.where(np.real(z) > 30, z, np.log1p(np.exp(np.where(np.real(z) > 30, 0.0, z))))
        term = np.exp(-alpha * x["targets"] - bend * width * soft)
        return np.stack([np.ones_like(term), term], -1)


@dataclass(frozen=True, kw_only=True)
class Chinchilla(Law):
    """Power law in model size plus power law in data.

    Args:
        E: Floor: the loss of an infinite model on infinite data.
        A: Loss that a larger model removes, at one parameter.
        B: Loss that more data remove, at one target.
        alpha: Exponent of the model size.
        beta: Exponent of the data.
    """

    name: ClassVar[str] = "chinchilla"
    formula: ClassVar[str] = "L(N, D) = E + A / N^alpha + B / D^beta"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556; refitted in 2404.10102"
    coefficients: ClassVar[tuple[str, ...]] = ("E", "A", "B")
    shapes: ClassVar[Mapping[str, tuple[float, ...]]] = {"alpha": _ALPHAS, "beta": _ALPHAS}
    exponents: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    axes: ClassVar[tuple[str, ...]] = ("params", "targets")

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def optimal(self, flops: Any, cost: Cost | None = None) -> Optimum:
        """Return the best size and data for given compute: Hoffmann's equation 4.

        Args:
            flops: FLOPs of the whole run, (n,) or one number.
            cost: Cost of a run. Default: 6 N D.
        """
        cost = cost or Cost()
        budget = np.log(np.atleast_1d(np.asarray(flops, float)) / cost.scale)  # of N^power D
        a, b = self.alpha, self.beta * cost.power
        log_n = (np.log(a * self.A / (b * self.B)) + self.beta * budget) / (a + b)
        params, targets = np.exp(log_n), np.exp(budget - cost.power * log_n)
        return Optimum(params=params, targets=targets, loss=self.predict(params, targets))

    def frontier(self, cost: Cost | None = None) -> dict[str, float]:
        """Return the exponents of the best size and the best data in compute."""
        power = (cost or Cost()).power
        total = self.alpha + power * self.beta
        return {"params": self.beta / total, "targets": self.alpha / total}

    def _shift(self, centre: Mapping[str, float], *, sign: float) -> dict[str, float]:
        return {
            "A": self.A * exp(sign * self.alpha * centre.get("params", 0.0)),
            "B": self.B * exp(sign * self.beta * centre.get("targets", 0.0)),
        }

    @classmethod
    def slopes(cls, theta: Array, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """See :meth:`Law.slopes`. The closed form is 6 times as fast."""
        if cls is not Chinchilla:  # a subclass has other terms
            return super().slopes(theta, x)
        floor, a, b, alpha, beta = np.moveaxis(theta, -1, 0)[..., None]
        alpha, beta = np.exp(alpha), np.exp(beta)
        of_n, of_d = np.exp(a - alpha * x["params"]), np.exp(b - beta * x["targets"])
        loss = np.exp(floor) + of_n + of_d
        of_n, of_d = of_n / loss, of_d / loss
        slopes = (
            1 - of_n - of_d,
            of_n,
            of_d,
            -alpha * x["params"] * of_n,
            -beta * x["targets"] * of_d,
        )
        return np.log(loss), np.stack(slopes, -1)

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """See :meth:`Law.basis`."""
        of_n = np.exp(-shape[..., 0, None] * x["params"])
        of_d = np.exp(-shape[..., 1, None] * x["targets"])
        return np.stack([np.ones_like(of_n), of_n, of_d], -1)


@dataclass(frozen=True, kw_only=True)
class DataConstrained(Chinchilla):
    """Chinchilla's law for repeated targets: a repeat counts less than a new target.

    Args:
        E: Floor. A, B, alpha and beta as in :class:`Chinchilla`.
        RD: Number of repetitions after which further ones hardly help.
        RN: The same for parameters beyond those that the unique data can use.
    """

    name: ClassVar[str] = "data-constrained"
    formula: ClassVar[str] = (
        "L(N, D, U) = E + A / N'^alpha + B / D'^beta; D' = U + U RD (1 - exp(-(D/U - 1) / RD)); "
        "N' = V + V RN (1 - exp(-(N/V - 1) / RN)); V = min(N, best size for U)"
    )
    source: ClassVar[str] = "Muennighoff et al. 2023, arXiv 2305.16264"
    shapes: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "alpha": _FEW_ALPHAS, "beta": _FEW_ALPHAS, "RD": (1.0, 6.0, 40.0), "RN": (1.0, 6.0, 40.0),
    }  # fmt: skip
    axes: ClassVar[tuple[str, ...]] = ("params", "targets", "unique")

    RD: float
    RN: float

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """See :meth:`Law.basis`."""
        alpha, beta, rd, rn = (shape[..., i, None] for i in range(4))
        log_n, log_d = x["params"], x["targets"]
        log_u = np.minimum(x["unique"], log_d)  # targets not seen yet do not count
        log_d = log_u + np.log1p(rd * -np.expm1(-np.expm1(log_d - log_u) / rd))
        if logs is None:  # no coefficients yet: no parameter is in excess
            log_n = np.broadcast_to(log_n, np.broadcast_shapes(log_n.shape, log_d.shape))
        else:
            ratio = logs[..., 1, None] + np.log(alpha) - logs[..., 2, None] - np.log(beta)
            usable = (beta * log_u + ratio) / alpha  # best size for U: the two slopes are equal
            usable = np.where(np.real(usable) < np.real(log_n), usable, log_n)
            excess = np.expm1(np.minimum(np.real(log_n - usable), 50.0) + 0 * usable)
            excess = np.where(np.real(log_n - usable) < 50.0, np.expm1(log_n - usable), excess)
            log_n = usable + np.log1p(rn * -np.expm1(-excess / rn))
        of_n, of_d = np.exp(-alpha * log_n), np.exp(-beta * log_d)
        return np.stack([np.ones_like(of_n), of_n, of_d], -1)

    def optimal(self, flops: Any, cost: Cost | None = None, unique: float | None = None) -> Optimum:
        """Return the best size and data if only ``unique`` different targets exist.

        Found by a search over sizes; there is no closed form. Without ``unique`` nothing repeats.
        """
        if unique is None:
            return super().optimal(flops, cost)
        cost = cost or Cost()
        budget = np.atleast_1d(np.asarray(flops, float)) / cost.scale
        best = super().optimal(flops, cost).params
        step = np.linspace(-12, 12, 241)
        for width in (1.0, 0.01, 1e-4):  # 0.1 of log N, then 0.001, then 1e-5
            sizes = best[:, None] * np.exp(width * step)
            seen = budget[:, None] / sizes**cost.power
            loss = self.predict(sizes.ravel(), seen.ravel(), unique).reshape(sizes.shape)
            best = np.take_along_axis(sizes, loss.argmin(1)[:, None], 1)[:, 0]
        targets = budget / best**cost.power
        return Optimum(params=best, targets=targets, loss=self.predict(best, targets, unique))


LAWS: dict[str, type[Law]] = {
    law.name: law
    for law in (PowerLaw, PowerLawInParams, PowerLawInUnique, Chinchilla, DataConstrained, Broken)
}
