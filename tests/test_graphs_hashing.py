"""Hashes that splits, caches and receipts depend on keep their values."""

from __future__ import annotations

import numpy as np
import pytest

from graphfm.graphs.audit.signatures import signatures
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.hashing import splitmix64

GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # the step of SplitMix64 between two outputs


def test_the_outputs_are_those_of_the_published_generator() -> None:
    """SplitMix64 from seed 1234567, as its reference implementation prints them."""
    states = np.array([1234567, 1234567 + GOLDEN_GAMMA], dtype=np.uint64)
    assert splitmix64(states).tolist() == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_the_type_of_the_integers_does_not_matter(dtype: type) -> None:
    values = np.array([0, 1, 2**31 - 1], dtype=dtype)
    before = values.copy()
    assert splitmix64(values).tolist() == splitmix64(values.astype(np.uint64)).tolist()
    assert np.array_equal(values, before)


def test_negative_integers_wrap() -> None:
    assert splitmix64(np.array([-1])) == splitmix64(np.array([2**64 - 1], dtype=np.uint64))


def test_the_signature_of_a_known_graph_does_not_change() -> None:
    """Cached audits hold it: a change needs another VERSION."""
    assert signatures(Catalog.read().load("karate")).whole == "f8fa79f534aaadb06009bbc0df2bc05e"
