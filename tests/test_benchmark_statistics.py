"""Ranks, Elo and paired tests against scipy, published tables and planted cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from graphfm.benchmark import statistics as st

GRAPHS = [f"group {i:02}" for i in range(15)]  # a group each


def games(ratings: np.ndarray, num: int, seed: int = 0) -> np.ndarray:
    """Wins of each over each, of so many games a pair drawn by the Bradley-Terry model."""
    chance = 1 / (1 + 10 ** ((ratings[None, :] - ratings[:, None]) / 400))
    won = np.triu(np.random.default_rng(seed).binomial(num, chance), 1).astype(float)
    return won + np.tril(num - won.T, -1)


def test_elo_finds_the_ratings_that_games_were_drawn_from() -> None:
    """Seen to fail with the sign of a step turned, and with 200 in place of 400."""
    truth = np.array([1000.0, 1200.0, 900.0, 1350.0])
    found = st.elo(games(truth, 4000), anchor=0)
    np.testing.assert_allclose(found, truth, atol=15)
    assert found[0] == 1000


def test_elo_is_the_likeliest() -> None:
    """Seen to fail with 3 Newton steps: a neighbor was likelier."""
    won = games(np.array([1000.0, 1700.0, 600.0]), 15)

    def log_likelihood(ratings: np.ndarray) -> float:
        chance = 1 / (1 + 10 ** ((ratings[None, :] - ratings[:, None]) / 400))
        return float(((won + 0.25 * (1 - np.eye(3))) * np.log(chance)).sum())

    found = st.elo(won, anchor=0)
    for change in np.vstack([np.eye(3), -np.eye(3)]):
        assert log_likelihood(found) > log_likelihood(found + 2 * change)


def test_two_models_differ_by_their_odds() -> None:
    """By hand: 3 of 4 games and half a drawn one each way are odds of 3.5 to 1.5."""
    won = np.array([[0.0, 3.0], [1.0, 0.0]])
    gap = float(np.diff(st.elo(won))[0])
    assert gap == pytest.approx(-400 * np.log10(3.5 / 1.5))


def test_a_model_that_always_wins_has_a_finite_rating_and_leads() -> None:
    """Seen to fail without the drawn game: 100,000 points apart."""
    won = np.triu(np.full((5, 5), 15.0), 1)
    found = st.elo(won, anchor=4)
    assert (np.diff(found) < 0).all()
    assert np.ptp(found) < 5000


def test_elo_of_many_draws_is_each_alone() -> None:
    """Seen to fail when a batch shared its anchor."""
    several = np.stack([games(np.array([1000.0, 1100.0, 800.0]), 30, seed) for seed in range(4)])
    together = st.elo(several, anchor=1)
    np.testing.assert_allclose(together, [st.elo(one, anchor=1) for one in several], atol=1e-6)


def test_wins_of_seeds_count_ties_half() -> None:
    """Seen to fail with > in place of a tie's half; floats that differ in the last bit tie."""
    scores = np.array([[[0.9, 0.1 + 0.2, 0.5, 0.7], [0.8, 0.3, 0.6, 0.7]]])  # 1 graph, 2 models
    np.testing.assert_allclose(st.wins(scores), [[[0, 0.5], [0.5, 0]]])


def test_ranks_share_ties() -> None:
    """Seen to fail with the order turned."""
    scores = np.array([[0.9, 0.8, 0.9], [0.1, 0.3, 0.2]])
    np.testing.assert_array_equal(st.ranks(scores), [[1.5, 3, 1.5], [3, 1, 2]])


def test_mean_interval_is_scipys() -> None:
    """Seen to fail with ddof=0."""
    values = np.random.default_rng(0).normal(size=5)
    mean, half = st.mean_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert st.mean_interval(values[:1]) == (values[0], None)


@pytest.mark.parametrize(
    ("models", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)]
)  # Demsar 2006, table 5a
def test_critical_difference_is_demsars(models: int, q: float) -> None:
    """Seen to fail without the square root of 2."""
    scale = np.sqrt(models * (models + 1) / (6 * 15))
    assert st.critical_difference(models, 15) / scale == pytest.approx(q, abs=1e-3)


def test_a_pair_by_hand() -> None:
    """Seen to fail with one-sided tests."""
    ours = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.4])
    found = st.compare_pair(ours, ours - np.array([0.1, 0.2, 0.3, 0.05, 0.15, 0.0]), GRAPHS[:6])
    assert (found.won, found.lost, found.tied) == (5, 0, 1)
    assert found.sign_p == pytest.approx(2 / 2**5)
    assert found.gain == pytest.approx(0.8 / 6)
    assert found.low < found.gain < found.high
    gains = np.array([1.0, -2, 3, 4, 5, 6, 7])
    assert st.compare_pair(gains, gains * 0, GRAPHS[: len(gains)]).wilcoxon_p == pytest.approx(
        stats.wilcoxon(gains).pvalue
    )


def test_equal_models_do_not_differ_significantly() -> None:
    """No division by zero, no p-value below 1."""
    same = np.linspace(0, 1, 15)
    found = st.compare_pair(same, same, GRAPHS[: len(same)])
    assert (found.sign_p, found.wilcoxon_p, found.gain) == (1.0, 1.0, 0.0)
    assert st.friedman(np.full((15, 4), 2.5)) == 1.0


def test_intervals_over_graphs_hold_the_truth_as_often_as_they_say() -> None:
    """In 200 suites about 92%, as a percentile bootstrap of 15. Seen to fail with quartiles."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        gains = rng.normal(0.5, 1.0, 15)
        found = st.compare_pair(gains, np.zeros(15), GRAPHS[:15])
        held += found.low <= 0.5 <= found.high
    assert 170 <= held <= 196


def test_a_group_counts_once() -> None:
    """Graphs that are copies of others of their group change no interval.

    Seen to fail with graphs as the sampling unit: the interval is narrower by 0.7.
    """
    gains = np.random.default_rng(0).normal(0.5, 1.0, 15)
    once = st.compare_pair(gains, np.zeros(15), GRAPHS)
    twice = st.compare_pair(np.tile(gains, 2), np.zeros(30), GRAPHS * 2)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    # a group of many graphs weighs as much as its graphs, and is drawn as one
    alone = st.compare_pair(gains, np.zeros(15), ["one"] * 15)
    assert alone.low == alone.high == pytest.approx(gains.mean())


def test_indistinct_groups() -> None:
    """Seen to fail when a group inside another was kept."""
    average = np.array([1.0, 1.5, 2.6, 2.8, 4.5])
    assert st.indistinct_groups(average, 1.3) == [(0, 1), (1, 3)]
    assert st.indistinct_groups(average, 10) == [(0, 4)]
    assert st.indistinct_groups(average, 0.1) == []
