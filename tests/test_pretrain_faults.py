"""A run with numbers that are not finite, too little memory, or a full disk."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from graphfm.checkpoint.folder import Checkpoint, find_checkpoint
from graphfm.config.recipe import TrainConfig
from graphfm.errors import DataError, DivergedError, GraphFMError, OutputError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.prepare_many import prepare_many
from graphfm.model.graphfm import GraphFM
from graphfm.training.faults import step_if
from graphfm.training.metrics_log import read_metrics
from graphfm.training.optim import make_optimizer
from graphfm.training.pretrain import load_corpus
from graphfm.training.run import Run
from graphfm.training.run_folder import checkpoints, newest_good
from tests.test_pretrain import recipe_of, run_of, stop_after, troubled, weights_of


def test_steps_of_a_graph_with_nan_features_are_skipped_and_named(tmp_path, caplog):
    """They change no weight; the run continues, counts them, and ends with finite weights."""
    receipt = troubled(tmp_path).train()
    skips = [r for r in read_metrics(tmp_path) if r["kind"] == "skip"]
    assert receipt["finished"] and 0 < receipt["skipped_steps"] == len(skips) < receipt["steps"]
    assert all(r["graphs"] == ["gamma"] and r["parameters"] for r in skips)
    warnings = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert len(warnings) == len(skips) and all("graphs gamma" in line for line in warnings)
    assert all(v.isfinite().all() for v in weights_of(tmp_path).values())
    lines = [r for r in read_metrics(tmp_path) if r["kind"] == "train"]
    assert lines[-1]["skipped"] == len(skips)
    assert all("gamma" not in r["graphs"] and r["loss"] > 0 for r in lines)


@pytest.mark.parametrize("name", ["adamw", "muon", "lamb"])
def test_a_skipped_step_changes_nothing(name):
    """Neither weights nor moments nor step counts change.

    Seen to fail with the optimizer's step taken whatever the gradient is.
    """
    if name == "lamb":
        pytest.importorskip("timm")
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 2))
    optimizer = make_optimizer([model], TrainConfig(optimizer=name, steps=5, warmup_steps=0))
    for finite in (True, False):
        before = [p.clone() for p in model.parameters()]
        model(torch.randn(5, 6)).square().sum().backward()
        if not finite:
            model[0].weight.grad[0, 0] = torch.nan
        state = repr(optimizer.state_dict())
        step_if(optimizer, torch.tensor(finite))
        moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True)]
        assert moved == [finite] * len(before)
        assert (repr(optimizer.state_dict()) == state) == (not finite)
        optimizer.zero_grad(set_to_none=True)


def test_four_in_a_row_end_the_run_with_exit_6(tmp_path):
    """A NaN weight spoils every step; the error names the checkpoint before."""
    stop_after(run_of(tmp_path), 5)
    run = run_of(tmp_path)
    with torch.no_grad():
        run.model.encoder.latents[0, 0] = torch.nan
    with pytest.raises(DivergedError, match="GFM601") as caught:
        run.train()
    assert caught.value.exit_code == 6
    assert "step_000005" in caught.value.fix and "4 steps in a row, up to step 9" in str(
        caught.value
    )
    skips = [r["in_a_row"] for r in read_metrics(tmp_path) if r["kind"] == "skip"]
    assert skips == [1, 2, 3, 4]
    assert find_checkpoint(tmp_path).name == "step_000005"
    Checkpoint.open(find_checkpoint(tmp_path))


def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path):
    stop_after(run_of(tmp_path), 5)
    run = run_of(tmp_path)
    with torch.no_grad():  # of a graph that the next steps do not visit: no loss shows it
        run.model.adapter("beta").bias[:] = torch.nan
    with pytest.raises(DivergedError):
        run.train()
    assert list(checkpoints(tmp_path)) == [5]


def test_halved_batches_give_the_same_losses(tmp_path):
    """Targets are the same in every step; without dropout the losses are, too.

    Seen to fail with a batch's loss divided by its own targets, not by those of the step.
    """
    quiet = ("model.adapter.dropout=0.0", "model.universal_share=0.0", "train.log_every=1")
    curves, seen = [], []
    for halvings in (0, 1, 3):
        run = run_of(tmp_path / str(halvings), *quiet)
        run.backoff.halvings = halvings
        receipt = run.train()
        seen.append(receipt["targets_seen_by_dataset"])
        lines = read_metrics(tmp_path / str(halvings))
        curves.append([r["loss"] for r in lines if r["kind"] == "train"])
        assert receipt["batches_halved"] == halvings
    assert seen[0] == seen[1] == seen[2]
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)
    assert curves[2] == pytest.approx(curves[0], abs=1e-5)


@pytest.mark.slow
def test_too_little_memory_halves_the_batches(tmp_path):
    """The address space of a process is limited to less than a step takes."""
    script = """
        import logging, re, resource, sys, torch
        from pathlib import Path
        logging.basicConfig(level=logging.WARNING)
        from graphfm.config import load_recipe
        from graphfm.graphs.features.prepare import prepare
        from graphfm.training.corpus import Corpus
        from graphfm.training.run import Run
        from tests.graphs import synthetic
        torch.set_num_threads(1)
        recipe = load_recipe("demo", ["train.steps=2", "train.warmup_steps=0",
            "sampling.max_targets=8192", "sampling.targets_per_step=8192",
            "sampling.max_context=64", "train.eval_targets=8", "train.save_every=1"])
        graph = prepare(synthetic("big", num_nodes=12000, num_features=16), cache=False)
        corpus = Corpus([graph], [1.0], recipe, device=torch.device("cpu"))
        run = Run(recipe, corpus, Path(sys.argv[1]), torch.device("cpu"))
        status = Path("/proc/self/status").read_text()
        now = int(re.search(r"VmSize:\\s+(\\d+)", status)[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]) * 2**20,) * 2)
        receipt = run.train()
        print(receipt["batches_halved"], receipt["targets_seen"])
    """
    results = {}
    for room in (8000, 600):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / str(room)), str(room)],
            capture_output=True,
            text=True,
            timeout=1200,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        )
        assert done.returncode == 0, done.stderr
        results[room] = [int(word) for word in done.stdout.split()]
    assert results[8000][0] == 0 and results[600][0] >= 1
    assert results[600][1] == results[8000][1]
    assert "out of memory at step" in done.stderr


def test_a_disk_that_is_full_ends_the_run_with_exit_8(tmp_path):
    """No file may be longer than 20 KB; the earlier checkpoint stays intact."""
    import resource

    stop_after(run_of(tmp_path), 5)
    run = run_of(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OutputError, match="GFM801") as caught:
            run.train()
        with pytest.raises(
            OutputError, match="GFM801"
        ):  # a run that cannot be saved does not start
            run_of(tmp_path / "another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 8
    assert list(checkpoints(tmp_path)) == [5]
    GraphFM.from_checkpoint(tmp_path)
    assert run_of(tmp_path).train()["finished"]


def test_a_graph_that_cannot_be_read_is_named_or_left_out(tmp_path, monkeypatch):
    """Missing raw files: an error with the graph's name, or the graph is left out and recorded.

    A resumed run stays without it, even if it can be read by then.
    """
    known = Catalog.read()
    whole = ["karate-club", "florentine-families"]
    missing = next(id for id in known.entries if id.startswith("tu-"))
    mixture = {"about": "Two that need no file, one that does.", "include": [*whole, missing]}
    catalog = Catalog(entries=known.entries, mixtures={"demo": mixture})
    monkeypatch.setenv("GRAPHFM_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRAPHFM_OFFLINE", "1")
    recipe, cpu = recipe_of("train.steps=3"), torch.device("cpu")
    with pytest.raises(GraphFMError) as caught:
        load_corpus(recipe, cpu, catalog)
    assert missing in str(caught.value)
    broken: dict[str, str] = {}
    corpus = load_corpus(recipe, cpu, catalog, broken=broken)
    assert list(corpus.bank.names) == whole and list(broken) == [missing]
    assert broken[missing].startswith("GFM")
    receipt = Run(recipe, corpus, tmp_path / "run", cpu, None, {"left_out": broken}).train()
    saved = newest_good(tmp_path / "run").config["left_out"]
    assert receipt["left_out"] == broken == saved
    again = load_corpus(recipe, cpu, catalog, broken=saved)
    assert list(again.bank.names) == whole


def test_an_error_that_is_not_ours_names_the_graph_too(monkeypatch):
    """An exception of a parser becomes a DataError with the graph's name."""
    catalog = Catalog.read()
    monkeypatch.setattr(Catalog, "load", lambda self, id: {}["no such key"])
    with pytest.raises(DataError, match=r"GFM191(.*\n)*.*karate-club"):
        prepare_many(["karate-club"], catalog)
