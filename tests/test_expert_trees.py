"""Trees as tensors predict as scikit-learn's own; training rows get held-out predictions."""

import pytest
import torch

from graphfm.experts.trees import (
    BINS,
    L2_PENALTY,
    LEAVES,
    MIN_PROBABILITY,
    NUM_FOLDS,
    RATE,
    TURNS,
    can_grow,
    grow,
    predict,
)


def table(num_classes: int, *, rows: int = 240, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns that cut the rows into classes, and noise."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=rng)
    return x, ((x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()) % num_classes


@pytest.mark.parametrize("num_classes", [2, 3])
def test_they_answer_as_scikit_learn_does(num_classes: int) -> None:
    """Seen to fail with `<` in place of `<=`, and with the first scores left out."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, y = table(num_classes)
    theirs = HistGradientBoostingClassifier(
        max_iter=TURNS,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        max_bins=BINS,
        l2_regularization=L2_PENALTY,
        early_stopping=False,
        random_state=0,
    ).fit(x.numpy(), y.numpy())
    ours = predict(grow(x, y, num_classes, seed=0)[0], x, num_classes).exp() - MIN_PROBABILITY
    torch.testing.assert_close(
        ours.double(), torch.from_numpy(theirs.predict_proba(x.numpy())), atol=1e-6, rtol=0
    )


def test_what_is_held_out_does_not_know_its_own_label() -> None:
    """Labels are noise: trees that saw a row know it, those that did not are at chance.

    Seen to fail when the trees of all rows answered.
    """
    rng = torch.Generator().manual_seed(1)
    x, y = torch.randn(300, 4, generator=rng), torch.randint(0, 2, (300,), generator=rng)
    grown, held_out = grow(x, y, 2, seed=0)
    seen = (predict(grown, x, 2).argmax(dim=1) == y).double().mean()
    unseen = (held_out.argmax(dim=1) == y).double().mean()
    assert seen > 0.85 and 0.4 < unseen < 0.6
    turned = y.clone()
    turned[0] = 1 - y[0]
    assert torch.equal(grow(x, turned, 2, seed=0)[1][0], held_out[0])


def test_a_class_that_a_fold_lacks_is_unlikely_there() -> None:
    """One row of a third class: trees of its fold's rest have never seen it."""
    x, y = table(2)
    y[0] = 2
    grown, held_out = grow(x, y, 3, seed=0)
    assert held_out.isfinite().all() and float(held_out[0, 2].exp()) == pytest.approx(
        MIN_PROBABILITY
    )
    only = torch.zeros(NUM_FOLDS * 20, dtype=torch.int64)
    only[0] = 1
    assert grow(x[: len(only)], only, 2, seed=0)[1].isfinite().all()
    assert set(grown["classes"].tolist()) == {0, 1, 2}


def test_few_rows_and_many_classes_grow_none() -> None:
    assert can_grow(60, 2) and not can_grow(59, 2) and not can_grow(1000, 25)
