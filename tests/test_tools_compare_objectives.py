"""Objectives side by side: real checkpoints on a real small graph, and figures by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphfm.checkpoint import save_checkpoint
from graphfm.config import ModelConfig
from graphfm.graphs.prepare import prepare
from graphfm.model import GraphFM
from tests.test_baselines import blocks, thirds

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("compare_objectives")


def trunk(folder: Path, *corpus: str) -> Path:
    """A checkpoint of an untrained model, whose corpus is said to be this."""
    parts = {"encoder": {"kind": "perceiver", "num_latents": 4, "depth": 1}}
    model = GraphFM(ModelConfig(dim=16, **parts), seed=3)
    save_checkpoint(folder, model, meta={"name": "x", "not_judged_on": list(corpus)})
    return folder


def call(tool: ModuleType, tmp_path: Path, *more: str) -> int:
    out = ["--cells", str(tmp_path / "cells"), "--out", str(tmp_path / "out.json")]
    return tool.main([*more, *out])


def test_a_graph_is_measured_once_and_a_second_call_measures_nothing(tool, tmp_path, capsys):
    """A checkpoint of random weights and `random` differ by their weights alone.

    Seen to fail with a cell whose name leaves the model out.
    """
    threads = torch.get_num_threads()
    given = ["random", f"mine={trunk(tmp_path / 'a')}", "--graphs", "karate-club", "--seeds", "1"]
    assert call(tool, tmp_path, *given) == 0
    torch.set_num_threads(threads)
    cells = sorted((tmp_path / "cells").iterdir())
    assert [c.name for c in cells] == [
        "mine.karate-club.50-25-25.0.json",
        "random.karate-club.50-25-25.0.json",
    ]
    found = json.loads((tmp_path / "out.json").read_text())["splits"]["50/25/25"]["table"]
    for head in tool.HEADS:
        for row in found[head]["karate-club"].values():
            assert 0 <= row["accuracy"] <= 1 and row["loss"] > 0
    assert found["state"]["karate-club"]["mine"] != found["state"]["karate-club"]["random"]
    before = {c.name: c.stat().st_mtime_ns for c in cells}
    assert call(tool, tmp_path, *given) == 0
    assert before == {c.name: c.stat().st_mtime_ns for c in (tmp_path / "cells").iterdir()}
    assert "state+raw | mine" in capsys.readouterr().out


def test_a_graph_of_the_corpus_is_refused(tool, tmp_path):
    """Seen to fail without the look at what the checkpoint says of its corpus."""
    given = [
        f"a={trunk(tmp_path / 'a', 'karate-club')}",
        "random",
        "--graphs",
        "karate-club",
        "--seeds",
        "1",
    ]
    with pytest.raises(SystemExit, match="must not be judged on karate"):
        call(tool, tmp_path, *given)


def test_gains_are_over_groups(tool, tmp_path):
    """Two graphs of one group count as one. Seen to fail with the mean over graphs."""
    losses = {
        "random": {"lazega-advice": 0.9, "lazega-cowork": 0.7, "karate-club": 0.5},
        "mine": {"lazega-advice": 0.6, "lazega-cowork": 0.6, "karate-club": 0.6},
    }
    (tmp_path / "cells").mkdir()
    for name, of in losses.items():
        for id, loss in of.items():
            cell = tmp_path / "cells" / f"{name}.{id}.50-25-25.0.json"
            cell.write_text(json.dumps({"state": {"loss": loss, "accuracy": 1 - loss}}))
    given = ["random", "mine=nowhere", "--graphs", ",".join(losses["mine"]), "--seeds", "1"]
    call(tool, tmp_path, *given, "--heads", "state")
    result = json.loads((tmp_path / "out.json").read_text())["splits"]["50/25/25"]
    gained = result["against"]["state"]["mine"]["loss"]
    assert gained["gain"] == pytest.approx((0.2 - 0.1) / 2)
    assert (gained["won"], gained["lost"]) == (1, 1)


def test_a_state_is_read_without_the_features_beside_it(tool, monkeypatch):
    """Seen to fail (a crash) with the head of a fit, which looks for features among its columns."""
    graph, nodes = prepare(blocks(90)), torch.arange(90)
    train, val, test = thirds(90)
    model = GraphFM(ModelConfig(dim=16), seed=3)

    def score(head: str) -> dict[str, float]:
        return tool.scored(head, model, graph, (train, val), nodes[test], 0)

    before = {head: score(head) for head in ("state", "state+raw")}
    module = importlib.import_module("graphfm.finetune")  # the name in graphfm is the function
    made = module.bank_of

    def without_features(*given, **more):
        bank = made(*given, **more)
        bank.raw = {name: torch.zeros_like(raw) for name, raw in bank.raw.items()}
        return bank

    monkeypatch.setattr(module, "bank_of", without_features)
    assert score("state") == before["state"]
    assert score("state+raw") != before["state+raw"]
