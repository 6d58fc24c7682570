"""The bank of a mixture: its bytes, the seconds to build it from the cache, its peak memory.

Each repeat is a process of its own that reads the prepared graphs from the cache, which is filled
before, and builds the bank. Memory counts from before the bank to its peak while it is built.
``own``: pages of the process alone, the cost of a bank (Linux, /proc/self/statm every millisecond);
``mapped``: pages of the cache that were read, which processes share and which can be dropped.

    python tools/bench/bank.py --out bank.json
    python tools/bench/bank.py --mixture demo --device cuda
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timing
import torch

MIB = 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = timing.parser(__doc__)
    parser.set_defaults(repeats=5)
    usual = "local-152" if os.environ.get("GRAPHFM_DATA") else "demo"
    parser.add_argument("--mixture", default=usual)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        torch.set_num_threads(args.threads)
        print(json.dumps(built(args.mixture, args.device)))
        return 0
    facts = timing.machine(args.device, threads=args.threads)
    command = [sys.executable, __file__, "--worker", "--mixture", args.mixture]
    command += ["--device", args.device, "--threads", str(args.threads)]
    answers = []
    for _ in range(1 + args.repeats):  # the first fills the cache where it is empty
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    first, *rows = answers
    seconds = {part: [row["seconds"][part] for row in rows] for part in ("read", "build")}
    figures = {
        **{name: first[name] for name in ("bytes", "parts", "graphs", "nodes", "entries")},
        "peak_own_bytes": timing.summary([row["own"] for row in rows]),
        "peak_mapped_bytes": timing.summary([row["mapped"] for row in rows]),
    }
    print(f"{args.mixture}: {figures['graphs']} graphs, {figures['nodes']:,} nodes")
    print(timing.table(["bank", ""], as_rows(seconds, figures)))
    timing.write(args, facts, seconds, figures)
    return 0


def as_rows(seconds: timing.Seconds, figures: dict[str, Any]) -> list[list[object]]:
    """Return the rows of the table."""
    return [
        ["MiB", figures["bytes"] / MIB],
        *([f"  {part}", size / MIB] for part, size in figures["parts"].items()),
        ["s of processor, read and check the cached graphs", timing.median(seconds["read"])],
        ["s of processor, build", timing.median(seconds["build"])],
        ["MiB at the peak, own", figures["peak_own_bytes"]["median"] / MIB],
        ["MiB at the peak, mapped", figures["peak_mapped_bytes"]["median"] / MIB],
    ]


def built(mixture: str, device: str) -> dict[str, Any]:
    """Read the graphs and build the bank; return seconds and bytes."""
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.prepare_many import prepare_many
    from graphfm.sampling.bank import GraphBank

    if device == "cuda":
        torch.zeros(1, device=device)  # CUDA itself takes seconds and gigabytes
    catalog = Catalog.read()
    begin = time.process_time()
    graphs = prepare_many(list(catalog.mixture(mixture)), catalog)
    read = time.process_time() - begin
    with peak() as most:
        begin = time.process_time()
        bank = GraphBank(graphs, device=device)
        build = time.process_time() - begin
    return {
        "seconds": {"read": read, "build": build},
        "graphs": len(bank),
        "nodes": bank.num_nodes,
        "entries": len(bank.col),
        "bytes": bank.num_bytes,
        "parts": bank.nbytes,
        **most,
    }


@contextlib.contextmanager
def peak() -> Iterator[dict[str, int]]:
    """Give a dict that gets the highest memory above that of the beginning: own, mapped."""
    before, most, ended = resident(), {"own": 0, "mapped": 0}, threading.Event()

    def read() -> None:
        for name, start, now in zip(most, before, resident(), strict=True):
            most[name] = max(most[name], now - start)

    def watch() -> None:
        while not ended.wait(1e-3):  # torch frees the interpreter's lock while it copies
            read()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()
        read()


def resident() -> tuple[int, int]:
    """Return the process's own bytes in memory and those of mapped files; zeros off Linux."""
    with contextlib.suppress(OSError):
        _, whole, mapped, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
        page = os.sysconf("SC_PAGESIZE")
        return (int(whole) - int(mapped)) * page, int(mapped) * page
    return 0, 0


if __name__ == "__main__":
    sys.exit(main())
