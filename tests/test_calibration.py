"""Temperature, the measures of honesty, and novelty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from graphfm.benchmark.scores import scores, set_scores
from graphfm.errors import CheckpointError
from graphfm.fitting.calibration import (
    MIN_VALIDATION,
    Calibration,
    fit_temperature,
    split_validation,
)
from graphfm.fitting.conformal import SMOOTHINGS
from graphfm.fitting.novelty import graph_novelty
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.metrics import brier, calibration_error, roc_auc, top_confidence
from graphfm.model.heads import classify, multilabel
from graphfm.training.state_cloud import StateCloud
from tests.graphs import synthetic

CLASSIFY = classify.Config().build(dim=2, num_classes=5)
MULTILABEL = multilabel.Config().build(dim=2, num_classes=4)


def calibrated_logits(
    num_nodes: int, num_classes: int = 5, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and classes drawn with just the probabilities that they give."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_nodes, num_classes, generator=rng)
    return logits, logits.softmax(dim=1).multinomial(1, generator=rng)[:, 0]


@pytest.mark.parametrize("planted", [0.3, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted: float) -> None:
    """Within 7%: 3,000 nodes know it to 2%. Seen to fail with logits multiplied by e^t."""
    logits, y = calibrated_logits(3000)
    assert fit_temperature(planted * logits, y, CLASSIFY) == pytest.approx(planted, rel=0.07)


@pytest.mark.parametrize("planted", [0.5, 2.0])
def test_several_labels_have_one_temperature(planted: float) -> None:
    """Labels that are not known count for nothing. Seen to fail with logits multiplied by e^t."""
    rng = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(3000, 4, generator=rng)
    y = (torch.rand(3000, 4, generator=rng) < logits.sigmoid()).to(torch.int8)
    y[::7, 2] = -1
    found = fit_temperature(planted * logits, y, MULTILABEL)
    assert found == pytest.approx(planted, rel=0.1)


def test_few_nodes_leave_the_temperature_near_one() -> None:
    """None: 1. One: a few percent. 20 that are all right: not 0, where the loss alone would go.

    Seen to fail without the prior: 0.05.
    """
    logits, y = calibrated_logits(20)
    assert fit_temperature(logits[:0], y[:0], CLASSIFY) == 1.0
    assert fit_temperature(logits[:1], y[:1], CLASSIFY) == pytest.approx(1, abs=0.15)
    assert 0.5 < fit_temperature(logits, logits.argmax(dim=1), CLASSIFY) < 1


@pytest.mark.parametrize("temperature", [0.05, 0.7, 20.0])
def test_no_temperature_changes_the_likeliest_class(temperature: float) -> None:
    """Holds for any division by a number above 0, as long as single precision tells them apart."""
    logits, _ = calibrated_logits(2000)
    proba = CLASSIFY.probabilities(logits / temperature)
    top = proba.max(dim=1).values
    assert torch.equal(proba.gather(1, logits.argmax(dim=1)[:, None])[:, 0], top)


def test_validation_is_halved_by_id() -> None:
    """Whatever the order of rows; none is held back where half would bound no set.

    Seen to fail with the first half of the rows.
    """
    ids = [f"node {i}" for i in range(101)]
    fit, held = split_validation(ids, seed=3)
    assert len(fit) == 51 and len(held) == 50
    assert sorted([*fit, *held]) == list(range(101))
    order = np.random.default_rng(0).permutation(101)
    turned = split_validation([ids[i] for i in order], seed=3)
    assert {ids[order[i]] for i in turned[1]} == {ids[i] for i in held}
    assert set(split_validation(ids, seed=4)[1]) != set(held)
    assert [len(p) for p in split_validation(ids[: MIN_VALIDATION - 1], seed=3)] == [17, 0]
    assert [len(p) for p in split_validation(ids[:MIN_VALIDATION], seed=3)] == [9, 9]


def test_calibration_error_by_hand() -> None:
    """Two bins of two: gaps of 0.75 - 0.5 and 1 - 0.9. Seen to fail with one bin."""
    confidence = np.array([0.95, 0.7, 0.8, 0.85])
    correct = np.array([1, 1, 0, 1], dtype=bool)
    gap = (abs(0.75 - 0.5) + abs(0.9 - 1.0)) / 2
    assert calibration_error(confidence, correct, num_bins=2) == pytest.approx(gap)
    assert calibration_error(confidence[:1], correct[:1]) == pytest.approx(0.05)


def test_calibration_error_is_scikit_learns_where_it_has_one() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(1500)
    correct = rng.random(1500) < confidence**2
    share, mean = calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    assert calibration_error(confidence, correct) == pytest.approx(np.abs(share - mean).mean())


def test_calibration_error_does_not_depend_on_the_order_of_equals() -> None:
    """Seen to fail with ties left as they come."""
    confidence = np.repeat([0.5, 0.8], 50)
    correct = np.arange(100) % 2 == 0
    correct[60:] = True
    first = calibration_error(confidence, correct)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(100)
        assert calibration_error(confidence[order], correct[order]) == pytest.approx(first)


def test_honest_probabilities_have_a_small_error_and_others_do_not() -> None:
    logits, y = calibrated_logits(20_000)
    result = [
        calibration_error(*top_confidence(y.numpy(), (s * logits).softmax(dim=1).numpy()))
        for s in (1.0, 3.0)
    ]
    assert result[0] < 0.012 and result[1] > 0.1


def test_brier_and_roc_auc() -> None:
    """Seen to fail with an area of 0 for a class that is not there, and with Brier's mean."""
    y = np.array([0, 1, 1])
    proba = np.array([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0], [0.7, 0.3, 0.0]])
    assert brier(y, proba) == pytest.approx((0.08 + 0.32 + 0.98) / 3)
    assert roc_auc(y, proba) == pytest.approx(1.0)
    assert roc_auc(np.array([1, 1]), proba[:2]) is None
    logits, classes = calibrated_logits(500)
    given = logits.double().softmax(dim=1).numpy()
    theirs = roc_auc_score(classes.numpy(), given, multi_class="ovr", average="macro")
    assert roc_auc(classes.numpy(), given) == pytest.approx(theirs)
    labels = np.array([[1, 0], [0, 0], [1, 0]])
    assert roc_auc(labels, np.array([[0.9, 0.1], [0.2, 0.3], [0.8, 0.2]])) == 1.0
    assert brier(labels, np.full((3, 2), 0.5)) == 0.25


def test_scores_are_scikit_learns_with_intervals_around_them() -> None:
    """Bootstrap over cells of the confusion matrix. Seen to fail with rows and columns swapped."""
    logits, y = calibrated_logits(400)
    y[:30] = -1
    proba = (2 * logits).softmax(dim=1).numpy()
    mask = torch.ones(400, dtype=torch.bool)
    before = logits.softmax(dim=1).numpy()
    found = scores(proba, y, mask, uncalibrated=before)
    truth, guess = y[30:].numpy(), proba[30:].argmax(axis=1)
    assert found.num_nodes == 370 and found.main == (truth == guess).mean()
    assert found.macro_f1 == pytest.approx(f1_score(truth, guess, average="macro"))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found.ece_uncalibrated is not None and found.ece > found.ece_uncalibrated
    assert scores(proba, y, mask).ece_uncalibrated is None
    result = found.to_json()
    for name, (low, high) in found.bootstrap.items():
        assert low < result[name] < high and high - low < 0.12
    # of a share, both intervals are equal
    assert found.bootstrap["accuracy"] == pytest.approx((found.low, found.high), abs=0.01)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 370, 370) for _ in range(300)]
    plain = [f1_score(truth[d], guess[d], average="macro") for d in drawn]
    assert found.bootstrap["macro_f1"] == pytest.approx(
        np.quantile(plain, [0.025, 0.975]), abs=0.015
    )


def test_scores_of_sets() -> None:
    y = torch.tensor([0, 1, 2, -1])
    sets = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    result = set_scores(sets, y, torch.ones(4, dtype=torch.bool), coverage=0.9)
    assert result["coverage"] == pytest.approx(2 / 3) and result["asked"] == 0.9
    assert result["mean_size"] == pytest.approx(5 / 3)
    assert result["one_class"] == pytest.approx(1 / 3)
    labels = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 1], [-1, 0, 0]])
    result = set_scores(sets, labels, torch.ones(4, dtype=torch.bool), coverage=0.9)
    assert result["coverage"] == pytest.approx(1 / 3)  # all labels of a node, or not covered


def test_novelty_is_a_share_for_the_same_kind_and_high_for_another() -> None:
    """1,000 nodes of the same kind: 10% above 0.9 within 3.3 standard deviations.

    Seen to fail with distances of the reference nodes themselves, which are nearer.
    """
    rng = torch.Generator().manual_seed(0)
    mix = torch.randn(8, 8, generator=rng)
    draw = torch.randn(2400, 8, generator=rng) @ mix
    cloud = StateCloud.of(draw[:400], draw[400:1400])
    same = cloud.novelty(draw[1400:])
    assert abs(float((same > 0.9).double().mean()) - 0.1) < 3.3 * (0.09 * 2 / 1000) ** 0.5
    assert float(cloud.novelty(draw[1400:] + 4 * mix[0]).mean()) > 0.9
    assert float(same.max()) < 1
    assert cloud.novelty(draw[:0]).shape == (0,)
    alone = StateCloud.of(draw[:1], draw[:0])
    assert alone.novelty(draw[:3]).isnan().all()


def test_a_graph_unlike_the_corpus_is_far_in_what_is_unlike() -> None:
    """Seen to fail with counts in place of their logarithms."""
    entries = Catalog.read().entries
    corpus = [e for e in entries.values() if e.role == "pretraining" and e.counts == "measured"]
    usual = graph_novelty(synthetic(num_nodes=2000, num_features=100), corpus)
    assert all(abs(place["z"]) < 2 for place in usual.values())
    dense = graph_novelty(synthetic(num_nodes=1500, mean_degree=450.0), corpus)
    assert dense["degree"]["z"] > 2 and dense["degree"]["share"] > 0.95
    assert abs(dense["nodes"]["z"]) < 2
    tiny = graph_novelty(synthetic(num_nodes=12, mean_degree=2.0), corpus)
    assert tiny["nodes"]["z"] < -2 and tiny["nodes"]["share"] == 0
    assert graph_novelty(synthetic(), corpus[:4]) == {}
    unknown = corpus[0].model_copy(update={"num_nodes": None})
    assert graph_novelty(synthetic(), [unknown] * 9) == {}


def test_a_calibration_at_the_bounds_is_read_again() -> None:
    """Without nodes, and with every share to choose from. Survivors of a mutation run."""
    for own in (Calibration(), *(Calibration(smoothing=share) for share in SMOOTHINGS)):
        again = Calibration.from_parts(own.config(), own.tensors())
        assert again.config() == own.config() and again.cloud is None
    for wrong in ({"smoothing": 1.01}, {"num_nodes": -1}, {"temperature": 0.0}):
        with pytest.raises(CheckpointError, match="GFM302"):
            Calibration.from_parts({**Calibration().config(), **wrong}, Calibration().tensors())
