"""A table too large for a notebook: read it, fit the probe, predict; seconds and memory of each.

A synthetic edge list and node table are written once (streamed, a million rows at a time) and then
read by a process of its own, which says of every phase how long it took and how much memory it had
at its peak (Linux, VmHWM, set back before each phase; pages of the cache that are mapped count).

    python tools/bench_big_table.py --nodes 1_000_000 --edges 5_000_000 --folder /tmp/big
    python tools/bench_big_table.py --nodes 10_000_000 --edges 50_000_000 --folder /tmp/big --keep
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 1_000_000  # rows that are made at once
NUM_CLASSES = 8
SAME_CLASS = 0.7  # of the edges
LABELLED = 0.5  # of the nodes
GIB = 2**30


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables, measure in a process of its own, print."""
    args = parse(argv)
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    if args.worker:
        work(Path(args.folder), args.threads)
        return 0
    import bench

    folder = Path(args.folder or tempfile.mkdtemp(prefix="graphfm-big-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if not (folder / "edges.csv").is_file():
        write_tables(folder, args.nodes, args.edges, args.features)
    size = sum((folder / name).stat().st_size for name in ("edges.csv", "nodes.csv"))
    print(f"{args.nodes:,} nodes, {args.edges:,} edges, {size / 1e9:.2f} GB of CSV, written in "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)  # nothing prepared yet
    command = [sys.executable, __file__, "--worker", "--folder", str(folder)]
    command += ["--threads", str(args.threads)]
    environment = {**os.environ, "GRAPHFM_HOME": str(home)}
    rows = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            print(line, end="", flush=True)
            rows.append(line.split())
    bench.write(
        args.out,
        machine=bench.machine("cpu", threads=args.threads),
        settings=vars(args),
        seconds={row[0]: [float(row[1])] for row in rows},
        figures={"peak_gib": {row[0]: float(row[3]) for row in rows}},
    )
    if not args.keep:
        shutil.rmtree(folder)
    return worker.returncode


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=5_000_000, help="lines of the edge list")
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", help="for the tables; those that lie there are read again")
    parser.add_argument("--keep", action="store_true", help="leave the tables there")
    parser.add_argument("--out", type=Path, help="JSON with all figures")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def write_tables(folder: Path, num_nodes: int, num_edges: int, num_features: int) -> None:
    """Write ``edges.csv`` and ``nodes.csv``: ids such as u17, labels that edges and features tell.

    Few nodes have many edges: the far end of a line is drawn towards the first nodes.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute as pc
    from pyarrow import csv

    def names(places: Any) -> Any:
        return pc.binary_join_element_wise("u", pa.array(places).cast(pa.string()), "")

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(NUM_CLASSES, num_features)).astype(np.float32)
    fields = [("id", pa.string()), ("label", pa.string())]
    schema = pa.schema(fields + [(f"x{i}", pa.float32()) for i in range(num_features)])
    with csv.CSVWriter(folder / "nodes.csv", schema) as writer:
        for start in range(0, num_nodes, BLOCK):
            nodes = np.arange(start, min(start + BLOCK, num_nodes))
            y = nodes % NUM_CLASSES
            known = rng.random(len(nodes)) < LABELLED
            words = np.append([f"class {c}" for c in range(NUM_CLASSES)], "")
            noise = rng.normal(size=(len(nodes), num_features)).astype(np.float32)
            x = (centres[y] + 2 * noise).round(3)
            labels = pa.array(words[np.where(known, y, NUM_CLASSES)])
            columns = [names(nodes), labels, *map(pa.array, np.ascontiguousarray(x.T))]
            writer.write_table(pa.table(columns, schema=schema))
    schema = pa.schema([("source", pa.string()), ("target", pa.string())])
    whole = num_nodes // NUM_CLASSES * NUM_CLASSES
    with csv.CSVWriter(folder / "edges.csv", schema) as writer:
        for start in range(0, num_edges, BLOCK):
            count = min(BLOCK, num_edges - start)
            source = rng.integers(whole, size=count)
            target = (whole * rng.random(count) ** 1.5).astype(np.int64)
            alike = target // NUM_CLASSES * NUM_CLASSES + source % NUM_CLASSES
            target = np.where(rng.random(count) < SAME_CLASS, alike, target)
            writer.write_table(pa.table([names(source), names(target)], schema=schema))


def work(folder: Path, threads: int) -> None:
    """Read, fit, predict; print a line for each phase."""
    import torch

    torch.set_num_threads(threads)
    from graphfm.cli.predict import write_predictions
    from graphfm.estimator import GraphFMClassifier
    from graphfm.graphs.files import ReadOptions, read_file
    from graphfm.graphs.prepare import prepare

    with phase("read"):
        options = ReadOptions(target="label", directed=False)
        graph = read_file(folder, options).graph
    with phase("prepare"):
        method = prepare(graph).position_method
    with phase("fit"):
        fitted = GraphFMClassifier(tune="probe", device="cpu").fit(graph)
    with phase("predict"):
        proba = fitted.predict_proba(graph)
    with phase("write"):
        classes = [str(c) for c in fitted.classes_]
        write_predictions(folder / "predictions.csv", graph, proba, classes)
    print(f"{graph!r}, positions by {method}, validation score {fitted.val_score_}",
          file=sys.stderr)  # fmt: skip


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Print the seconds and the peak memory of what is done inside."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    print(f"{name:<8} {seconds:9.1f} s  {int(peak.split()[1]) / 2**20:6.2f} GiB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
