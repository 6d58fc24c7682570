"""numba samples the same integers as torch, and is used only when it saves time."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.sampling import neighbors
from graphfm.sampling.neighbors import choose, node_numbers, sample_neighbors
from tests.test_sampling_neighbors import DEGREES, DIGEST, KEYS, digest, floyd, keys_of, uneven_rows

pytest.importorskip("numba")
_numba = pytest.importorskip("graphfm.sampling._numba")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(DEGREES, KEYS), max_size=9), st.integers(1, 20))
def test_slots_are_torchs(rows, k):
    """Seen to fail with a signed shift, and with repeats of the last slot only."""
    columns = [torch.tensor([row[i] for row in rows], dtype=torch.int64) for i in (0, 1)]
    wanted = choose(*columns, k, 2**31 - 1)
    found = _numba.choose(*columns, k, 2**31 - 1)
    assert found.dtype == wanted.dtype and torch.equal(found, wanted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**38 - 1), KEYS), min_size=1, max_size=5))
def test_rows_of_more_than_int32_neighbors(rows):
    """Seen to fail with int32 slots."""
    degree, key = (torch.tensor(column) for column in zip(*rows, strict=True))
    found = _numba.choose(degree, key, 7, 2**38)
    assert torch.equal(found, choose(degree, key, 7, 2**38))
    assert found.T.tolist() == [floyd(d, x, 7) for d, x in rows]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.integers(1, 12),
    st.integers(0, 600),
    st.integers(0, 2**31),
    st.sampled_from([torch.int32, torch.int64]),
)
def test_neighbors_are_torchs(degrees, k, num_rows, seed, dtype):
    """More rows than a block of 256, isolated nodes, both widths of columns."""
    rowptr = torch.tensor([0, *degrees]).cumsum(0)
    rng = torch.Generator().manual_seed(seed)
    col = torch.randint(0, len(degrees), (int(rowptr[-1]) + 1,), generator=rng).to(dtype)
    nodes = torch.randint(0, len(degrees), (num_rows,), generator=rng)
    keys = keys_of(nodes, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFM_FAST", "0")
        wanted = sample_neighbors(rowptr, col, nodes, keys, k)
    found = _numba.sample_neighbors(rowptr, col, nodes, keys, k)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=80), st.lists(st.integers(0, 30), max_size=80))
def test_numbers_are_torchs(before, nodes):
    """Seen to fail with numbers from 0 on in the second call."""
    scratch, answers = [], []
    for number, fast in ((neighbors._number, "0"), (_numba.number, "1")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRAPHFM_FAST", fast)
            numbers = node_numbers(31)
            first = number(numbers, torch.tensor(before, dtype=torch.int64), 0)
            again = number(numbers, torch.tensor(nodes, dtype=torch.int64), len(first[1]))
        scratch.append(numbers)
        answers.append((*first, *again))
    assert torch.equal(*scratch)
    for a, b in zip(*answers, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_the_integers_stay_and_hubs_are_torchs(monkeypatch):
    monkeypatch.setenv("GRAPHFM_FAST", "1")
    assert digest() == DIGEST


def used(monkeypatch) -> list[int]:
    """Sizes of the calls that went to numba."""
    calls: list[int] = []
    real = _numba.sample_neighbors

    def counted(rowptr, col, nodes, key, k):
        calls.append(len(nodes))
        return real(rowptr, col, nodes, key, k)

    monkeypatch.setattr(_numba, "sample_neighbors", counted)
    return calls


def test_numba_is_used_after_many_slots_unless_set_otherwise(monkeypatch):
    """Seen to fail with a count that restarts at each call."""
    calls = used(monkeypatch)
    rowptr, col = uneven_rows()
    nodes = torch.arange(500)
    monkeypatch.setattr(neighbors, "_slots_sampled", 0)
    monkeypatch.setattr(neighbors, "_NUMBA_AFTER", 12_000)
    for wish, wanted in [("", 1), ("0", 1), ("1", 2)]:
        monkeypatch.setenv("GRAPHFM_FAST", wish)
        if wish:
            monkeypatch.setattr(neighbors, "_slots_sampled", 0)
        for _ in range(3 if wish != "1" else 1):
            sample_neighbors(rowptr, col, nodes, keys_of(nodes), 10)
        assert len(calls) == wanted, wish


def test_a_numba_that_does_not_import_is_named_and_torch_samples(monkeypatch):
    """Seen to fail without the except: an old numba raises on a new numpy."""
    monkeypatch.setenv("GRAPHFM_FAST", "1")
    monkeypatch.setitem(sys.modules, "graphfm.sampling._numba", None)
    monkeypatch.delattr("graphfm.sampling._numba")
    neighbors._numba_functions.cache_clear()
    try:
        with pytest.warns(UserWarning, match="torch samples"):
            assert digest() == DIGEST
    finally:
        neighbors._numba_functions.cache_clear()


def test_few_samples_do_not_import_numba():
    code = """
import sys, torch
from graphfm.sampling.neighbors import sample_neighbors
nodes = torch.arange(3)
sample_neighbors(torch.arange(4), nodes, nodes, nodes, 2)
assert "numba" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
