"""Record hashes of what graphfm computes, to show that a refactoring keeps its answers.

    python tools/same_answers.py record before.json     # in a checkout of the version before
    python tools/same_answers.py record after.json      # in a checkout of the version after
    python tools/same_answers.py compare before.json after.json

Only the command line and public names are used, so that the script runs on both. One thread: with
more, sums depend on how the work is divided. Graphs come from the folder ``GRAPHFM_DATA``; the
twelve below are small, with and without features, of two to many classes. Takes 5 to 10 minutes.
Seconds, memory, dates, paths, versions and commits are left out of what is compared.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GRAPHS = ("webkb-cornell", "webkb-texas", "planetoid-cora", "nba", "polblogs", "tu-mutag",
          "petster-hamster", "hospital-rfid", "football-ncaa", "physicians-peoria",
          "game-of-thrones", "karate")  # fmt: skip
# What differs between two runs of the same code, or is a fact of the machine.
VARIES = re.compile(
    r"second|time|date|began|ended|commit|version|folder|path|command|memory|gib|per_s|host|machine"
    r"|cpu|thread|python|torch|device|cost|speed|rate$|^out$|^run$|dirty|free|resident|disk|eta"
)


def main() -> None:
    """Record or compare."""
    if sys.argv[1] == "record":
        Path(sys.argv[2]).write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
        return
    before, after = (json.loads(Path(p).read_text(encoding="utf-8")) for p in sys.argv[2:4])
    differ = [n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n)]
    for name in differ:
        print(f"{name}\n  before {before.get(name)}\n  after  {after.get(name)}")
    print(f"{len(before)} recorded, {len(differ)} differ")
    sys.exit(bool(differ))


def record() -> dict[str, Any]:
    """Everything, by name."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _pretrain(found, work)
        for graph in GRAPHS:
            for depth in ("probe", "decoder"):
                _fit(found, work, graph, depth)
        _commands(found, work)
    return found


def graphfm(work: Path, *words: object) -> str:
    """Standard output of a command; what it wrote to standard error where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRAPHFM_HOME": str(work / "home")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "graphfm", *map(str, words)],
        capture_output=True, text=True, cwd=work, env=environment, check=False,
    )  # fmt: skip
    print("graphfm", *words, "->", done.returncode, file=sys.stderr)
    return done.stdout if done.returncode == 0 else f"exit {done.returncode}\n{done.stderr}"


def _pretrain(found: dict[str, Any], work: Path) -> None:
    run = work / "pretrained"
    graphfm(work, "pretrain", "demo", "train.steps=60", "train.max_time=1h", "--out", run)
    latest = (run / "LATEST").read_text().strip()
    found["weights of pretrain demo"] = digest(run / latest / "model.safetensors")
    found["losses of pretrain demo"] = hashed(
        [
            {k: v for k, v in row.items() if "loss" in k}
            for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        ]
    )


def _fit(found: dict[str, Any], work: Path, graph: str, depth: str) -> None:
    out = work / f"{graph}-{depth}"
    name = f"{depth} on {graph}"
    text = graphfm(work, "finetune", "--graph", graph, "--tune", depth, "--out", out, "--json")
    found[f"facts of {name}"] = hashed(text)
    table = work / f"{out.name}.csv"
    graphfm(work, "predict", "--model", out, "--graph", graph, "--out", table)
    found[f"predictions of {name}"] = digest(table)


def _commands(found: dict[str, Any], work: Path) -> None:
    (work / "grid").mkdir()
    with tarfile.open(ROOT / "docs/results/evaluation-15.receipts.tar.xz") as archive:
        archive.extractall(work / "benchmark", filter="data")
    graphfm(work, "datasets", "prepare", "webkb-texas")
    _tables(work)
    runs = ROOT / "docs/results/local-grid.csv"
    fitted = work / "webkb-texas-probe"
    own = ("--graph", "edges.csv", "--nodes", "nodes.csv")
    tables = ("edges.csv", "--nodes", "nodes.csv", "--target", "label")
    one = ("--model", fitted, "--graph", "webkb-texas")
    law = ("--fit", "law.json")
    commands: dict[str, tuple[object, ...]] = {
        "benchmark table": ("benchmark", "evaluation-15", "--report-only", "--out", "benchmark"),
        "scaling fit": ("scaling", "fit", runs, "--law", "auto", "--out", "law.json"),
        "scaling predict": ("scaling", "predict", *law, "--params", "1e6", "--targets", "1e7"),
        "scaling optimal": ("scaling", "optimal", *law, "--flops", "1e15"),
        "datasets list": ("datasets", "list"),
        "datasets show": ("datasets", "show", "webkb-texas"),
        "datasets stats": ("datasets", "stats", "webkb-texas"),
        "datasets stats of a table": ("datasets", "stats", *tables),
        "datasets audit": ("datasets", "audit", "edges.csv"),
        "recipes list": ("recipes", "list"),
        "recipes show": ("recipes", "show", "graphfm-small"),
        "inspect": ("inspect", fitted),
        "evaluate": ("evaluate", *one),
        "predict": ("predict", *one, "--out", "p.csv", "--coverage", "0.9"),
        "embed": ("embed", *one, "--out", "e.npz"),
        "report": ("report", fitted, "--out", "report.html"),
        "finetune of tables": ("finetune", *own, "--target", "label", "--out", "own"),
        "evaluate of tables": ("evaluate", "--model", "own", *own),
        "finetune of numbers": ("finetune", *own, "--target", "size", "--tune", "probe",
                                "--out", "numbers"),
        "evaluate of numbers": ("evaluate", "--model", "numbers", *own),
        "auto": ("finetune", "--graph", "webkb-cornell", "--out", "auto"),
    }  # fmt: skip
    for name, words in commands.items():
        found[f"{name} --json"] = hashed(graphfm(work, *words, "--json"))
    for file in ("p.csv", "e.npz"):
        found[file] = digest(work / file)
    found["explain GFM112"] = bool(graphfm(work, "explain", "GFM112"))


def _tables(work: Path) -> None:
    """Two tables of a graph of one's own: words, numbers, gaps, text ids, two targets."""
    with open(work / "nodes.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "color", "weight", "age", "label", "size"])
        for i in range(240):
            color = ("red", "green", "blue", "")[i % 4]
            label = ("yes", "no")[(i // 60 + i % 3) % 2] if i % 5 else ""
            age = (i * 7) % 31 if i % 9 else ""
            rows.writerow([f"n{i}", color, i % 17 / 4, age, label, (i % 11) * 0.5 + i / 100])
    with open(work / "edges.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["source", "target"])
        for i in range(240):
            rows.writerows([f"n{i}", f"n{(i * k + k) % 240}"] for k in (1, 5, 13))


def hashed(content: Any) -> str:
    """Hash of JSON (or of text that holds it) without what varies; of other text as it is."""
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except ValueError:
            lines = [json.loads(x) for x in content.splitlines()] if content[:1] == "{" else content
            content = lines
    text = json.dumps(_lasting(content), sort_keys=True)
    if folder := os.environ.get("SAME_ANSWERS_KEEP"):  # to see what differs
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        Path(folder, f"{name}.json").write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _lasting(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _lasting(v) for k, v in content.items() if not VARIES.search(k.lower())}
    if isinstance(content, list):
        return [_lasting(each) for each in content]
    return content


def digest(path: Path) -> str:
    """Hash of a file; an archive's members only, since zip files carry dates."""
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            parts = [name.encode() + arrays[name].tobytes() for name in sorted(arrays)]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


if __name__ == "__main__":
    main()
