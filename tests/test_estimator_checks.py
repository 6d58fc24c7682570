"""scikit-learn's own contract tests, on rows of features: ``fit(X, y)`` without edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import (
    check_estimators_overwrite_params,
    check_methods_sample_order_invariance,
    parametrize_with_checks,
)

from graphfm.checkpoint.folder import save_checkpoint
from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
from tests.graphs import small_model

MODEL = small_model([])  # random, and small: the checks ask for about 200 fits
KINDS = (GraphFMClassifier, GraphFMRegressor)

SKIPPED = {
    "check_estimators_overwrite_params": (
        "it compares parameters by their pickles, and a copy of a torch module pickles to other "
        "bytes; below it runs with a checkpoint folder, which is what people pass"
    ),
}


def skipped(estimator: Any) -> dict[str, str]:
    return SKIPPED


@parametrize_with_checks(
    [kind(MODEL, tune="probe") for kind in KINDS], expected_failed_checks=skipped
)
def test_contract(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail when an encoder read the rows to predict: a subset gave other predictions."""
    if check.func is check_methods_sample_order_invariance:
        # It asks for 1e-7, one bit of a float32 near 0.5; in another order of the rows a sum over
        # them ends on another bit on some processors. Seen to fail with 1e-8.
        close = estimator_checks.assert_allclose_dense_sparse
        monkeypatch.setattr(
            estimator_checks,
            "assert_allclose_dense_sparse",
            lambda x, y, **given: close(x, y, **{**given, "rtol": 1e-6, "atol": 1e-7}),
        )
    check(estimator)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_not_overwritten(kind: Any, tmp_path: Path) -> None:
    """Seen to fail with the seed set to 1 in `fit`."""
    save_checkpoint(tmp_path / "trunk", MODEL, meta={"name": "trunk"})
    estimator = kind(str(tmp_path / "trunk"), tune="probe")
    check_estimators_overwrite_params(kind.__name__, estimator)
