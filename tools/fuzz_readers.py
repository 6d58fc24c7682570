"""Fuzz all readers: ``python tools/fuzz_readers.py --seconds 60``.

Each reader runs in its own process, whose memory is limited. Each file must give a graph or a
GraphFMError within a few seconds; any other result is printed with its bytes, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
HEADROOM = 3 * GIB  # address space beyond that of the imports; numpy and torch reserve some
SLOW_S = 5.0  # limit for one file of at most 20 kB, in seconds


def fuzz(name: str, seconds: float, seed: int) -> dict[str, object]:
    """Read mutations of one seed file until the time is over."""
    from tests.fuzzing import mutate, read_bytes, seeds

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    start = seeds()[name]
    with tempfile.TemporaryDirectory() as folder:
        read_bytes(Path(folder), name, start)  # so that all imports are done
        status = Path("/proc/self/statm").read_text().split()
        limit = int(status[0]) * resource.getpagesize() + HEADROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        rng = random.Random(seed)
        counts: dict[str, int] = {}
        slowest, began = 0.0, time.monotonic()
        corpus = [start]
        while time.monotonic() - began < seconds:
            content = mutate(rng.choice(corpus), rng)
            at = time.monotonic()
            try:
                result = read_bytes(Path(folder), name, content)
            except BaseException as error:
                return {"reader": name, "fault": repr(error), "bytes": content.hex()}
            took = time.monotonic() - at
            slowest = max(slowest, took)
            if took > SLOW_S:
                return {"reader": name, "fault": f"{took:.1f} s", "bytes": content.hex()}
            kind = getattr(result, "code", "graph")
            if kind not in counts and len(corpus) < 50:
                corpus.append(content)  # a new kind of result: mutate this file too
            counts[kind] = counts.get(kind, 0) + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "reader": name, "files": sum(counts.values()), "answers": counts,
        "slowest_s": round(slowest, 2), "peak_gib": round(peak, 2),
    }  # fmt: skip


def main() -> None:
    """Fuzz each reader in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", help="fuzz only this reader, in this process")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if asked.reader:
        print(json.dumps(fuzz(asked.reader, asked.seconds, asked.seed)))
        return
    from tests.fuzzing import seeds

    failed = False
    for name in seeds():
        command = [sys.executable, __file__, "--reader", name]
        command += ["--seconds", str(asked.seconds), "--seed", str(asked.seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = done.stdout.strip() or f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}"
        print(line, flush=True)
        failed |= done.returncode != 0 or '"fault"' in line
    sys.exit(failed)


if __name__ == "__main__":
    main()
