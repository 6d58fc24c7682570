"""Any bytes give a graph or an error of ours, in every reader."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphfm.graphs.graph import Graph
from tests.fuzzing import mutated, read_bytes, seeds

SEEDS = seeds()


@pytest.mark.parametrize("name", SEEDS)
def test_the_seeds_are_graphs(tmp_path: Path, name: str) -> None:
    """Else the mutations would begin at an error."""
    assert isinstance(read_bytes(tmp_path, name, SEEDS[name]), Graph)


@pytest.mark.parametrize("name", SEEDS)
@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_any_bytes_are_a_graph_or_an_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Seen to fail on networkx's AttributeError and on an index that scipy trusts."""
    content = data.draw(mutated(SEEDS[name]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_bytes(tmp_path, name, content)
