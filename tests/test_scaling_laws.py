"""Scaling laws: golden values, exact slopes, an optimum that is one, and the table of runs."""

import json
import logging

import numpy as np
import pytest

from graphfm.errors import DataError
from graphfm.scaling.law import Cost
from graphfm.scaling.laws import LAWS, Broken, Chinchilla, DataConstrained, PowerLaw
from graphfm.scaling.runs import Runs, read_runs

# a, b, e, alpha, beta, RD, RN of the README of huggingface/datablations (Muennighoff et al. 2023).
MUENNIGHOFF = DataConstrained(
    A=float(np.exp(6.255414)), B=float(np.exp(7.3049974)), E=float(np.exp(0.6254804)),
    alpha=0.3526596, beta=0.3526596, RD=15.387756, RN=5.309743,
)  # fmt: skip
CHINCHILLA = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
POWER = {"E": 0.5, "A": 30.0, "alpha": 0.35}
EXAMPLES = [
    MUENNIGHOFF,
    CHINCHILLA,
    PowerLaw(**POWER),
    LAWS["power-params"](**POWER),
    LAWS["power-unique"](**POWER),
    Broken(E=0.3, A=20.0, alpha=0.15, bend=-0.1, at=3e6, width=0.4),
]
CENTRE = {"params": 16.0, "targets": 18.0, "unique": 18.0}


def test_an_example_stands_for_every_law():
    assert {law.name for law in EXAMPLES} == set(LAWS)


@pytest.mark.parametrize(
    ("params", "targets", "loss"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_golden_losses_of_muennighoff(params, targets, loss):
    """Seen to fail with no parameter in excess (N' = V)."""
    assert MUENNIGHOFF.predict(params, targets, 25e9)[0] == pytest.approx(loss, rel=1e-9, abs=0)


def test_without_repetition_the_constrained_law_is_chinchillas():
    """Where the data can use the size. Seen to fail with D/U repeats, not D/U - 1."""
    values = {k: MUENNIGHOFF.values[k] for k in ("E", "A", "B", "alpha", "beta")}
    plain = Chinchilla(**values)
    np.testing.assert_allclose(
        MUENNIGHOFF.predict([1e7, 1e8], [1e10, 1e11], [1e10, 1e11]),
        plain.predict([1e7, 1e8], [1e10, 1e11]),
        rtol=1e-12,
    )
    assert MUENNIGHOFF.predict(1e8, 1e11, 1e9)[0] > plain.predict(1e8, 1e11)[0]


@pytest.mark.parametrize("law", EXAMPLES, ids=lambda law: law.name)
def test_a_fit_sees_the_same_law_from_any_centre(law):
    """Seen to fail with the break of the broken law moved the wrong way."""
    rng = np.random.default_rng(0)
    params, targets = np.exp(rng.uniform(12, 22, 20)), np.exp(rng.uniform(14, 24, 20))
    unique = targets / rng.uniform(1, 40, 20)
    x = {
        "params": np.log(params) - CENTRE["params"],
        "targets": np.log(targets) - CENTRE["targets"],
        "unique": np.log(unique) - CENTRE["unique"],
    }
    theta = law.theta(CENTRE)
    expected = law.predict(params, targets, unique)
    np.testing.assert_allclose(np.exp(law.log_curve(theta, x)), expected, rtol=1e-10)
    back = type(law).of_theta(theta, CENTRE)
    np.testing.assert_allclose(back.predict(params, targets, unique), expected, rtol=1e-10)


@pytest.mark.parametrize("law", EXAMPLES, ids=lambda law: law.name)
def test_slopes_are_those_of_the_curve(law):
    """Seen to fail with one sign of Chinchilla's slopes turned."""
    rng = np.random.default_rng(1)
    x = {"params": rng.normal(size=12), "targets": rng.normal(size=12) + 1}
    x["unique"] = x["targets"] - rng.uniform(0, 3, 12)
    theta = law.theta(CENTRE)[None] + 0.1 * rng.normal(size=(3, len(law.parameters())))
    value, slopes = law.slopes(theta, x)
    np.testing.assert_allclose(value, law.log_curve(theta, x), rtol=1e-12)
    for i, step in enumerate(1e-6 * np.eye(theta.shape[-1])):
        measured = (law.log_curve(theta + step, x) - law.log_curve(theta - step, x)) / 2e-6
        np.testing.assert_allclose(slopes[..., i], measured, atol=2e-8, rtol=1e-6)


@pytest.mark.parametrize("cost", [Cost(), Cost(scale=900.0, power=0.7)])
@pytest.mark.parametrize("unique", [None, 1e9])
def test_nothing_costs_the_same_and_does_better_than_the_optimum(cost, unique):
    """Seen to fail with Hoffmann's optimum for a cost that is not linear in the size."""
    law = CHINCHILLA if unique is None else MUENNIGHOFF
    flops = np.array([1e18, 1e21])
    more = {} if unique is None else {"unique": unique}
    best = law.optimal(flops, cost, **more)
    np.testing.assert_allclose(cost.flops(best.params, best.targets), flops, rtol=1e-9)
    for factor in (0.5, 0.9, 1.1, 2.0):
        params = best.params * factor
        targets = best.targets / factor**cost.power
        assert (law.predict(params, targets, unique) > best.loss).all()


def test_the_optimum_grows_as_its_exponent_says():
    """Seen to fail with alpha and beta exchanged in `frontier`."""
    cost = Cost(scale=40.0, power=0.8)
    best = CHINCHILLA.optimal(np.array([1e20, 1e21]), cost)
    grown = CHINCHILLA.frontier(cost)
    assert np.log10(best.params[1] / best.params[0]) == pytest.approx(grown["params"])
    assert np.log10(best.targets[1] / best.targets[0]) == pytest.approx(grown["targets"])


def test_the_broken_law_changes_its_exponent():
    """Far on both sides of the break. Seen to fail with `width` missing outside the bracket."""
    law = Broken(E=0.0, A=1.0, alpha=0.2, bend=0.3, at=1e6, width=0.5)
    for x, exponent in ((1e1, 0.2), (1e12, 0.5)):
        low, high = np.log(law.predict(1, [x, 10 * x]))
        assert (low - high) / np.log(10) == pytest.approx(exponent, abs=1e-3)


def receipt(**changes):
    plain = {
        "finished": True, "params": {"trunk": 417304, "total": 5_000_000}, "targets_seen": 3512557,
        "unique_targets": 722743, "flops": 5.9e13, "loss_end": 0.6, "datasets": 152,
        "environment": {"seed": 3},
    }  # fmt: skip
    return json.dumps({**plain, **changes})


def test_receipts_are_read_and_unfinished_ones_left_out(tmp_path, caplog):
    """Seen to fail with the test of `finished` taken out."""
    for i, changes in enumerate([{}, {"loss_end": 0.5}, {"finished": False}]):
        (tmp_path / f"{i}.json").write_text(receipt(**changes))
    paths = [tmp_path / f"{i}.json" for i in range(3)]
    with caplog.at_level(logging.WARNING):
        runs = read_runs(paths)
    assert "1 run left out" in caplog.text and "2.json" in caplog.text
    assert runs.params.tolist() == [417304.0, 417304.0] and runs.loss.tolist() == [0.6, 0.5]
    assert runs.unique.tolist() == [722743.0] * 2 and runs.seed.tolist() == ["3", "3"]
    assert runs.cost().flops(417304, 3512557) == pytest.approx(5.9e13)

    by_graphs = read_runs(paths[:2], {"unique": "datasets", "params": "params.total"})
    assert by_graphs.unique.tolist() == [152.0] * 2 and by_graphs.params[0] == 5e6


def test_a_table_is_read_by_its_own_names_of_columns(tmp_path, caplog):
    path = tmp_path / "runs.csv"
    path.write_text("Model Size,tokens,loss,seed\n1e6,1e8,3.5,007\n2e6,1e8,,1\n2e6,2e8,3.1,1\n")
    with caplog.at_level(logging.WARNING):
        runs = read_runs([path], {"params": "Model Size", "targets": "tokens"})
    assert runs.params.tolist() == [1e6, 2e6] and runs.seed.tolist() == ["007", "1"]
    assert "1 run left out" in caplog.text and "line 3" in caplog.text


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("params,targets\n1,2\n", "GFM104", "no column 'loss'"),
        ("params,targets,loss\n1,2,x\n", "GFM701", "line 2"),
        ("params,targets,loss\n1,2,3\n1,2,-1\n", "GFM701", "run 2"),
        ("params,targets,loss\n1,0,3\n", "GFM701", "targets must be above zero"),
        ("params,targets,loss\n1,2,\n", "GFM701", "no finished run"),
        ("params,targets,loss\n1,inf,3\n", "GFM701", "finite"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(tmp_path, text, code, said):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_runs([path])
    assert caught.value.code == code and said in str(caught.value)
    assert str(path) in str(caught.value) and caught.value.exit_code == 3


def test_a_receipt_of_something_else_is_refused(tmp_path):
    path = tmp_path / "run.json"
    for text in ("{", "[1]", '{"loss": 1}'):
        path.write_text(text)
        with pytest.raises(DataError, match="GFM103"):
            read_runs([path])
    path.write_text(receipt(loss_end=None))
    with pytest.raises(DataError, match="GFM104"):
        read_runs([path])


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="GFM701"):
        Runs(params=[1e6, 2e6], targets=[1e8, 1e8], loss=[3.0])


def test_cost_is_fitted_to_counted_flops():
    """Seen to fail with 6 N D for every table."""
    runs = Runs(params=[1e5, 1e6, 1e7], targets=[1e6, 5e6, 2e6], loss=[3.0, 2.0, 1.0])
    assert runs.cost() == Cost()
    counted = 30 * runs.params**0.8 * runs.targets
    cost = Runs(params=runs.params, targets=runs.targets, loss=runs.loss, flops=counted).cost()
    assert (cost.scale, cost.power) == pytest.approx((30.0, 0.8))
