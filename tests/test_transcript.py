"""Session of a new user: every command, in a new folder, with the network blocked."""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet

ROOT = Path(__file__).resolve().parents[1]

# Python imports this first; an attempt to use the network then raises an error.
NO_NETWORK = """
import socket


def refuse(*args, **kwargs):
    raise RuntimeError("a newcomer has no network: " + repr(args[1:])[:80])


socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""


class Session:
    """Commands run one after the other in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "blocked").mkdir()
        (folder / "blocked" / "sitecustomize.py").write_text(NO_NETWORK)
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder / "blocked"), str(ROOT)]),
            "GRAPHFM_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
        }
        self.env.pop("GRAPHFM_DATA", None)  # a new user has no such folder
        self.next = ""

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        program, *words = shlex.split(command)
        assert program == "graphfm"
        done = subprocess.run(
            [sys.executable, "-m", "graphfm", *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        steps = [line for line in done.stderr.splitlines() if line.startswith("Next: ")]
        assert len(steps) == 1, f"{command} does not print the next step:\n{done.stderr}"
        self.next = steps[0].removeprefix("Next: ")
        return done


def test_the_network_is_really_blocked(tmp_path):
    session = Session(tmp_path)
    ask = "import urllib.request as u; u.urlopen('https://example.org')"
    done = subprocess.run([sys.executable, "-c", ask], env=session.env, capture_output=True)
    assert b"a newcomer has no network" in done.stderr


def test_the_session_of_a_newcomer(tmp_path):
    """Run doctor, demo, and then the next step of each command; then the remaining commands.

    About 50 s on two free cores. Every command must print one next step, and it must work.
    """
    session = Session(tmp_path)
    assert "torch" in session.run("graphfm doctor").stdout
    assert session.next == "graphfm demo"
    session.run(session.next)
    demo = tmp_path / "graphfm-demo"
    with (demo / "nodes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1797

    assert session.next == "graphfm datasets stats graphfm-demo --target label"
    facts = session.run(session.next).stdout
    assert "1,797" in facts and "classes" in facts

    fit = session.next
    assert fit.startswith("graphfm finetune --graph graphfm-demo --target label")
    fit += " --from graphfm-demo/pretrained --split 0.1/0.1/0.8"
    session.run(f"{fit} --dry-run")
    assert not (tmp_path / "runs").exists()
    table = session.run(fit).stdout
    for name in ("graphfm", "majority", "logistic", "label propagation"):
        assert name in table.lower().replace("-", " ")

    assert session.next.startswith("graphfm predict --out preds.csv --model runs/")
    session.run(f"{session.next} --proba")
    with (tmp_path / "preds.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == 1797

    evaluate = session.next
    assert evaluate.startswith("graphfm evaluate --model runs/")
    scores = json.loads(session.run(f"{evaluate} --json").stdout)
    assert scores["accuracy"] > 0.9 and 1430 < scores["num_nodes"] < 1445
    assert str(round(100 * scores["accuracy"], 1)) in table or f"{scores['accuracy']:.3f}" in table

    model = shlex.split(evaluate)[shlex.split(evaluate).index("--model") + 1]
    session.run(f"graphfm embed --model {model} --graph graphfm-demo --out emb.parquet")
    embedding = pyarrow.parquet.read_table(tmp_path / "emb.parquet")
    assert embedding.num_rows == 1797 and embedding.column_names[0] in ("id", "node_id")
    session.run(f"graphfm report {model} --out report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and 'src="http' not in page
    session.run(f"graphfm inspect {model}")
