"""Few labels: all of them are learned from, none is given to validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from graphfm.benchmark.cells import refuse_searches
from graphfm.benchmark.models import competitors
from graphfm.cli.main import app
from graphfm.errors import DataError
from graphfm.estimator import GraphFMClassifier
from graphfm.estimator.masks import FEW_A_CLASS, fit_masks
from graphfm.graphs.readers.export import write_tables
from graphfm.graphs.splits import Few, with_split
from tests.graphs import small_model, synthetic, three_graphs


@pytest.mark.parametrize("few", (True, False))
def test_few_labels_are_all_learned_from(few: bool) -> None:
    """Ten a class on average; with one more, a part is taken for validation, as before.

    Seen to fail with the limit of ten labels in all.
    """
    graph = synthetic("mine")
    train = with_split(graph, Few(FEW_A_CLASS), seed=0).train_mask
    assert train is not None
    if not few:
        train[(~train).nonzero()[0]] = True
    learned, val = fit_masks(graph, train, None, seed=0)
    assert torch.equal(learned, train) == few
    assert bool(val.any()) == (not few)


def test_a_fit_on_few_labels_predicts_and_scores_the_others(tmp_path: Path) -> None:
    """`--split few:3` keeps 3 labels a class, none for validation, and tests on all others."""
    write_tables(synthetic("mine"), tmp_path / "graph")
    small_model(three_graphs()).save_pretrained(tmp_path / "trunk")
    done = CliRunner().invoke(
        app,
        ["finetune", "--from", str(tmp_path / "trunk"), "--graph", str(tmp_path / "graph"),
         "--target", "label", "--split", "few:3", "--out", str(tmp_path / "fit")],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    split = json.loads((tmp_path / "fit" / "split.json").read_text())["nodes"]
    assert {part: len(ids) for part, ids in split.items()} == {"train": 9, "val": 0, "test": 111}
    model = GraphFMClassifier.load(tmp_path / "fit")
    assert model.tune_ == "probe"


def test_a_search_without_validation_nodes_is_refused_before_it_runs() -> None:
    """Seen to fail when each cell failed instead."""
    refuse_searches(competitors("probe-random,gcn"), "few:3")
    with pytest.raises(DataError, match="GFM712.*gcn-tuned"):
        refuse_searches(competitors("gcn,gcn-tuned"), "few:3")
