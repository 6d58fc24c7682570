"""Bad input: checkpoints, recipes and the machine; see also test_bad_input_tables.py."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from graphfm.checkpoint.folder import save_checkpoint
from graphfm.model.graphfm import GraphFM
from graphfm.storage import cache_lock
from tests.bad_input import Case, NoLog, Row, make_project, refused, rows_of
from tests.graphs import small_model, three_graphs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


def row_53_a_damaged_checkpoint(case: Case) -> None:
    save_checkpoint(case.folder / "model", small_model(three_graphs()), meta={"name": "x"})
    weights = next((case.folder / "model").rglob("model.safetensors"))
    content = bytearray(weights.read_bytes())
    for change in (content[:-10], bytes([*content[:-1], content[-1] ^ 1])):
        weights.write_bytes(bytes(change))
        error = refused(
            "GFM302",
            "model.safetensors",
            call=lambda: GraphFM.from_checkpoint(case.folder / "model"),
        )
        assert error.exit_code == 5


def row_54_a_checkpoint_of_another_config(case: Case) -> None:
    """A changed file, and two intact files of different checkpoints: at most five lines of error.

    Seen to fail with torch's own message.
    """
    folder, other = case.folder / "model", case.folder / "other"
    graphs = three_graphs()
    save_checkpoint(folder, small_model(graphs), meta={"name": "x"})
    save_checkpoint(other, small_model(graphs, dim=48), meta={"name": "x"})
    config = folder / "config.json"
    before = config.read_text()
    config.write_text(before.replace('"dim": 32', '"dim": 64'))
    error = refused("GFM302", "config.json", call=lambda: GraphFM.from_checkpoint(folder))
    assert error.exit_code == 5 and len(str(error).splitlines()) <= 6
    config.write_text((other / "config.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    stranger = json.loads((other / "manifest.json").read_text())
    manifest["config.json"] = stranger["config.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    error = refused("GFM304", "(48,)", "(32,)", call=lambda: GraphFM.from_checkpoint(folder))
    assert error.exit_code == 5 and error.why.count("config.json expects") == 4
    assert len(error.why.splitlines()) == 5 and "and " in error.why.splitlines()[-1]


@pytest.mark.parametrize("change", ["train.lrr=1", "train.steps=soon", "nonsense=1"])
def test_55_recipes(change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = Case(tmp_path, caplog).run("pretrain", "demo", change, "--dry-run", exit_code=4)
    assert change.split("=")[0] in done.stderr


def row_55_a_recipe_file(case: Case) -> None:
    path = case.write("r.yaml", "extends: demo\ntrain:\n  stepps: 3\n")
    done = case.run("recipes", "validate", path, exit_code=4)
    assert "train.stepps" in done.stderr and "Did you mean 'steps'" in done.stderr
    assert "line 3" in done.stderr
    for text, place in (
        ("extends: demo\ntrain:\n  precision: no\n", "line 3, train.precision"),
        ("extends: demo\ndata:\n  mixture: demo\n  exclude:\n    - no\n", "line 5"),
        ("extends: demo\ntrain:\n  steps: a few\n", "line 3, train.steps"),
        ("extends: demo\n a: [\n", "line 2"),
    ):
        path = case.write("r.yaml", text)
        assert place in case.run("recipes", "show", path, exit_code=4).stderr
    path = case.write("r.yaml", "extends: demo\ntrain:\n  lr: 1e-3\n")  # text, to YAML 1.1
    assert json.loads(case.run("recipes", "show", path, "--json").stdout)["train"]["lr"] == 1e-3


def row_56_paths(case: Case) -> None:
    """Seen to fail with a name that begins with a dash without `--graph=`."""
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
    case = Case(project, NoLog())  # type: ignore[arg-type]
    case.run("finetune", "--graph", project / "data", "--target", "label", "--tune", "probe",
             "--out", project / "data", exit_code=8)  # fmt: skip
    assert (project / "data" / "edges.csv").is_file()
    done = case.run("finetune", "--graph", project / "data", "--target", "label", "--tune", "probe",
                    "--out", project / "data", "--overwrite", exit_code=8)  # fmt: skip
    assert "GFM402" in done.stderr and (project / "data" / "edges.csv").is_file()
    done = case.run("predict", "--model", project / "model", "--graph", project / "data",
                    "--out", project / "data" / "edges.csv", exit_code=8)  # fmt: skip
    assert "--overwrite" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_58_no_cuda_here(project: Path, tmp_path: Path) -> None:
    case = Case(project, NoLog())  # type: ignore[arg-type]
    done = case.run("finetune", "--graph", project / "data", "--target", "label", "--device",
                    "cuda", "--tune", "probe", "--out", tmp_path / "m", exit_code=4)  # fmt: skip
    assert "--device cpu" in done.stderr


def row_59_two_processes_and_one_cache(case: Case) -> None:
    """Both read the same file into one empty cache; both print the same result."""
    case.read("source,target\na,b\nb,c\n", "id,s\na,1\nb,2\nc,5\n")
    code = (
        "import sys; from pathlib import Path; from graphfm.graphs.readers.files import *;"
        "from graphfm.graphs.features.prepare import prepare;"
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
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""


def test_59_two_processes_and_one_folder(project: Path, tmp_path: Path) -> None:
    """The error of the second names the first. Seen to fail without the lock: both wrote."""
    out = tmp_path / "m"
    code = (
        "import sys; from pathlib import Path; from graphfm.cli.output import folder_for_one\n"
        "with folder_for_one(Path(sys.argv[1])):\n    print('mine', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code, str(out)], env=environment, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:  # fmt: skip
        assert first.stdout is not None and first.stdout.readline() == "mine\n"
        case = Case(project, NoLog())  # type: ignore[arg-type]
        asked = ("finetune", "--graph", project / "data", "--target", "label", "--tune", "probe")
        done = case.run(*asked, "--out", out, exit_code=8)
        assert "GFM802" in done.stderr and f"process {first.pid} on " in done.stderr
        assert not (out / "model.safetensors").exists()
        first.kill()  # a killed process holds nothing
    case.run(*asked, "--out", out)


def row_59_waiting_names_the_other_process(case: Case) -> None:
    with cache_lock("key", wait=True, what="graph"):
        waiting = threading.Thread(target=cache_lock("key", wait=True, what="graph").__enter__)
        waiting.start()
        line = f"graph: waiting for process {os.getpid()} on "
        while waiting.is_alive() and line not in case.log.text:
            time.sleep(0.01)
        assert waiting.is_alive()
    waiting.join(timeout=600)
    assert not waiting.is_alive()


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
    for line in ("{} >&-", "{} 2>&-", "TERM=dumb {}"):
        text = line.format(shlex.join(command))
        done = subprocess.run(["sh", "-c", text], capture_output=True, env=environment, check=False)
        assert done.returncode == 0 and b"Traceback" not in done.stderr, (line, done)
        assert b"\x1b" not in done.stdout + done.stderr, line


def test_a_new_graph_of_the_same_columns_is_encoded_as_the_first(
    project: Path, tmp_path: Path
) -> None:
    """With other rows and means, a node keeps its features. Seen to fail with a new encoding."""
    case = Case(tmp_path, NoLog())  # type: ignore[arg-type]
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
    assert "1 of 30 values of 'side' were not seen at the fit" in done.stderr
    assert "1 columns that the model was not fitted to are not read: extra" in done.stderr
    ids = [line.split(",")[0] for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    assert ids == [line.split(",")[0] for line in half[1:]]
    (tmp_path / "new" / "nodes.csv").write_text("\n".join(line.rsplit(",", 3)[0] for line in half))
    done = case.run("predict", *asked, "--out", tmp_path / "q.csv", exit_code=3)
    assert "GFM130" in done.stderr and "side" in done.stderr


@pytest.mark.parametrize("row", rows_of(globals()))
def test_bad_input(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row(Case(tmp_path, caplog))
