"""Tasks of in-context pretraining: pure functions of (seed, number), without leaks, and stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.config.load import load_incontext, recipe_names
from graphfm.errors import DataError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.training.incontext import task_graphs
from graphfm.training.rounds import Round
from graphfm.training.tasks import columns, synthetic
from graphfm.training.tasks.draw import Task, draw_tasks
from graphfm.training.tasks.produce import produce
from graphfm.training.tasks.solve import solve
from graphfm.training.tasks.store import SHARD, TaskStore
from graphfm.training.tasks.structures import TaskCorpus, choose_part, draw_structure
from graphfm.training.tasks.task import GROUP, show_labels, tidy_classes

KINDS = {"columns": 1.0, "synthetic": 1.0, "labels": 1.0}
SMALL = ("iris", "karate", "wine", "les-miserables")


@pytest.fixture(scope="module")
def corpus() -> TaskCorpus:
    """Graphs that need no files."""
    return TaskCorpus(ids=SMALL, catalog=Catalog.read())


def same(a: Task, b: Task) -> bool:
    """True if two tasks are equal in every number."""
    pairs = [(a.shown, b.shown)]
    pairs += [(getattr(a.graph, k), getattr(b.graph, k)) for k in ("x", "y", "pe", "rowptr", "col")]
    return all(torch.equal(x, y) for x, y in pairs) and (a.kind, a.source) == (b.kind, b.source)


def test_a_task_is_a_function_of_seed_and_number(corpus: TaskCorpus) -> None:
    """Whatever was drawn before. Seen to fail with one generator for all tasks."""
    first = [list(draw_tasks(corpus, 3, group, KINDS)) for group in (0, 1)]
    fresh = TaskCorpus(ids=SMALL, catalog=Catalog.read())
    again = list(draw_tasks(fresh, 3, 1, KINDS))
    assert all(same(a, b) for a, b in zip(first[1], again, strict=True))
    assert not any(same(a, b) for a, b in zip(*first, strict=True))
    assert [task.number for task in again] == list(range(GROUP, 2 * GROUP))
    assert len({task.kind for tasks in first for task in tasks}) > 1


def test_experts_read_no_hidden_label(corpus: TaskCorpus) -> None:
    """Garbling hidden labels changes no prediction. Seen to fail with all nodes shown."""
    from dataclasses import replace

    task = next(iter(draw_tasks(corpus, 3, 0, KINDS)))
    y = task.graph.y
    assert y is not None
    garbled = torch.where(task.shown, y, torch.where(y >= 0, (y + 1) % (int(y.max()) + 1), y))
    mine, other = solve(task), solve(replace(task, graph=replace(task.graph, y=garbled)))
    assert mine is not None and other is not None
    assert torch.equal(mine.log_probs, other.log_probs)
    assert torch.equal(mine.held_out, other.held_out)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 8))
def test_shown_labels(seed: int, num_nodes: int, num_classes: int) -> None:
    """Every class that is left has a shown node, and some labelled node is hidden.

    Seen to fail without the renumbering of the classes.
    """
    rng = np.random.default_rng(seed)
    y = tidy_classes(rng.integers(-1, num_classes, size=num_nodes))
    counts = np.bincount(y[y >= 0])
    assert (counts[1:] <= counts[:-1]).all() and (counts >= 2).all()
    found = show_labels(y, rng)
    if found is None:
        return
    left, shown = found
    assert set(left[shown]) == set(range(left.max() + 1)) and left.max() >= 1
    assert ((left >= 0) & ~shown).any() and (left[y < 0] == -1).all()
    pairs = {(a, b) for a, b in zip(y, left, strict=True) if b >= 0}
    assert len(pairs) == left.max() + 1  # classes are renamed, not mixed


@pytest.mark.parametrize("seed", range(8))
def test_relatives_of_a_target_leave_the_input(seed: int, corpus: TaskCorpus) -> None:
    """No column of the input has |r| > 0.9 to the target. Seen to fail without the removal."""
    rng = np.random.default_rng(seed)
    graph, _ = corpus.graph("wine")
    structure = draw_structure(rng)
    base = np.resize(graph.x.numpy(), (structure.num_nodes, 13))
    base = base > np.median(base, axis=0)
    twins = np.concatenate([base, ~base], axis=1)
    object.__setattr__(structure, "raw", twins.astype(np.float32))
    target = columns.make(structure, rng)
    if target is None:
        return
    classes = (target.y[:, None] == np.arange(target.y.max() + 1)).astype(float)
    for column in target.x.T:
        for one in (*classes.T, target.y.astype(float)):
            assert abs(np.corrcoef(column, one)[0, 1]) <= 0.9 + 1e-6


def test_synthetic_targets_have_classes_and_finite_features() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        structure = draw_structure(rng)
        target = synthetic.make(structure, rng)
        if target is not None:
            assert target.y.max() >= 1 and np.isfinite(target.x).all()
            assert len(target.x) == len(target.y) == structure.num_nodes


def test_a_part_is_as_large_as_asked(corpus: TaskCorpus) -> None:
    graph, _ = corpus.graph("les-miserables")
    rowptr, col = (part.numpy() for part in graph.neighbors)
    for seed in range(20):
        nodes = choose_part(rowptr, col, 40, np.random.default_rng(seed))
        assert len(nodes) == len(set(nodes.tolist())) == 40
    assert len(choose_part(rowptr, col, 500, np.random.default_rng(0))) == graph.num_nodes


def test_a_store_keeps_what_was_solved_and_counts_whole_shards(tmp_path: Path) -> None:
    """Seen to fail with the number of files in place of the first gap."""
    kinds = {"synthetic": 1.0}
    produce(tmp_path, (), seed=0, kinds=kinds, num_tasks=SHARD)
    store = TaskStore(tmp_path)
    assert store.num_tasks() == SHARD
    before = store.path(0).read_bytes()
    produce(tmp_path, (), seed=0, kinds=kinds, num_tasks=SHARD)  # nothing is missing
    assert store.path(0).read_bytes() == before
    corpus = TaskCorpus(ids=(), catalog=Catalog.read())
    expected = solve(list(draw_tasks(corpus, 0, 2, kinds))[5])
    found = store.read(2 * GROUP + 5)
    assert expected is not None and found is not None and found.names == expected.names
    assert torch.equal(found.y, expected.y) and torch.equal(found.col, expected.col)
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=4e-3, rtol=1e-3)
    store.path(0).rename(store.path(1))
    assert store.num_tasks() == 0


def test_no_task_uses_an_excluded_or_an_evaluation_group() -> None:
    """Seen to fail with graphs compared by id."""
    catalog, recipe = Catalog.read(), load_incontext("incontext-gate")
    ids = task_graphs(recipe, catalog)
    judged = {e.group for e in catalog.entries.values() if e.role == "evaluation"}
    groups = {catalog.entry(id).group for id in ids}
    assert ids and not groups & {*judged, *recipe.tasks.exclude_groups}
    left_out = catalog.mixture(recipe.tasks.mixture).keys() - set(ids)
    assert len(left_out) == 24
    with pytest.raises(DataError, match="GFM123"):
        task_graphs(load_incontext("incontext-gate", ["tasks.exclude_groups=[none]"]), catalog)
    assert len(recipe_names(incontext=True)) >= 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.integers(1, 64))
def test_rounds_take_new_tasks_first(growth: list[int], size: int) -> None:
    """Every task once before any again, in a growing store. Seen to fail with seen + size."""
    available, step = size, 0
    now = Round(number=-1, begin=0, seen=0, available=0)
    known: set[int] = set()
    for grown in growth:
        now = now.next(step, size, available)
        order = now.order(size, seed=1).tolist()
        fresh = set(range(len(known), min(available, len(known) + size)))
        assert len(order) == size and fresh <= set(order) <= set(range(available))
        assert order == now.order(size, seed=1).tolist()
        known |= set(order)
        assert known == set(range(len(known)))
        available, step = available + grown, step + 1
