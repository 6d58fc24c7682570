"""Bad input, the rows about tensors, labels, models and the machine: see test_bad_input_tables.py.

Not here: the class that evaluate does not know (35, an error until it is counted as wrong) and the
estimate of memory before a fit (61).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.data import Batch, Data

from graphfm.errors import DataError, GraphFMError
from graphfm.estimator import GraphFMClassifier
from graphfm.graphs.convert import from_pyg
from graphfm.graphs.features import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.nn.attention import packed_attention
from graphfm.sampling.neighbors import row_keys, sample_neighbors
from tests.bad_input import Case, Row, rows_of
from tests.graphs import small_model, synthetic, three_graphs

ROOT = Path(__file__).resolve().parents[1]


def refused(code: str, *words: str, call: Any) -> GraphFMError:
    with pytest.raises(GraphFMError) as caught:
        call()
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in str(caught.value), caught.value
    return caught.value


def estimator() -> GraphFMClassifier:
    return GraphFMClassifier(small_model(three_graphs()), tune="probe")


def made(edges: Any, num_nodes: int) -> Graph:
    return Graph.from_edges(np.array(edges), num_nodes=num_nodes)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with edges.csv and nodes.csv, and the model that the command fitted to it."""
    folder = tmp_path_factory.mktemp("project")
    graph = synthetic("mine", num_nodes=60, seed=3)
    (folder / "data").mkdir()
    source, target = graph.edge_index.tolist()
    lines = [f"n{a},n{b}" for a, b in zip(source, target, strict=True)]
    (folder / "data" / "edges.csv").write_text("\n".join(["source,target", *lines]))
    side = np.random.default_rng(0).choice(["north", "south"], 60)
    rows = [
        f"n{i},{graph.x[i, 0]:.4f},{graph.x[i, 1]:.4f},{side[i]},{graph.class_names[graph.y[i]]}"
        for i in range(60)
    ]
    (folder / "data" / "nodes.csv").write_text("\n".join(["id,size,age,side,label", *rows]))
    case = Case(folder, _NoLog())  # type: ignore[arg-type]
    case.run("finetune", "--graph", folder / "data", "--target", "label", "--tune", "probe",
             "--out", folder / "model")  # fmt: skip
    return folder


class _NoLog:
    def set_level(self, level: int) -> None:
        pass


def row_07_edge_beyond_the_nodes(case: Case) -> None:
    refused("GFM113", "num_nodes=3", "7 -> 1", call=lambda: made([[0, 7], [1, 1]], 3))


def row_08_negative_node(case: Case) -> None:
    refused("GFM114", "0 -> -1", call=lambda: made([[0, 1], [-1, 2]], 3))


def row_09_edge_index_on_its_side(case: Case) -> None:
    refused(
        "GFM115", "transposed", "edge_index.t()", call=lambda: made([[0, 1], [1, 2], [2, 0]], 3)
    )


def row_10_edge_index_of_fractions(case: Case) -> None:
    """Seen to fail with .long(), which made 0.5 a 0."""
    data = Data(edge_index=torch.tensor([[0.0], [1.0]]), num_nodes=2)
    assert from_pyg(data).edge_index.tolist() == [[0], [1]]
    case.said("edge_index holds torch.float32")
    for bad in (0.5, float("nan"), float("inf")):
        data = Data(edge_index=torch.tensor([[bad], [1.0]]), num_nodes=2)
        with pytest.raises(DataError, match="GFM11[45]"):
            from_pyg(data)


def row_19_one_node(case: Case) -> None:
    one = Graph.from_edges(
        np.empty((2, 0), dtype=np.int64), num_nodes=1, x=torch.rand(1, 6), y=torch.tensor([0]),
        class_names=("a",),
    )  # fmt: skip
    refused("GFM131", "at least 2 labelled", call=lambda: estimator().fit(one))
    fitted = estimator().fit(synthetic("many"))
    assert np.isfinite(fitted.predict_proba(one)).all()


def row_21_a_hub(case: Case) -> None:
    """A million neighbors: 16 are read, always the same, all of them real."""
    n = 1_000_001
    hub = Graph.from_edges(np.stack([np.zeros(n - 1, dtype=np.int64), np.arange(1, n)]),
                           num_nodes=n, directed=False)  # fmt: skip
    rowptr, col = hub.neighbors
    nodes = torch.tensor([0, 5])
    key = row_keys(nodes, torch.zeros(2, dtype=torch.int64), seed=0, epoch=0)
    found, mask = sample_neighbors(rowptr, col, nodes, key, 16)
    assert mask.sum(dim=1).tolist() == [16, 1] and len(found[0].unique()) == 16
    assert torch.equal(found, sample_neighbors(rowptr, col, nodes, key, 16)[0])


@pytest.mark.parametrize("width", [1, 7, 10_000])
def test_27_any_number_of_features(width: int) -> None:
    graph = synthetic("wide", num_nodes=60, num_features=6)
    x = np.random.default_rng(0).normal(size=(60, width)).astype(np.float32)
    fitted = estimator().fit(graph.replace(x=torch.from_numpy(x)))
    assert np.isfinite(fitted.predict_proba()).all()


def row_28_a_million_sparse_columns(case: Case) -> None:
    """40 rows; dense this would be 160 MB, its covariance 8 TB."""
    rng = np.random.default_rng(0)
    rows, columns = np.repeat(np.arange(40), 30), rng.integers(10**6, size=1200)
    x = sparse.coo_array((np.ones(1200, np.float32), (rows, columns)), shape=(40, 10**6)).tocsr()
    out = FeatureTransform.fit(x).apply(x)
    assert out.shape[0] == 40 and out.shape[1] <= 40 and out.isfinite().all()


def row_30_no_labels(case: Case) -> None:
    """Embedding a graph whose labels are all missing works; learning from it does not."""
    graph = synthetic("bare")
    refused("GFM131", call=lambda: estimator().fit(graph.replace(y=None, class_names=())))
    refused("GFM131", call=lambda: estimator().fit(graph.replace(y=torch.full((120,), -1))))
    fitted = estimator().fit(graph)
    bare = graph.replace(y=None, class_names=())
    assert np.array_equal(fitted.predict_proba(bare), fitted.predict_proba(graph))


def row_32_one_class(case: Case) -> None:
    graph = synthetic("one")
    refused("GFM132", call=lambda: estimator().fit(graph.replace(y=torch.zeros_like(graph.y))))


def row_33_a_class_of_one_member(case: Case) -> None:
    """It is put into train, and a class without members breaks nothing."""
    graph = synthetic("rare")
    y = graph.y.clamp(max=1)
    y[7] = 2
    split = with_split(graph.replace(y=y), seed=0)
    assert split.train_mask[7]
    assert estimator().fit(split).predict_proba().shape == (120, 3)
    masks = split.replace(train_mask=split.train_mask & (y != 2))
    assert estimator().fit(masks).predict_proba().shape == (120, 3)


def row_35_a_class_the_model_does_not_know(case: Case) -> None:
    """The estimator counts it as wrong."""
    graph = synthetic("new")
    fitted = estimator().fit(graph)
    y = graph.y.clone()
    y[:60] = 3
    known = fitted.score(graph, torch.arange(120) >= 60)
    other = graph.replace(y=y, class_names=(*graph.class_names, "new"))
    assert fitted.score(other) == pytest.approx(known / 2)


def row_37_empty_masks(case: Case) -> None:
    graph = synthetic("empty")
    none = torch.zeros(120, dtype=torch.bool)
    refused("GFM131", call=lambda: estimator().fit(graph, train_mask=none))
    fitted = estimator().fit(graph, train_mask=~none, val_mask=none)
    assert fitted.val_score_ is None
    refused("GFM133", call=lambda: fitted.score(graph, none))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_41_batched_graphs_without_features_stay_aligned(sizes: list[int], seed: int) -> None:
    """Isolated nodes at the end of each graph count. Seen to fail with num_nodes = max + 1."""
    rng = np.random.default_rng(seed)
    parts = []
    for size in sizes:
        edges = torch.from_numpy(rng.integers(max(size - 1, 1), size=(2, 3)))
        parts.append(Data(edge_index=edges, num_nodes=size, y=torch.arange(size)))
    graph = from_pyg(Batch.from_data_list(parts))
    assert graph.num_nodes == sum(sizes)
    start = np.cumsum([0, *sizes])
    pairs = {(int(a + s), int(b + s)) for p, s in zip(parts, start, strict=False)
             for a, b in p.edge_index.t().tolist()}  # fmt: skip
    found = {tuple(pair) for pair in graph.edge_index.t().tolist()}
    assert pairs <= found


def row_42_small_integers_do_not_overflow(case: Case) -> None:
    """Codes of 32 bits times N would: 3e9 > 2^31. Seen to fail with int32 keys."""
    graph = Graph.from_edges(np.array([[0, 70_000], [70_000, 0]], dtype=np.int32), num_nodes=70_001)
    assert graph.rowptr.dtype == graph.col.dtype == torch.int64
    lines = [f"{i},{i + 1},1" for i in range(70_000)]
    case.read("\n".join(["source,target,weight", *lines, "0,1,2"]))
    case.said("1 differ from those of the same edge")


def row_53_a_damaged_checkpoint(case: Case) -> None:
    from graphfm.checkpoint import load_model, save_checkpoint

    save_checkpoint(case.folder / "model", small_model(three_graphs()), meta={"name": "x"})
    weights = next((case.folder / "model").rglob("model.safetensors"))
    content = bytearray(weights.read_bytes())
    for change in (content[:-10], bytes([*content[:-1], content[-1] ^ 1])):
        weights.write_bytes(bytes(change))
        error = refused(
            "GFM302", "model.safetensors", call=lambda: load_model(case.folder / "model")
        )
        assert error.exit_code == 5


def row_54_a_checkpoint_of_another_config(case: Case) -> None:
    from graphfm.checkpoint import load_model, save_checkpoint

    folder = case.folder / "model"
    save_checkpoint(folder, small_model(three_graphs()), meta={"name": "x"})
    config = next(folder.rglob("config.json"))
    config.write_text(config.read_text().replace('"dim": 32', '"dim": 64'))
    with pytest.raises(GraphFMError) as caught:
        load_model(folder)
    assert caught.value.exit_code == 5 and len(str(caught.value).splitlines()) <= 6


@pytest.mark.parametrize("change", ["train.lrr=1", "train.steps=soon", "nonsense=1"])
def test_55_recipes(change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = Case(tmp_path, caplog).run("pretrain", "demo", change, "--dry-run", exit_code=4)
    assert change.split("=")[0] in done.stderr


def row_55_a_recipe_file(case: Case) -> None:
    path = case.write("r.yaml", "extends: demo\ntrain:\n  stepps: 3\n")
    done = case.run("recipes", "validate", path, exit_code=4)
    assert "stepps" in done.stderr and "steps" in done.stderr


def row_56_paths(case: Case) -> None:
    """Seen to fail with a name that begins with a dash, before `--graph=` was used."""
    case.write("-x ü.csv", "source,target\na,b\n")
    stats = case.run("datasets", "stats", "--", case.folder / "-x ü.csv")
    assert "x\n" in stats.stdout
    assert "GFM105" in case.run("datasets", "stats", case.folder, exit_code=3).stderr
    assert "GFM103" in case.run("datasets", "stats", case.folder / "gone.csv", exit_code=3).stderr
    if os.geteuid():
        secret = case.write("secret.csv", "source,target\na,b\n")
        secret.chmod(0)
        case.run("datasets", "stats", secret, exit_code=8)


def test_57_a_folder_that_holds_something(project: Path) -> None:
    case = Case(project, _NoLog())  # type: ignore[arg-type]
    case.run("finetune", "--graph", project / "data", "--target", "label", "--tune", "probe",
             "--out", project / "data", exit_code=8)  # fmt: skip
    assert (project / "data" / "edges.csv").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_58_no_cuda_here(project: Path, tmp_path: Path) -> None:
    case = Case(project, _NoLog())  # type: ignore[arg-type]
    done = case.run("finetune", "--graph", project / "data", "--target", "label", "--device",
                    "cuda", "--tune", "probe", "--out", tmp_path / "m", exit_code=4)  # fmt: skip
    assert "--device cpu" in done.stderr


def row_59_two_processes_and_one_cache(case: Case) -> None:
    """Both read the same file into one fresh cache; both give the same answer."""
    case.read("source,target\na,b\nb,c\n", "id,s\na,1\nb,2\nc,5\n")
    code = (
        "import sys; from pathlib import Path; from graphfm.graphs.files import *;"
        "from graphfm.graphs.prepare import prepare;"
        "g = read_file(Path(sys.argv[1]), ReadOptions(nodes=Path(sys.argv[2]))).graph;"
        "print(float(prepare(g).pe.abs().sum()))"
    )
    environment = {**os.environ, "GRAPHFM_HOME": str(case.folder / "home"), "PYTHONPATH": str(ROOT)}
    files = [str(case.folder / name) for name in ("edges.csv", "nodes.csv")]
    both = [
        subprocess.Popen([sys.executable, "-c", code, *files], env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0] != ""


def row_60_a_closed_pipe_and_a_plain_terminal(case: Case) -> None:
    case.write("edges.csv", "source,target\na,b\n")
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "graphfm", "datasets", "stats", str(case.folder / "edges.csv")]
    done = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, env=environment, check=False
    )
    os.close(write)
    assert done.returncode in (0, 141) and b"Traceback" not in done.stderr
    done = subprocess.run([*command[:-1], str(case.folder / "gone.csv")], capture_output=True,
                          env=environment, check=False)  # fmt: skip
    assert done.returncode == 3 and done.stderr.decode("cp1252").startswith("x GFM103")


def row_62_a_graph_without_a_token(case: Case) -> None:
    """Queries without keys give zeros and no NaN, and so do their gradients."""
    q = torch.randn(3, 2, 4, requires_grad=True)
    k = torch.randn(2, 2, 4, requires_grad=True)
    out = packed_attention(q, k, k, [0, 2, 3], [0, 2, 2])
    out.sum().backward()
    assert (out[2] == 0).all() and q.grad.isfinite().all() and k.grad.isfinite().all()


def test_a_new_graph_of_the_same_columns_is_encoded_as_the_first(
    project: Path, tmp_path: Path
) -> None:
    """Other rows and other means: a node keeps its features. Seen to fail with a plan made anew."""
    case = Case(tmp_path, _NoLog())  # type: ignore[arg-type]
    lines = (project / "data" / "nodes.csv").read_text().splitlines()
    (tmp_path / "new").mkdir()
    half = [lines[0] + ",extra", *(line + ",9" for line in lines[1:31])]
    half[3] = half[3].replace("north", "west").replace("south", "west")
    (tmp_path / "new" / "nodes.csv").write_text("\n".join(half))
    edges = (project / "data" / "edges.csv").read_text()
    (tmp_path / "new" / "edges.csv").write_text(edges)
    asked = ("--model", project / "model", "--graph", tmp_path / "new", "--unknown-nodes", "drop")
    done = case.run("predict", *asked, "--out", tmp_path / "p.csv", "--json")
    assert json.loads(done.stdout)["num_nodes"] == 30
    assert "1 of 30 values of 'side' are new" in done.stderr
    assert "1 columns that the model was not fitted to are not read: extra" in done.stderr
    ids = [line.split(",")[0] for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    assert ids == [line.split(",")[0] for line in half[1:]]
    (tmp_path / "new" / "nodes.csv").write_text("\n".join(line.rsplit(",", 3)[0] for line in half))
    done = case.run("predict", *asked, "--out", tmp_path / "q.csv", exit_code=3)
    assert "GFM130" in done.stderr and "side" in done.stderr


@pytest.mark.parametrize("row", rows_of(globals()))
def test_bad_input(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row(Case(tmp_path, caplog))
