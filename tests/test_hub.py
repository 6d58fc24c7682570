"""Weights by name: a folder, the Hugging Face Hub, random. Facts about them are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from graphfm.checkpoint import pretrained
from graphfm.checkpoint.folder import Checkpoint
from graphfm.errors import CheckpointError
from graphfm.estimator import GraphFMClassifier
from graphfm.model.graphfm import GraphFM
from graphfm.training.state_cloud import StateCloud
from tests.graphs import small_model, synthetic
from tests.hub_server import Repositories
from tests.hub_server import hub as running_hub

NAME = "someone/thing"
# In a process of its own: huggingface_hub reads its endpoint and its cache when it is imported.
SCRIPT = f"""
import json, os, sys, torch
from graphfm import GraphFM, GraphFMClassifier, GraphFMError
from tests.graphs import synthetic
torch.set_num_threads(1)
results = {{}}

def fails(name, revision=None):
    try:
        GraphFM.from_pretrained(name, revision=revision)
    except GraphFMError as error:
        return [error.code, error.what]

model = GraphFM.from_pretrained(sys.argv[1])
first = model.push_to_hub("{NAME}", message="one").rsplit("/", 1)[1]
with torch.no_grad():
    model.universal.bias.add_(1)
model.push_to_hub("{NAME}")
same = lambda a, b: all(torch.equal(a.state_dict()[k], v) for k, v in b.state_dict().items())
newest = GraphFM.from_pretrained("{NAME}")
older = GraphFM.from_pretrained("{NAME}", revision=first)
results["newest"] = same(newest, model)
results["older"] = same(older, GraphFM.from_pretrained(sys.argv[1]))
results["differ"] = not same(newest, older)
results["about"], results["extra"] = newest.about == model.about, list(newest.extra)
results["fit"] = GraphFMClassifier("{NAME}", tune="probe").fit(synthetic()).not_judged_on_
for name, revision in (("{NAME}", "nope"), ("someone/else", None), ("someone/other", None),
                       ("someone/altered", None)):
    results[f"{{name}}@{{revision}}"] = fails(name, revision)
os.environ["GRAPHFM_OFFLINE"] = "1"
results["cached"] = same(GraphFM.from_pretrained("{NAME}"), model)
results["absent"] = fails("someone/never")
try:
    model.push_to_hub("{NAME}")
except GraphFMError as error:
    results["push"] = [error.code, error.what]
print(json.dumps(results))
"""


def described() -> GraphFM:
    """Return a model with all facts of a pretraining checkpoint."""
    model = small_model([])
    model.about = {"name": "mine", "step": 7, "corpus": ["iris"], "not_judged_on": ["iris", "wine"]}
    rng = torch.Generator().manual_seed(0)
    states, held = (torch.randn(n, 32, generator=rng) for n in (60, 40))
    model.extra = {"novelty": StateCloud.of(states, held).tensors()}
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine"
    described().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def online(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Repositories]:
    """Results of the script, and the requests to the hub."""
    pytest.importorskip("huggingface_hub")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with running_hub() as held:
        held.commit("someone/other", "main", {"config.json": b"{}", "pytorch_model.bin": b"x"})
        bad = bytearray(files["model.safetensors"])
        bad[-1] ^= 1
        held.commit("someone/altered", "main", {**files, "model.safetensors": bytes(bad)})
        # A card that its owner edited, and a file that is not read: neither is in the way.
        held.commit(NAME, "main", {"README.md": b"# mine", "trainer.pt": b"not a tensor"})
        environment = {
            **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
            "HF_ENDPOINT": held.address,
            "HF_HOME": str(tmp_path_factory.mktemp("hub")),
            "HF_TOKEN": "hf_none",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), held


def test_a_push_comes_back_bit_for_bit_at_its_revision(online: Any) -> None:
    """Seen to fail with the revision not passed on: the older one was the newest."""
    results, _ = online
    assert results["newest"] and results["older"] and results["differ"]


def test_facts_of_a_checkpoint_cross_the_hub(online: Any) -> None:
    """Corpus, novelty and ``not_judged_on`` are kept. Seen to fail with weights loaded alone."""
    results, _ = online
    assert results["about"] and results["extra"] == ["novelty"]
    assert results["fit"] == ["iris", "wine"]


def test_nothing_but_tensors_json_and_the_card_is_fetched(online: Any) -> None:
    """Seen to fail without PATTERNS: trainer.pt and the .bin were."""
    _, held = online
    fetched = {r.rsplit("/", 1)[1] for r in held.requests if "/resolve/" in r}
    assert fetched and {Path(name).suffix for name in fetched} <= {".json", ".safetensors", ".md"}


def test_errors_state_why_a_download_failed(online: Any) -> None:
    results, _ = online
    code, what = results[f"{NAME}@nope"]
    assert code == "GFM311" and "no such branch" in what
    code, what = results["someone/else@None"]
    assert code == "GFM311" and "does not exist" in what
    code, what = results["someone/other@None"]
    assert code == "GFM311" and "not a graphfm model" in what
    code, what = results["someone/altered@None"]
    assert code == "GFM302" and "model.safetensors is damaged" in what


def test_offline_the_cache_answers_and_the_network_is_not_asked(online: Any) -> None:
    """Seen to fail with local_files_only left out: someone/never was asked for."""
    results, held = online
    assert results["cached"]
    assert results["absent"][0] == results["push"][0] == "GFM401"
    assert not [r for r in held.requests if "never" in r]


def test_saved_and_read_again_is_the_same(folder: Path) -> None:
    """Weights, facts and card are equal. Seen to fail with ``about`` not restored."""
    model, again = described(), GraphFM.from_pretrained(folder)
    assert again.about == model.about and not again.training
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    for name, tensor in model.extra["novelty"].items():
        assert torch.equal(again.extra["novelty"][name], tensor)
    again.save_pretrained(folder.with_name("twice"))
    for path in folder.iterdir():
        assert (folder.with_name("twice") / path.name).read_bytes() == path.read_bytes()


def test_the_card_may_be_edited_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    """Seen to fail with the card in the manifest: GFM302 after a word was mended on the hub."""
    described().save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("# other words")
    Checkpoint.open(tmp_path / "m")
    text = (tmp_path / "m" / "config.json").read_text()
    (tmp_path / "m" / "config.json").write_text(text.replace('"iris"', '"iros"', 1))
    with pytest.raises(CheckpointError, match="GFM302"):
        GraphFM.from_pretrained(tmp_path / "m")


def test_an_estimator_takes_a_folder_or_the_model_in_it(folder: Path) -> None:
    """Predictions and warnings are equal. Seen to fail with ``about`` read from paths only."""
    graph = synthetic()
    one = GraphFMClassifier(folder, tune="probe").fit(graph)
    other = GraphFMClassifier(GraphFM.from_pretrained(folder), tune="probe").fit(graph)
    assert (one.predict_proba() == other.predict_proba()).all()
    assert one.not_judged_on_ == other.not_judged_on_ == ["iris", "wine"]
    assert one.far_states_ == other.far_states_ is not None
    assert one.weights_ == other.weights_ == "mine"


def test_random_weights_are_requested_by_name() -> None:
    """The same seed gives the same trunk. Seen to fail with the seed not passed on."""
    one, same, other = (GraphFM.from_pretrained("random", seed=seed) for seed in (1, 1, 2))
    weights = [m.encoder.state_dict() for m in (one, same, other)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert any(not torch.equal(weights[0][k], weights[2][k]) for k in weights[0])


def test_a_misspelt_path_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt runs/mien beside runs/mine. Seen to fail with every a/b read as a repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for name in ("runs/mien", "mien", "./runs/mine", "a/b/c", str(tmp_path / "mien")):
        with pytest.raises(CheckpointError, match="GFM301"):
            pretrained.find_weights(name)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"GFM311.*huggingface_hub") as caught:
        pretrained.find_weights("someone/thing")
    assert "graphfm[hub]" in caught.value.fix


def test_a_revision_of_a_folder_is_refused(folder: Path) -> None:
    """The argument is not ignored. Seen to fail without the check."""
    with pytest.raises(CheckpointError, match="GFM311"):
        GraphFM.from_pretrained(folder, revision="v1")
