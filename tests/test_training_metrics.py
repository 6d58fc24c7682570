"""OGB's Evaluator: the number of its leaderboard, without network, and only where it can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from graphfm.metrics import OGB_NODE_DATASETS, accuracy, official_metric

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def ogb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "outdated", None)  # it would ask for a newer version
    pytest.importorskip("ogb", reason="ogb is not installed")


def arxiv_like(num_nodes: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(-1, 40, num_nodes)  # some are unlabelled
    proba = rng.dirichlet(np.ones(40), num_nodes)
    proba[::2, :] += np.eye(40)[y[::2]]
    return y, proba


def proteins_like(num_nodes: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, (num_nodes, 112)).astype(np.int8)
    proba = np.clip(0.3 * y + rng.random(y.shape), 0, 1)
    y[rng.random(y.shape) < 0.1] = -1
    y[:, 7] = 0  # no positive: this label has no curve and does not count
    return y, proba


@pytest.mark.parametrize("dataset", ["ogbn-arxiv", "ogbn-products"])
def test_one_class_per_node_is_judged_by_accuracy(ogb: None, dataset: str) -> None:
    """Seen to fail with unlabelled nodes given to the Evaluator."""
    y, proba = arxiv_like()
    assert official_metric(dataset, y, proba) == ("acc", pytest.approx(accuracy(y, proba)))
    assert 0.4 < accuracy(y, proba) < 0.7


def test_proteins_is_judged_by_the_mean_area_under_its_curves(ogb: None) -> None:
    """Seen to fail with -1 left in, which is no missing value to the Evaluator."""
    y, proba = proteins_like()
    areas = [
        roc_auc_score(y[known, c], proba[known, c])
        for c in range(112)
        if len(np.unique(y[(known := y[:, c] >= 0), c])) == 2
    ]
    assert len(areas) == 111
    assert official_metric("ogbn-proteins", y, proba) == ("rocauc", pytest.approx(np.mean(areas)))


def test_what_the_evaluator_refuses_has_no_score(ogb: None) -> None:
    """Seen to fail with the RuntimeError let through."""
    y, proba = proteins_like()
    assert official_metric("ogbn-proteins", np.zeros_like(y), proba) is None  # no curve at all
    assert official_metric("ogbn-proteins", y[:, :3], proba[:, :3]) is None
    assert official_metric("ogbn-arxiv", *proteins_like()) is None
    unlabelled = np.full(50, -1)
    assert official_metric("ogbn-arxiv", unlabelled, arxiv_like()[1]) is None


def test_other_graphs_and_no_ogb_give_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail without catching ImportError."""
    monkeypatch.setitem(sys.modules, "ogb", None)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    before = "outdated" in sys.modules
    for dataset in ("planetoid-cora", *OGB_NODE_DATASETS):
        assert official_metric(dataset, *arxiv_like()) is None
    assert ("outdated" in sys.modules) is before


def test_no_thread_of_ogb_reaches_for_the_network(ogb: None) -> None:
    """In a process of its own. Seen to fail with a plain import of ogb: two threads."""
    code = """
import socket, threading, sys
import numpy as np

began, asked = [], []

class Refused(socket.socket):  # urllib3 binds one when it is imported, to look for IPv6
    def connect(self, address):
        asked.append(address)
        raise OSError("no network")

def no_name(*args, **kwargs):
    asked.append(args)
    raise OSError("no network")

socket.socket, socket.getaddrinfo = Refused, no_name
start = threading.Thread.start
threading.Thread.start = lambda self: began.append(self._target.__module__) or start(self)

from graphfm.metrics import official_metric
found = official_metric("ogbn-arxiv", np.array([0, 1, 1]), np.eye(2)[[0, 1, 0]])
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(10)
print(found, asked, [m for m in began if m.split(".")[0] in {"ogb", "outdated"}],
      "outdated" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "('acc', 0.6666666666666666) [] [] False\n"
