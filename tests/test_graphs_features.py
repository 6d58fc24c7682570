"""The feature transform: the same numbers for the same rows, whatever they are stored as."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.features.neighbor_mean import hop_features
from graphfm.graphs.features.transform import CLIP, FeatureTransform

Csr = sparse.csr_array


def table(seed: int, n: int = 60, f: int = 12) -> Tensor:
    """Columns of falling weight, so that principal axes are far apart."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((n, f)) * 0.8 ** np.arange(f) @ rng.standard_normal((f, f))
    return torch.from_numpy((mixed * rng.uniform(0.1, 10, f) + 3).astype(np.float32))


def words(seed: int, n: int = 120, f: int = 400) -> Csr:
    """Counts with some topics in them."""
    rng = np.random.default_rng(seed)
    topics = rng.gamma(0.1, size=(8, f))
    counts = rng.poisson(0.4 * rng.gamma(0.3, size=(n, 8)) @ topics)
    return Csr(counts.astype(np.float32))


def assert_same_up_to_sign(a: Tensor, b: Tensor, **tolerance: float) -> None:
    assert a.shape == b.shape
    sign = torch.sign((a * b).sum(dim=0))
    torch.testing.assert_close(a * sign, b, **tolerance)


CASES = {
    "narrow": (table(0), 256),
    "wide": (table(1, n=50, f=90), 16),
    "words": (words(2), 16),
    "words, few axes": (words(3), 256),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_get_the_same_numbers_alone_and_together(case: str) -> None:
    """Seen to fail with the mean of the given rows in place of the stored one."""
    x, max_dim = CASES[case]
    transform = FeatureTransform.fit(x, max_dim=max_dim)
    whole = transform.apply(x)
    rows = np.array([3, 17, 4, 30])
    torch.testing.assert_close(transform.apply(x[rows]), whole[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_output_is_principal_scores_in_falling_order(case: str) -> None:
    """Seen to fail without centring: then the columns are not orthogonal to the constant."""
    x, max_dim = CASES[case]
    out = FeatureTransform.fit(x, max_dim=max_dim).apply(x).double()
    assert out.shape[1] <= max_dim
    if float(out.abs().max()) < CLIP:  # clipping is the one thing that is not linear
        assert float(out.square().mean()) == pytest.approx(1, abs=1e-4)
        gram = out.T @ out
        size = gram.diag()
        off = (gram - size.diag()).abs() / (size[:, None] * size[None, :]).sqrt()
        assert float(off.max()) < 1e-3
        assert float(out.mean(dim=0).abs().max()) < 1e-4
        assert bool((size.diff() <= 1e-4 * size[0]).all())
    else:
        assert case.startswith("words")


def test_narrow_features_are_half_whitened() -> None:
    """Column j has norm^2 in proportion to its singular value; seen to fail with full whitening."""
    x = table(4)
    out = FeatureTransform.fit(x).apply(x)
    z = (x - x.mean(dim=0)) / x.std(dim=0, correction=0)
    singular = torch.linalg.svdvals(z.double())
    norms = out.double().square().sum(dim=0)
    torch.testing.assert_close(norms / norms.sum(), singular / singular.sum(), rtol=1e-3, atol=1e-5)


def test_wide_axes_span_the_best_subspace() -> None:
    """Against a full SVD; seen to fail with no power steps."""
    x = words(5, n=300, f=500)
    dense = torch.from_numpy(x.toarray()).double()
    dense = dense / dense.norm(dim=1, keepdim=True).clamp(min=1e-30)
    dense = dense - dense.mean(dim=0)
    left = torch.linalg.svd(dense, full_matrices=False)[0][:, :8]
    out = FeatureTransform.fit(x, max_dim=8).apply(x).double()
    basis = torch.linalg.qr(out)[0]
    assert float((left.T @ basis).square().sum()) / 8 > 0.99


@pytest.mark.parametrize("case", CASES)
def test_the_order_of_the_columns_does_not_matter(case: str) -> None:
    """Seen to fail with a sketch that starts on the columns."""
    x, max_dim = CASES[case]
    order = np.random.default_rng(0).permutation(x.shape[1])
    before = FeatureTransform.fit(x, max_dim=max_dim).apply(x)
    after = FeatureTransform.fit(x[:, order], max_dim=max_dim).apply(x[:, order])
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_two_tied_loadings_keep_their_sign_when_columns_swap(flip: bool) -> None:
    """Two standardised columns have the axes (1, 1) and (1, -1): seen to fail with argmax alone."""
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(40, 2)).astype(np.float32) * (-1 if flip else 1)
    there = FeatureTransform.fit(torch.from_numpy(x)).apply(torch.from_numpy(x))
    turned = torch.from_numpy(x[:, ::-1].copy())
    torch.testing.assert_close(FeatureTransform.fit(turned).apply(turned), there)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factor", [1e-40, 1e35])
def test_the_unit_of_the_features_does_not_matter(case: str, factor: float) -> None:
    """Seen to fail with the scale and the axes in one float32 matrix, which overflows."""
    x, max_dim = CASES[case]
    before = FeatureTransform.fit(x, max_dim=max_dim).apply(x)
    after = FeatureTransform.fit(x * np.float32(factor), max_dim=max_dim).apply(
        x * np.float32(factor)
    )
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_the_unit_of_each_column_does_not_matter_when_narrow() -> None:
    x = table(6)
    factor = torch.logspace(-4, 4, x.shape[1])
    before = FeatureTransform.fit(x).apply(x)
    torch.testing.assert_close(
        FeatureTransform.fit(x * factor).apply(x * factor), before, rtol=1e-3, atol=1e-3
    )


def test_a_far_away_mean_costs_no_digits() -> None:
    """Years: mean 2000, spread 3. Seen to fail with the offset from the unrounded weight."""
    x = table(7) + 2000
    exact = ((x.double() - x.double().mean(dim=0)) / x.double().std(dim=0, correction=0)).float()
    one, other = FeatureTransform.fit(x), FeatureTransform.fit(exact)
    assert_same_up_to_sign(one.apply(x), other.apply(exact), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("max_dim", [16, 256])
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_dense_and_sparse_storage_agree(max_dim: int, share: float) -> None:
    """Seen to fail with the path chosen by type: words were normalised only when stored as CSR."""
    rng = np.random.default_rng(8)
    x = (rng.random((80, 120)) * (rng.random((80, 120)) < share)).astype(np.float32)
    stored = Csr(x)
    a, b = (
        FeatureTransform.fit(torch.from_numpy(x), max_dim=max_dim),
        FeatureTransform.fit(stored, max_dim=max_dim),
    )
    assert a.config() == b.config()
    torch.testing.assert_close(a.apply(torch.from_numpy(x)), b.apply(stored), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(a.apply(stored), a.apply(torch.from_numpy(x)), rtol=1e-5, atol=1e-5)


def test_stored_zeros_and_unsorted_columns_change_nothing() -> None:
    x = words(9)
    odd = x.tocoo()
    odd = sparse.coo_array(
        (
            np.append(odd.data, 0.0)[::-1],
            (np.append(odd.row, 0)[::-1], np.append(odd.col, 5)[::-1]),
        ),
        shape=x.shape,
    ).tocsr()
    nnz = odd.nnz
    a, b = FeatureTransform.fit(x, max_dim=32), FeatureTransform.fit(odd, max_dim=32)
    torch.testing.assert_close(a.apply(x), b.apply(odd))
    assert odd.nnz == nnz  # what the caller gave is left as it was


def test_constant_columns_are_dropped() -> None:
    """Seen to fail with an epsilon in the standard deviation: a constant 0.1 came back as noise."""
    x = table(10)
    more = torch.cat([torch.full((60, 1), 0.1), x, torch.zeros(60, 2), torch.full((60, 1), 7.0)], 1)
    before, after = FeatureTransform.fit(x), FeatureTransform.fit(more)
    torch.testing.assert_close(before.apply(x), after.apply(more))
    more[:, 0] = 1e6  # and what stands there later is not read
    torch.testing.assert_close(before.apply(x), after.apply(more))


@pytest.mark.parametrize(
    "x",
    [
        None,
        torch.zeros(5, 3),
        torch.ones(5, 3),
        torch.eye(7),
        Csr(torch.eye(400)[torch.randperm(400)].numpy()),
        Csr((6, 9), dtype=np.float32),
        torch.zeros(4, 0),
        torch.tensor([[1.0, 2.0]]),
    ],
    ids=["none", "zeros", "ones", "identity", "ids", "empty csr", "no columns", "one node"],
)
def test_features_that_say_nothing_give_no_columns(x: Tensor | Csr | None) -> None:
    transform = FeatureTransform.fit(x)
    assert transform.num_out == 0 and transform.tensors() == {}
    if x is not None:
        assert transform.apply(x).shape == (x.shape[0], 0)


def test_wide_rows_that_are_multiples_of_one_row_still_differ() -> None:
    """As unit vectors they are all the same; seen to fail with every row >= 0 taken for words."""
    row = (torch.arange(40) % 3 == 0).float()
    x = torch.arange(1, 7)[:, None] * row
    out = FeatureTransform.fit(x, max_dim=4).apply(x)
    assert out.shape == (6, 1) and bool((out[:, 0].diff() > 0.1).all())


def test_one_hot_types_are_features() -> None:
    """Not an identity: seen to fail with `one entry in every row` as the only test."""
    x = torch.eye(9)[torch.arange(8) % 4]
    assert FeatureTransform.fit(x).num_out == 3  # the columns sum to 1


@pytest.mark.parametrize("case", CASES)
def test_parts_give_the_transform_back(case: str) -> None:
    x, max_dim = CASES[case]
    one = FeatureTransform.fit(x, max_dim=max_dim, seed=3)
    other = FeatureTransform.from_parts(json.loads(json.dumps(one.config())), one.tensors())
    assert torch.equal(one.apply(x), other.apply(x))
    again = FeatureTransform.fit(x, max_dim=max_dim, seed=3)
    assert torch.equal(one.weight, again.weight)
    with pytest.raises(DataError, match="GFM144"):
        FeatureTransform.from_parts({**one.config(), "version": 0}, one.tensors())
    with pytest.raises(DataError, match="GFM144"):
        FeatureTransform.from_parts({**one.config(), "num_in": 1}, one.tensors())


def test_another_width_is_refused() -> None:
    transform = FeatureTransform.fit(table(0))
    for wrong in (table(0)[:, :5], None):
        with pytest.raises(DataError, match="GFM144"):
            transform.apply(wrong)


@settings(deadline=None, max_examples=150)
@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.one_of(
            st.sampled_from([0.0, 1.0, -1.0]),
            st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
    ),
    max_dim=st.integers(1, 8),
    as_csr=st.booleans(),
)
def test_whatever_is_finite_comes_out_finite(x: np.ndarray, max_dim: int, as_csr: bool) -> None:
    """Seen to fail with constant columns left in."""
    given_x = Csr(x) if as_csr else torch.from_numpy(x)
    out = FeatureTransform.fit(given_x, max_dim=max_dim).apply(given_x)
    assert bool(torch.isfinite(out).all()) and out.shape[1] <= max_dim
    assert float(out.abs().max() if out.numel() else 0) <= CLIP


def test_hops_are_means_of_neighbors() -> None:
    """Against dense matrices, with an isolated node; seen to fail with sums."""
    rng = np.random.default_rng(11)
    adjacency = (rng.random((12, 12)) < 0.3).astype(np.float64)
    adjacency[4] = 0
    csr = Csr(adjacency)
    x = torch.from_numpy(rng.standard_normal((12, 3)).astype(np.float32))
    mean = adjacency / np.maximum(adjacency.sum(axis=1, keepdims=True), 1)
    wanted = np.concatenate([x, mean @ x.numpy(), mean @ mean @ x.numpy()], axis=1)
    out = hop_features(torch.from_numpy(csr.indptr), torch.from_numpy(csr.indices), x)
    np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert not out[4, 3:].any()
    none = torch.zeros(3, dtype=torch.int64)
    assert hop_features(none, none[:0], torch.zeros(2, 0), 1).shape == (2, 0)
