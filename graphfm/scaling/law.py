"""Base of all scaling laws: loss of a run as a sum of positive terms; cost and best use of compute.

A fit works on ``theta``: the log of every parameter (except those in ``signed``), with the
coefficients taken at the runs' geometric mean. Otherwise A and alpha, B and beta are correlated at
0.999.

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
    """Cost of a run: ``flops = scale * params**power * targets``.

    Args:
        scale: FLOPs at one parameter and one target. Default: 6, that of a dense language model
            (Kaplan et al. 2020, arXiv 2001.08361).
        power: 1 if every parameter is used for every target; less for a Perceiver's trunk.
    """

    scale: float = 6.0
    power: float = 1.0

    def flops(self, params: Any, targets: Any) -> Array:
        """Return the FLOPs of a run."""
        return self.scale * np.asarray(params, float) ** self.power * np.asarray(targets, float)


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Best use of given compute: ``params`` (n,), ``targets`` (n,) and their ``loss`` (n,)."""

    params: Array
    targets: Array
    loss: Array


@dataclass(frozen=True, kw_only=True)
class Law:
    """Base class of a law. The fields of a subclass are its parameters."""

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    units: ClassVar[str] = UNITS
    axes: ClassVar[tuple[str, ...]]  # columns of a run that the law reads
    coefficients: ClassVar[tuple[str, ...]]  # the loss is linear in these, none is negative
    shapes: ClassVar[Mapping[str, tuple[float, ...]]]  # other parameters, and the grid of a search
    exponents: ClassVar[tuple[str, ...]]
    signed: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def parameters(cls) -> tuple[str, ...]:
        """Return the names in the order of ``theta``: the coefficients, then the shapes."""
        return (*cls.coefficients, *cls.shapes)

    @property
    def values(self) -> dict[str, float]:
        """Parameters by name."""
        return {name: getattr(self, name) for name in self.parameters()}

    def predict(self, params: Any, targets: Any, unique: Any = None) -> Array:
        """Return the loss of each run, (n,).

        Args:
            params: Trunk parameters, (n,) or one number.
            targets: Targets seen, (n,) or one number.
            unique: Different targets, (n,) or one number. Default: ``targets``, nothing repeats.
        """
        given = {"params": params, "targets": targets, "unique": unique}
        if unique is None:
            given["unique"] = targets
        x = {k: np.log(np.atleast_1d(np.asarray(v, float))) for k, v in given.items()}
        with np.errstate(divide="ignore"):
            return np.asarray(np.exp(self.log_curve(self.theta({}), x)))

    def theta(self, centre: Mapping[str, float]) -> Array:
        """Return the parameters as a fit uses them, (p,), around the log coordinates ``centre``."""
        values = {**self.values, **self._shift(centre, sign=-1.0)}
        return np.array(
            [v if k in self.signed else np.log(max(v, _TINY)) for k, v in values.items()]
        )

    @classmethod
    def of_theta(cls, theta: Array, centre: Mapping[str, float]) -> Self:
        """Return the law of one ``theta`` (p,)."""
        pairs = zip(cls.parameters(), theta, strict=True)
        law = cls(**{k: float(v) if k in cls.signed else exp(v) for k, v in pairs})
        return cls(**{**law.values, **law._shift(centre, sign=1.0)})

    def _shift(self, centre: Mapping[str, float], *, sign: float) -> dict[str, float]:
        """Return the coefficients moved from the centre to 1 (sign +1), or back (-1)."""
        raise NotImplementedError

    @classmethod
    def log_curve(cls, theta: Array, x: Mapping[str, Array]) -> Array:
        """Return the log of the loss (..., n) for ``theta`` (..., p) at log coordinates ``x``."""
        m = len(cls.coefficients)
        columns = cls.basis(_plain(cls, theta[..., m:]), x, theta[..., :m])
        return np.log(np.einsum("...nm,...m->...n", columns, np.exp(theta[..., :m])))

    @classmethod
    def slopes(cls, theta: Array, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """Return :meth:`log_curve` (..., n) and its derivative in each part of theta (..., n, p).

        Computed by a complex step, exact to the last digit. A subclass may have a closed form.
        """
        steps = theta[..., None, :] + 1e-30j * np.eye(theta.shape[-1])
        curve = cls.log_curve(steps, x)  # (..., p, n)
        return np.real(curve[..., 0, :]), np.swapaxes(np.imag(curve), -1, -2) / 1e-30

    @classmethod
    def basis(cls, shape: Array, x: Mapping[str, Array], logs: Array | None) -> Array:
        """Return columns (..., n, m): the loss is their sum, each times its coefficient.

        Args:
            shape: Values of the shapes, (..., p - m).
            x: Log coordinates by name, each (n,).
            logs: Logs of the coefficients (..., m), for a law whose columns depend on them.
        """
        raise NotImplementedError


def _plain(law: type[Law], shape: Array) -> Array:
    """Return the values of the shapes from the last part of a theta: undo the logs."""
    signed = [name in law.signed for name in law.shapes]
    return np.where(signed, shape, np.exp(np.where(signed, 0.0, shape)))


def exp(x: float) -> float:
    """Exponential function without a warning: infinite where it overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(x))
