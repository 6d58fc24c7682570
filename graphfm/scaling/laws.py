"""Scaling laws: the loss of a run from its size, its data and how often it saw them.

Every law is a sum of positive terms. A fit works on ``theta``, which is log of every parameter
(but for those in ``signed``), with the coefficients taken at the runs' geometric mean: A and alpha,
B and beta are correlated at 0.999 otherwise.

Shapes:
    n  runs   p  parameters of a law   m  its coefficients   ...  any leading dimensions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

Array = np.ndarray
AXES = ("params", "targets", "unique")
UNITS = (
    "loss: nats per target, or whatever the table holds; params: trunk parameters; "
    "targets: targets seen, repeats counted; unique: different targets"
)
_TINY = 1e-300  # log of a coefficient that is zero


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run costs: ``flops = scale * params**power * targets``.

    Args:
        scale: FLOPs. 6 is a dense language model's (Kaplan et al. 2020, arXiv 2001.08361).
        power: 1 where every parameter works on every target; a Perceiver's trunk is not there.
    """

    scale: float = 6.0
    power: float = 1.0

    def flops(self, params: Any, targets: Any) -> Array:
        """FLOPs of a run."""
        return self.scale * np.asarray(params, float) ** self.power * np.asarray(targets, float)


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best use of some compute: ``params`` (n,), ``targets`` (n,) and the ``loss`` (n,)."""

    params: Array
    targets: Array
    loss: Array


@dataclass(frozen=True, kw_only=True)
class Law:
    """What every law has. A subclass's fields are its parameters."""

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    units: ClassVar[str] = UNITS
    axes: ClassVar[tuple[str, ...]]  # what it needs of a run
    coefficients: ClassVar[tuple[str, ...]]  # the loss is linear in these, none is negative
    shapes: ClassVar[Mapping[str, tuple[float, ...]]]  # the others, and where a search begins
    exponents: ClassVar[tuple[str, ...]]
    signed: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Names, in the order of ``theta``: the coefficients, then the shapes."""
        return (*cls.coefficients, *cls.shapes)

    @property
    def values(self) -> dict[str, float]:
        """Its parameters by name."""
        return {name: getattr(self, name) for name in self.parameters()}

    def predict(self, params: Any, targets: Any, unique: Any = None) -> Array:
        """Loss of each run, (n,).

        Args:
            params: Trunk parameters, (n,) or one number.
            targets: Targets seen, the same.
            unique: Different targets, the same; ``targets`` if not given: nothing is repeated.
        """
        given = {"params": params, "targets": targets, "unique": unique}
        if unique is None:
            given["unique"] = targets
        x = {k: np.log(np.atleast_1d(np.asarray(v, float))) for k, v in given.items()}
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp(self.log_curve(self.theta({}), x)))

    def theta(self, centre: Mapping[str, float]) -> Array:
        """(p,): its parameters as a fit sees them, around the log coordinates ``centre``."""
        values = {**self.values, **self._shift(centre, sign=-1.0)}
        return np.array(
            [v if k in self.signed else np.log(max(v, _TINY)) for k, v in values.items()]
        )

    @classmethod
    def of_theta(cls, theta: Array, centre: Mapping[str, float]) -> Self:
        """The law of one ``theta`` (p,)."""
        pairs = zip(cls.parameters(), theta, strict=True)
        law = cls(**{k: float(v) if k in cls.signed else _exp(v) for k, v in pairs})
        return cls(**{**law.values, **law._shift(centre, sign=1.0)})

    def _shift(self, centre: Mapping[str, float], *, sign: float) -> dict[str, float]:
        """Coefficients moved from the centre to 1 (sign +1), or back (-1)."""
        raise NotImplementedError

    @classmethod
    def log_curve(cls, theta: Array, x: Mapping[str, Array]) -> Array:
        """Log of the loss, (..., n), of ``theta`` (..., p) at log coordinates ``x``, each (n,)."""
        m = len(cls.coefficients)
        columns = cls.basis(_plain(cls, theta[..., m:]), x, theta[..., :m])
        return np.log(np.einsum("...nm,...m->...n", columns, np.exp(theta[..., :m])))

    @classmethod
    def slopes(cls, theta: Array, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """:meth:`log_curve` (..., n) and its slope in each part of theta, (..., n, p).

        By a complex step, exact to the last digit; a subclass may know its own.
        """
        steps = theta[..., None, :] + 1e-30j * np.eye(theta.shape[-1])
        curve = cls.log_curve(steps, x)  # (..., p, n)
        return np.real(curve[..., 0, :]), np.swapaxes(np.imag(curve), -1, -2) / 1e-30

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """Columns (..., n, m) of which the loss is the sum, each times its coefficient.

        Args:
            shape: (..., p - m), the shapes themselves.
            x: Log coordinates, each (n,).
            logs: (..., m) logs of the coefficients, for a law whose columns depend on them.
        """
        raise NotImplementedError


def _plain(law: type[Law], shape: Array) -> Array:
    """Shapes of the last part of a theta: log undone where there is one."""
    signed = [name in law.signed for name in law.shapes]
    return np.where(signed, shape, np.exp(np.where(signed, 0.0, shape)))


def _exp(x: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(x))


_ALPHAS = tuple(np.geomspace(0.05, 2.0, 15).tolist())  # published exponents: 0.05 to 0.6
_FEW_ALPHAS = tuple(np.geomspace(0.05, 2.0, 7).tolist())


@dataclass(frozen=True, kw_only=True)
class PowerLaw(Law):
    """A power law with a floor, in one of the coordinates.

    Args:
        E: Loss that nothing removes.
        A: What is removed, at 1 of the coordinate.
        alpha: How fast.
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
        return {"A": self.A * _exp(sign * self.alpha * centre.get(self.axes[0], 0.0))}

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """See :meth:`Law.basis`."""
        term = np.exp(-shape[..., :1] * x[cls.axes[0]])
        return np.stack([np.ones_like(term), term], -1)


@dataclass(frozen=True, kw_only=True)
class PowerLawInParams(PowerLaw):
    """The power law in the size of the model."""

    name: ClassVar[str] = "power-params"
    axes: ClassVar[tuple[str, ...]] = ("params",)


@dataclass(frozen=True, kw_only=True)
class PowerLawInUnique(PowerLaw):
    """The power law in the number of different targets, or of graphs: what ``unique`` holds."""

    name: ClassVar[str] = "power-unique"
    axes: ClassVar[tuple[str, ...]] = ("unique",)


@dataclass(frozen=True, kw_only=True)
class Broken(Law):
    """A power law whose exponent changes once, smoothly; in the targets seen.

    Args:
        E: Loss that nothing removes.
        A: What is removed, at 1 target.
        alpha: Exponent before the break.
        bend: Added to the exponent after it; negative where progress slows.
        at: Where the break is, in targets.
        width: Of the break, in e-foldings of the targets.
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
        return {"A": self.A * _exp(self.alpha * x), "at": self.at * _exp(x)}

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
    """Model and data, each with a power of its own.

    Args:
        E: Loss that neither removes.
        A: What a larger model removes, at one parameter.
        B: What more data removes, at one target.
        alpha: How fast the model does.
        beta: How fast the data do.
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
        """The size and the data that are best for some compute: Hoffmann's equation 4.

        Args:
            flops: Of the whole run, (n,) or one number.
            cost: What a run costs; 6 N D if not given.
        """
        cost = cost or Cost()
        budget = np.log(np.atleast_1d(np.asarray(flops, float)) / cost.scale)  # of N^power D
        a, b = self.alpha, self.beta * cost.power
        log_n = (np.log(a * self.A / (b * self.B)) + self.beta * budget) / (a + b)
        params, targets = np.exp(log_n), np.exp(budget - cost.power * log_n)
        return Optimum(params=params, targets=targets, loss=self.predict(params, targets))

    def frontier(self, cost: Cost | None = None) -> dict[str, float]:
        """Exponents of the best size and the best data in compute."""
        power = (cost or Cost()).power
        total = self.alpha + power * self.beta
        return {"params": self.beta / total, "targets": self.alpha / total}

    def _shift(self, centre: Mapping[str, float], *, sign: float) -> dict[str, float]:
        return {
            "A": self.A * _exp(sign * self.alpha * centre.get("params", 0.0)),
            "B": self.B * _exp(sign * self.beta * centre.get("targets", 0.0)),
        }

    @classmethod
    def slopes(cls, theta: Array, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """See :meth:`Law.slopes`; by hand, 6 times as fast, for this is the law most fitted."""
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
    """Chinchilla's law where targets are seen again: a repeat is worth less than a new one.

    Args:
        E: As Chinchilla's; A, B, alpha and beta too.
        RD: Repetitions after which the data have given most of what they can.
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
        log_u = np.minimum(x["unique"], log_d)  # what was not seen yet is no data
        log_d = log_u + np.log1p(rd * -np.expm1(-np.expm1(log_d - log_u) / rd))
        if logs is None:  # before the first coefficients: no parameter is in excess
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
        """The best size and data where only ``unique`` different targets exist.

        By search over sizes: it has no closed form. Without ``unique`` nothing is repeated.
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
