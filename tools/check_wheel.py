"""Check that the wheel fits a graph in an empty environment without a network.

    python tools/check_wheel.py            # minutes: installs torch and the other dependencies
    python tools/check_wheel.py --keep /tmp/check   # keep the environment for the next time

Builds the wheel and installs it with the tested versions of its dependencies into a new virtual
environment. There, with all sockets blocked and an empty cache, it runs
``GraphFMClassifier().fit(karate).predict_proba()``. Prints JSON. Fails if this takes longer than
``--limit`` seconds, if it is not a probability, if it asks for the network, or if the wheel has
weights that were not used.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 30.0  # seconds, with imports

# Program for the new environment. The time begins before the first import.
FIT = """
import json, logging, socket, time
began = time.perf_counter()
asked = []

class Refused(socket.socket):
    def connect(self, address):
        asked.append(str(address))
        raise OSError("the network is blocked")
    connect_ex = connect

socket.socket = Refused

def refused(*args, **kwargs):
    asked.append(str(args[:2]))
    raise OSError("the network is blocked")

socket.create_connection = socket.getaddrinfo = refused
logging.basicConfig(level=logging.WARNING)
import networkx as nx
import graphfm
graph = nx.karate_club_graph()
imported = time.perf_counter() - began
model = graphfm.GraphFMClassifier().fit(graph, target="club")
proba = model.predict_proba()
assert proba.shape == (34, 2) and abs(proba.sum(axis=1) - 1).max() < 1e-6, proba
truth = [graph.nodes[v]["club"] for v in graph]
print(json.dumps({
    "graphfm": graphfm.__version__, "file": graphfm.__file__, "weights": model.weights_,
    "accuracy_on_all_nodes": float((model.predict() == truth).mean()),
    "import_seconds": round(imported, 2), "seconds": round(time.perf_counter() - began, 2),
    "sockets": asked,
}))
"""


def main(argv: list[str] | None = None) -> int:
    """Build, install and run; return 0 if all checks pass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--keep", type=Path, help="folder of the environment; default: a temporary one"
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="time limit in seconds")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build(Path(scratch) / "wheel")
        inside = {"wheel": wheel.name, "wheel_bytes": wheel.stat().st_size, **weights_in(wheel)}
        python = install(wheel, args.keep or Path(scratch) / "env")
        found = fit(python, Path(scratch) / "empty")
    report = {**inside, **found}
    wrong = faults(report, args.limit)
    print(json.dumps({**report, "faults": wrong}, indent=1))
    return 1 if wrong else 0


def build(folder: Path) -> Path:
    """Build the wheel of this checkout; return its path."""
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT))
    (wheel,) = folder.glob("graphfm-*.whl")
    return wheel


def weights_in(wheel: Path) -> dict[str, Any]:
    """Return the number and the size of the weight files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        files = [i for i in archive.infolist() if i.filename.startswith("graphfm/weights/")]
    return {"weight_files": len(files), "weight_bytes": sum(i.file_size for i in files)}


def install(wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel and its dependencies only; return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    constraints = str(ROOT / "constraints.txt")
    # torch first and as a wheel, as in tools/environment: pip then looks at no other release.
    _run(*pip, "--only-binary", "torch", "-c", constraints, "torch==2.13.0")
    _run(*pip, "-c", constraints, str(wheel))
    _run(
        *pip, "--force-reinstall", "--no-deps", str(wheel)
    )  # a kept environment has an older build
    return python


def fit(python: Path, empty: Path) -> dict[str, Any]:
    """Run the program outside the checkout with an empty home folder; return what it prints."""
    empty.mkdir(parents=True)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(empty),
        "GRAPHFM_HOME": str(empty / "cache"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    done = subprocess.run(
        [str(python), "-I", "-c", FIT],
        cwd=empty, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise SystemExit("the fit failed, see above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def faults(report: dict[str, Any], limit: float) -> list[str]:
    """Return the checks that failed, as sentences."""
    wrong = []
    if report["seconds"] >= limit:
        wrong.append(f"it took {report['seconds']} s, more than {limit}")
    if report["sockets"]:
        wrong.append(f"it asked the network for {report['sockets'][:3]}")
    if Path(report["file"]).is_relative_to(ROOT):
        wrong.append("it ran the checkout, not the wheel")
    if report["weight_files"] and report["weights"] != "graphfm-small":
        wrong.append(f"the wheel has weights, but the fit began with {report['weights']}")
    return wrong


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    sys.exit(main())
