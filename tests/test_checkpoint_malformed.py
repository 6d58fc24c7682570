"""Checkpoints with sound hashes and impossible content: GFM302 or GFM304, exit 5, in little memory.

Each case gave GFM400 (exit 1), another exit code, NaN with exit 0, or several GB before.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from graphfm.checkpoint.folder import Checkpoint
from graphfm.checkpoint.split_json import read_split
from graphfm.errors import CheckpointError, DataError
from graphfm.estimator import GraphFMClassifier, load_fitted
from graphfm.fitting.ensemble import members_of
from graphfm.graphs.inputs import as_graph
from graphfm.model.graphfm import GraphFM
from tests.graphs import save_split
from tests.test_checkpoint_folder import relist, unlist

ODD = [None, "text", [], {}, -1, 10**9, 1.5, float("nan"), float("inf"), True, [None], {"a": 1}]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe of random weights with experts, fitted to the karate club."""
    path = tmp_path_factory.mktemp("fits") / "karate"
    graph = as_graph("karate-club")
    GraphFMClassifier("random", tune="probe", ensemble=2).fit(graph).save(path)
    save_split(path, graph, {"graph": "karate-club"})
    return path


@pytest.fixture
def folder(fitted: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fitted, tmp_path / "karate")


def places(content: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in plain data, long lists in part."""
    yield key
    if isinstance(content, dict):
        for name, value in content.items():
            yield from places(value, (*key, name))
    elif isinstance(content, list):
        for i, value in enumerate(content[:2]):
            yield from places(value, (*key, i))


def changed(content: Any, key: tuple[Any, ...], value: Any) -> Any:
    """Return plain data with another value at a path; without the key if value is ``gone``."""
    if not key:
        return value
    content = copy.deepcopy(content)
    inner = content
    for part in key[:-1]:
        inner = inner[part]
    inner[key[-1]] = value
    return content


def open_all(folder: Path) -> None:
    """Open a folder in every way that reads its JSON."""
    checkpoint = Checkpoint.open(folder)
    read_split(checkpoint)
    checkpoint.outline(GraphFM.from_config)
    model = load_fitted(checkpoint)
    proba = model.answer(as_graph("karate-club")).proba  # type: ignore[union-attr]
    assert np.isfinite(proba).all()


@pytest.mark.parametrize("name", ["config.json", "specs.json", "split.json"])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_an_odd_value_anywhere_is_refused_or_harmless(
    name: str, data: st.DataObject, fitted: Path, tmp_path: Path
) -> None:
    """Any value of any JSON file replaced by another kind of value."""
    content = json.loads((fitted / name).read_text())
    key = data.draw(st.sampled_from(list(places(content))))
    value = data.draw(st.sampled_from(ODD))
    folder = tmp_path / "odd"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(fitted, folder)
    (folder / name).write_text(json.dumps(changed(content, key, value)))
    relist(folder, name)
    try:
        open_all(folder)
    except DataError as error:
        assert error.code == "GFM144", error  # a number of columns that another graph could have
    except CheckpointError as error:
        assert error.exit_code == 5 and error.code in {"GFM302", "GFM303", "GFM304", "GFM307"}
        assert error.where, error


CASES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("config.json", (), []),
    ("config.json", (), {"format": 1}),
    ("config.json", ("format",), "two"),
    ("config.json", ("model",), None),
    ("config.json", ("model", "dim"), 96_000),
    ("config.json", ("model", "dim"), 97),
    ("config.json", ("model", "decoder", "depth"), 10**6),
    ("config.json", ("model", "encoder", "depth"), 10**6),
    ("config.json", ("model", "decoder", "kind"), "unheard-of"),
    ("config.json", ("model", "more"), 1),
    ("config.json", ("estimator",), []),
    ("config.json", ("estimator", "kind"), "rank"),
    ("config.json", ("estimator", "params"), {"unheard": 1}),
    ("config.json", ("estimator", "calibration", "temperature"), 0),
    ("config.json", ("estimator", "calibration", "temperature"), float("nan")),
    ("config.json", ("estimator", "calibration", "temperature"), -1.0),
    ("config.json", ("estimator", "calibration", "smoothing"), 2),
    ("config.json", ("estimator", "classes"), 3),
    ("config.json", ("estimator", "classes"), ["a"]),
    ("config.json", ("estimator", "transform"), {}),
    ("config.json", ("estimator", "transform", "num_in"), None),
    ("config.json", ("not_judged_on",), "cora"),
    ("specs.json", (), {}),
    ("specs.json", (), [1]),
    ("specs.json", (0, "name"), "../x"),
    ("specs.json", (0, "task", "num_classes"), 10**7),
    ("specs.json", (0, "num_raw"), 10**7),
    ("split.json", (), []),
    ("split.json", ("nodes",), []),
    ("split.json", ("nodes", "test"), 3),
]


@pytest.mark.parametrize(("name", "key", "value"), CASES)
def test_malformed_content_is_exit_5_with_file_and_field(
    name: str, key: tuple[Any, ...], value: Any, folder: Path
) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(changed(content, key, value)))
    relist(folder, name)
    with pytest.raises(CheckpointError, match="GFM30[24]") as caught:
        open_all(folder)
    assert "json" in str(caught.value)


def test_a_dataset_twice_is_exit_5(folder: Path) -> None:
    """GFM121, exit 3, before."""
    specs = json.loads((folder / "specs.json").read_text())
    (folder / "specs.json").write_text(json.dumps(specs * 2))
    relist(folder, "specs.json")
    with pytest.raises(CheckpointError, match="GFM302"):
        GraphFM.from_checkpoint(folder)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_tensors_that_are_not_finite_are_refused(bad: float, folder: Path) -> None:
    """Every probability was ``nan`` with exit 0."""
    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        name = next((k for k, v in tensors.items() if v.is_floating_point() and v.numel()), None)
        if name is None:
            continue
        kept = path.read_bytes()
        tensors[name].view(-1)[0] = bad
        save_file(tensors, path)
        relist(folder, path.name)
        with pytest.raises(CheckpointError, match=r"GFM302.*finite"):
            load_fitted(folder)
        path.write_bytes(kept)
        relist(folder, path.name)


def test_weights_of_whole_numbers_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({k: v.to(torch.int64) for k, v in load_file(path).items()}, path)
    relist(folder, path.name)
    with pytest.raises(CheckpointError, match=r"GFM304[\s\S]*whole numbers"):
        GraphFM.from_checkpoint(folder)


def test_every_tensor_file_must_be_listed(folder: Path) -> None:
    """``experts.safetensors`` out of the manifest, and negated: other answers with exit 0."""
    listed = json.loads((folder / "manifest.json").read_text())
    names = [name for name in listed if name.endswith(".safetensors")]
    assert {"model.safetensors", "transform.safetensors", "experts.safetensors"} <= {*names}
    for name in names:
        unlist(folder, name)
        with pytest.raises(CheckpointError, match="GFM302.*not in its manifest"):
            load_fitted(folder)
        relist(folder, name)


def test_a_split_must_be_listed_except_in_an_old_folder(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With test := train, evaluate reported 1.000. Format 1 listed no split: one warning."""
    assert "nodes" in read_split(Checkpoint.open(folder))
    split = json.loads((folder / "split.json").read_text())
    (folder / "split.json").write_text(json.dumps({**split, "nodes": {}}))
    with pytest.raises(CheckpointError, match=r"GFM302.*split\.json is damaged"):
        Checkpoint.open(folder)
    unlist(folder, "split.json")
    with pytest.raises(CheckpointError, match="GFM302.*not in its manifest"):
        read_split(Checkpoint.open(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 1}))
    relist(folder, "config.json")
    assert read_split(Checkpoint.open(folder))["graph"] == "karate-club"
    assert sum("not verified" in record.getMessage() for record in caplog.records) == 1


def test_an_answer_that_is_not_finite_is_an_error(fitted: Path) -> None:
    """Values that became NaN after the folder was read."""
    model = load_fitted(fitted)
    with torch.no_grad():
        for member in members_of(model.model_):
            for weight in member.state_dict().values():
                weight.fill_(torch.nan)
    for ask in (model.predict, model.embed):
        with pytest.raises(CheckpointError, match="GFM312"):
            ask(as_graph("karate-club"))
