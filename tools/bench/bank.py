"""The bank of a mixture: its bytes, the seconds to build it from the cache, its peak memory.

Each repeat is a process of its own that reads the prepared graphs from the cache, which is filled
before, and builds the bank; once with this version and, in turns, once with the first one
(``first_version.py``). Memory counts from before the bank to its peak while it is built:

- ``own``: pages of the process alone, which is what a bank costs (Linux, /proc/self/statm, looked
  at every millisecond);
- ``mapped``: pages of the cache that were touched; processes share them, and they can be dropped.

    python tools/bench/bank.py --out bank.json
    python tools/bench/bank.py --mixture demo --device cuda
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
import torch
from first_version import FIRST, ROOT, Worker, checkout

MIB = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = parse(argv)
    if args.worker:
        work(args.device)
        return 0
    facts = bench.machine(args.device, threads=args.threads)
    from graphfm.storage import cache_folder

    homes = {"now": None, "first": str(cache_folder() / "first-version")}
    answers: dict[str, list[dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        packages: dict[str, Path | None] = {"now": ROOT}
        if args.first != "none":
            packages["first"] = stack.enter_context(checkout(args.first))
        versions = {name: folder for name, folder in packages.items() if folder}
        for turn in range(1 + args.repeats):  # the first fills the cache, if need be
            for name, folder in versions.items():
                command = [str(Path(__file__)), "--worker", "--device", args.device]
                with Worker(command, package=folder, home=homes[name]) as worker:
                    answer = worker.ask({"mixture": args.mixture, "threads": args.threads})
                if turn:
                    answers.setdefault(name, []).append(answer)
    seconds = {
        f"{name}: {part}": [a["seconds"][part] for a in rows]
        for name, rows in answers.items()
        for part in ("read", "build")
    }
    figures = {
        name: {
            "bytes": rows[0]["bytes"],
            "parts": rows[0]["parts"],
            "graphs": rows[0]["graphs"],
            "nodes": rows[0]["nodes"],
            "entries": rows[0]["entries"],
            "peak_own_bytes": bench.summary([a["own"] for a in rows]),
            "peak_mapped_bytes": bench.summary([a["mapped"] for a in rows]),
        }
        for name, rows in answers.items()
    }
    print(f"{args.mixture}: {figures['now']['graphs']} graphs, {figures['now']['nodes']:,} nodes")
    print(bench.table(["bank", *figures], as_rows(seconds, figures)))
    bench.write(args.out, machine=facts, settings=vars(args), seconds=seconds, figures=figures)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = bench.parser(__doc__)
    parser.set_defaults(repeats=5)
    usual = "local-152" if os.environ.get("GRAPHFM_DATA") else "demo"
    parser.add_argument("--mixture", default=usual)
    parser.add_argument("--first", default=FIRST, help="commit to compare with, or none")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def as_rows(seconds: dict[str, list[float]], figures: dict[str, Any]) -> list[list[object]]:
    """A column for each version."""
    rows: list[list[object]] = [["MiB", *(f["bytes"] / MIB for f in figures.values())]]
    for part in figures["now"]["parts"]:
        cells = [f["parts"].get(part, 0) / MIB if f["parts"] else "" for f in figures.values()]
        rows.append([f"  {part}", *cells])
    for part, name in (
        ("read", "s of processor, read and check the cached graphs"),
        ("build", "s of processor, build"),
    ):
        rows.append([name, *(bench.median(seconds[f"{v}: {part}"]) for v in figures)])
    for kind in ("own", "mapped"):
        cells = [f[f"peak_{kind}_bytes"]["median"] / MIB for f in figures.values()]
        rows.append([f"MiB at the peak, {kind}", *cells])
    return rows


def work(device: str) -> None:
    """One mixture, for :class:`Worker`."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        torch.set_num_threads(question["threads"])
        answers.write(json.dumps(built(question["mixture"], device)) + "\n")
        answers.flush()


def built(mixture: str, device: str) -> dict[str, Any]:
    """Read, build, and what it took."""
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.prepare_many import prepare_many
    from graphfm.sampling.bank import GraphBank

    if device == "cuda":
        torch.zeros(1, device=device)  # CUDA itself takes seconds and gigabytes
    catalog = Catalog.read()
    begin = time.process_time()
    graphs = prepare_many(list(catalog.mixture(mixture)), catalog)
    read = time.process_time() - begin
    with Peak() as peak:
        begin = time.process_time()
        bank = GraphBank(graphs, device=device)
        build = time.process_time() - begin
    return {
        "seconds": {"read": read, "build": build},
        "graphs": len(bank),
        "nodes": bank.num_nodes,
        "entries": len(bank.col),
        "bytes": bank.num_bytes,
        "parts": getattr(bank, "nbytes", {}),
        "own": peak.own,
        "mapped": peak.mapped,
    }


class Peak:
    """The most memory above what there was at the beginning: ``own`` and ``mapped`` bytes."""

    own = mapped = 0

    def __enter__(self) -> Peak:
        self.before = resident()
        self.ended = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watcher.join()
        self._look()

    def _watch(self) -> None:
        while not self.ended.wait(1e-3):  # torch lets go of the interpreter while it copies
            self._look()

    def _look(self) -> None:
        own, mapped = resident()
        self.own = max(self.own, own - self.before[0])
        self.mapped = max(self.mapped, mapped - self.before[1])


def resident() -> tuple[int, int]:
    """Bytes in memory: of the process alone, and of files that are mapped; zeros off Linux."""
    with contextlib.suppress(OSError):
        _, whole, mapped, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
        page = os.sysconf("SC_PAGESIZE")
        return (int(whole) - int(mapped)) * page, int(mapped) * page
    return 0, 0


if __name__ == "__main__":
    sys.exit(main())
