"""Limits of a fit: time, patience, memory. No test reads the time of the machine."""

import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from graphfm.errors import MemoryLimitError
from graphfm.estimator import GraphFMClassifier
from graphfm.fitting.budget import Budget
from graphfm.fitting.cost import memory_of
from graphfm.fitting.descent import EVAL_EVERY, PATIENCE
from graphfm.fitting.finetune import finetune
from graphfm.fitting.fitted import Fitted
from graphfm.fitting.sizes import Sizes, sizes_of
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.machine import memory_left
from graphfm.model.graphfm import GraphFM
from tests.graphs import small_model, synthetic, three_graphs


@pytest.fixture(scope="module")
def model() -> GraphFM:
    return small_model(three_graphs())


@pytest.fixture(scope="module")
def graph() -> Graph:
    mine = synthetic("mine", num_nodes=400, num_features=7, homophily=0.6, feature_signal=0.7)
    return with_split(mine, (0.5, 0.3, 0.2), seed=0)


def fitted(model: GraphFM, graph: Graph, **options: object) -> Fitted:
    given = {"train_mask": graph.train_mask, "val_mask": graph.val_mask, **options}
    return finetune(prepare(graph), model, **given)


def ticking(seconds: float) -> Callable[[], float]:
    """Clock that advances by some seconds at every reading, however busy the machine is."""
    readings = itertools.count()
    return lambda: seconds * next(readings)


@pytest.mark.parametrize(
    "asked",
    [
        {"tune": "adapter", "max_steps": 1000, "val_mask": None},
        {"tune": "adapter", "max_steps": 2, "ensemble": 500},
    ],
)
def test_time_bounds_the_whole_fit_and_every_cut_is_logged(
    asked: dict[str, object],
    model: GraphFM,
    graph: Graph,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Seen to fail without the check before a step, and without the one before a member."""
    budget = Budget(1.5, clock=ticking(0.01))
    with caplog.at_level(logging.WARNING):
        own = fitted(model, graph, budget=budget, **asked)
    assert budget.spent < 1.7
    assert own.tune == "adapter" and own.cut_short
    assert "val_mask" in asked or own.calibration.num_nodes > 0
    assert all(any(line in entry.message for entry in caplog.records) for line in own.cut_short)


def test_time_is_reserved_for_the_calibration(model: GraphFM, graph: Graph) -> None:
    """Seen to fail with a budget that steps may use up."""
    budget = Budget(1.5, clock=ticking(0.01))
    fitted(model, graph, tune="adapter", max_steps=1000, budget=budget)
    assert 0 < budget.reserved < 1.5


def test_no_time_at_all_is_a_probe(model: GraphFM, graph: Graph) -> None:
    """The least there is, calibrated."""
    budget = Budget(1e-6, clock=ticking(0.01))
    own = fitted(model, graph, tune="decoder", ensemble=3, budget=budget)
    assert own.tune == "probe" and own.members == 1 and own.calibration.num_nodes > 0
    assert own.cut_short[0] == "decoder was not tried"


def test_time_that_ran_before_counts(model: GraphFM, graph: Graph) -> None:
    """Preparing a graph is part of the fit. Seen to fail with a budget that began in the fit."""
    now = [0.0]
    budget = Budget(600.0, clock=lambda: now[0])
    now[0] = 600.1
    assert fitted(model, graph, budget=budget).cut_short


def test_time_to_spare_changes_nothing(model: GraphFM, graph: Graph) -> None:
    """A limit that is far away gives the weights of a fit without one."""
    asked = {"tune": "adapter", "max_steps": 3, "ensemble": 2}
    free = fitted(model, graph, **asked)
    limited = fitted(model, graph, budget=Budget(1e6, clock=ticking(0.01)), **asked)
    weights = limited.model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in free.model.state_dict().items())
    assert limited.cut_short == [] and limited.history == free.history


def test_without_a_limit_nothing_is_cut(model: GraphFM, graph: Graph) -> None:
    own = fitted(model, graph, max_steps=3, pool=False)
    assert own.cut_short == [] and len(own.tried) == 3
    own = fitted(model, graph, tune="adapter", max_steps=3, ensemble=2)
    assert own.cut_short == [] and own.members == 2


def test_a_fit_that_no_longer_gains_stops(model: GraphFM) -> None:
    """Its weights are those of the best evaluation, which later steps did not touch.

    Seen to fail with patience that counted evaluations from the first on.
    """
    easy = synthetic("easy", num_nodes=200, num_features=7, feature_signal=4.0, homophily=0.95)
    graph = with_split(easy, (0.5, 0.3, 0.2), seed=0)
    own = fitted(model, graph, tune="decoder", max_steps=300)
    (done,) = own.tried[1:]
    assert done.steps - done.best_step == PATIENCE * EVAL_EVERY and done.steps < 300
    assert "without a better one" in done.stopped
    again = fitted(model, graph, tune="decoder", max_steps=300)
    assert again.history == own.history, "patience must not depend on the clock"


def test_without_validation_nodes_all_steps_are_taken(model: GraphFM, graph: Graph) -> None:
    own = fitted(model, graph, tune="adapter", max_steps=20, val_mask=None)
    assert own.best_step == own.tried[1].steps == 20


def test_a_graph_larger_than_memory_is_refused_with_numbers(
    model: GraphFM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a limit of the address space, before anything is prepared (bad input, row 61).

    Seen to fail without the check (a MemoryError of torch), and with a check after `prepare`.
    """
    resource = pytest.importorskip("resource")
    many = synthetic("many", num_nodes=50_000, num_features=128, mean_degree=4.0, seed=77)
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path))  # another worker may fill the common one
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), hard))
    try:
        with pytest.raises(MemoryLimitError) as caught:
            GraphFMClassifier(model).fit(many)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    error = caught.value
    assert error.code == "GFM149" and "50,000 nodes" in error.what
    assert re.search(r"about 0\.[2-9]\d GiB of memory, and 0\.\d\d GiB are free", error.what)
    assert error.why.count("GiB") == 3 and "--features" in error.fix
    assert list(tmp_path.rglob("*")) == []


def test_memory_grows_with_what_costs(model: GraphFM) -> None:
    """Seen to fail with a term that a size had been left out of."""
    base = sizes_of(synthetic("one", num_nodes=100), model, num_train=50)

    def whole(sizes: Sizes, **options: int) -> int:
        memory = memory_of(sizes, model, **options)
        return sum((memory.lasting | memory.passing).values())

    for field in ("num_nodes", "num_edges", "num_features", "num_classes", "num_train"):
        more = replace(base, **{field: 50 * getattr(base, field)})
        assert whole(more) > whole(base), field
    assert whole(base, ensemble=9) > whole(base)
    assert memory_of(base, model).peak < whole(base)
    assert memory_left(torch.device("cpu")) > 0
