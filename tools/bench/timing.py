"""Shared parts of the benches: arguments, facts of the machine, timing, a text table, a JSON file.

Seconds are processor time of the process on a CPU, so that a busy machine distorts them little, and
time between two events of the stream on CUDA. Compare seconds by their ratio within one run only.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from graphfm import storage

__all__ = ["median"]  # the benches use it as timing.median
Seconds = dict[str, list[float]]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every bench: ``--out --repeats --threads --device``."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=Path, help="JSON file for all results")
    made.add_argument("--repeats", type=_at_least_one, default=7, help="rounds of each case")
    made.add_argument("--threads", type=_at_least_one, default=1, help="torch's threads on a CPU")
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return made


def machine(device: torch.device | str = "cpu", *, threads: int | None = None) -> dict[str, Any]:
    """Return facts of the machine; set torch's number of threads if it is given."""
    if threads is not None:
        torch.set_num_threads(threads)
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": name,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def interleaved(
    cases: Mapping[str, Callable[[], Any]],
    repeats: int,
    device: torch.device | str = "cpu",
    *,
    warmup: int = 1,
) -> Seconds:
    """Measure all cases in turns, so that a load from outside hits all of them alike.

    Each round runs all cases once and starts one case further, so that no case always follows the
    same other case. The result of a case is freed outside its time.

    Args:
        cases: Functions without arguments, by name.
        repeats: Number of measured rounds.
        device: ``cuda`` measures between two events, everything else the process's CPU time.
        warmup: Rounds before these that are not measured (caches, compilers, the allocator).
    """
    measure = _seconds_cuda if torch.device(device).type == "cuda" else _seconds_cpu
    names = list(cases)
    seconds: Seconds = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: a collection would count for the case that is running
    try:
        for turn in range(warmup + repeats):
            first = turn % len(names) if names else 0
            for name in names[first:] + names[:first]:
                taken = measure(cases[name])
                if turn >= warmup:
                    seconds[name].append(taken)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return seconds


def square_product(device: str, dtype: torch.dtype) -> tuple[Callable[[], Any], float]:
    """Return a product of two 1,024 x 1,024 matrices as a case, and its FLOPs.

    Its rate is the floor that attention and decoders are compared with.
    """
    square = torch.randn(1024, 1024, device=device, dtype=dtype)
    return (lambda: square @ square), 2.0 * 1024**3


def passes(
    call: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor], backward: bool
) -> Callable[[], None]:
    """Return a case: forward without gradients, or forward and backward to inputs and weights."""

    def run() -> None:
        with torch.set_grad_enabled(backward):
            out = call(*(x.detach().requires_grad_(backward) for x in inputs))
            if backward:
                out.backward(torch.ones_like(out))

    return run


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return ``median q1 q3 repeats``."""
    q1, middle, q3 = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": middle, "q1": q1, "q3": q3, "repeats": len(values)}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return aligned text: the first column to the left, numbers to the right in 3 digits."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def write(
    args: argparse.Namespace,
    machine: Mapping[str, Any],
    seconds: Mapping[str, Sequence[float]],
    figures: Any = None,
) -> dict[str, Any]:
    """Write all results of a bench to ``args.out``, if it is given, as JSON; return them.

    Args:
        args: Arguments of the bench.
        machine: Result of :func:`machine`.
        seconds: Result of :func:`interleaved` for all cases.
        figures: Derived results: ratios, rates, bytes, checks.
    """
    results = {
        "machine": dict(machine),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "figures": figures,
    }
    if args.out is not None:
        write_json(args.out, results)
    return results


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file whole; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_json(path, value)


def _seconds_cpu(case: Callable[[], Any]) -> float:
    begin = time.process_time()
    result = case()
    taken = time.process_time() - begin
    del result
    return taken


def _seconds_cuda(case: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    result = case()
    end.record()
    torch.cuda.synchronize()
    del result
    return float(begin.elapsed_time(end)) / 1e3


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
