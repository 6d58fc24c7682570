"""The estimate of a dry run against the run, within a fifth; no seconds are compared."""

import pytest
import torch

from graphfm.config.load import load_recipe
from graphfm.training.corpus import Corpus, fresh_model
from graphfm.training.estimate import estimate
from graphfm.training.run import Run
from tests.graphs import three_graphs

SMALL = [
    "train.steps=60",
    "train.warmup_steps=2",
    "train.save_every=20",
    "train.eval_every=30",
    "train.max_time=null",
    "sampling.max_targets=16",
    "sampling.targets_per_step=40",
    "model.dim=32",
]


def corpus_of(*more):
    recipe = load_recipe("demo", [*SMALL, *more])
    return recipe, Corpus(three_graphs(), [1.0, 2.0, 1.5], recipe, device=torch.device("cpu"))


def estimate_of(*more):
    recipe, corpus = corpus_of(*more)
    return estimate(recipe, corpus, fresh_model(recipe, corpus, torch.device("cpu")))


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "lamb"])
def test_parameters_steps_flops_and_disk(tmp_path, optimizer):
    """Seen to fail (disk, by half) without the optimizer's state.

    Muon has one moment of a matrix where the estimate counts two.
    """
    more = (f"train.optimizer={optimizer}",)
    estimated = estimate_of(*more)
    recipe, corpus = corpus_of(*more)
    receipt = Run(recipe, corpus, tmp_path, torch.device("cpu")).train()
    assert estimated["params"] == receipt["params"] and estimated["steps"] == receipt["steps"] == 60
    assert estimated["flops"] == pytest.approx(receipt["flops"], rel=0.2)
    files = (tmp_path / "checkpoints").rglob("*")
    mib = sum(f.stat().st_size for f in files if f.is_file()) / 2**20
    assert mib / estimated["disk_mib"] == pytest.approx(
        1.0, rel=0.35 if optimizer == "muon" else 0.2
    )
    assert estimated["disk_peak_mib"] > mib


def test_time_that_ends_a_run_ends_the_estimate_too():
    estimated = estimate_of("train.max_time=1s", "train.steps=100000")
    assert estimated["steps"] < 10_000 and 1 <= estimated["seconds"] < 5
    assert estimated["flops"] == pytest.approx(
        estimated["steps"] * estimated["flops_per_step"], rel=1e-3
    )


def test_an_estimate_of_one_step_is_one():
    estimated = estimate_of("train.steps=1", "train.warmup_steps=0")
    assert estimated["steps"] == 1 and estimated["seconds"] >= 0
