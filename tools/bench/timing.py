"""What the benches share: the machine's facts, interleaved timing, a table and a JSON file.

    args = bench.parser(__doc__).parse_args(argv)
    facts = bench.machine(args.device, threads=args.threads)
    seconds = bench.interleaved({"ours": ours, "peer": peer}, args.repeats, args.device)
    print(bench.table(["case", "ms", "peer / ours"], rows))
    bench.write(args.out, machine=facts, settings=vars(args), seconds=seconds, figures=figures)

Seconds are of processor time of the whole process on a CPU, so that a busy machine distorts them
little, and between two events of the stream on CUDA. Compare them by their ratio in one run only.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The arguments that every bench has: ``--out --repeats --threads --device``."""
    found = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--out", type=Path, help="FILE.json for all results")
    found.add_argument("--repeats", type=_at_least_one, default=7, help="of each case, interleaved")
    found.add_argument("--threads", type=_at_least_one, default=1, help="of torch on a CPU")
    found.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return found


def machine(device: torch.device | str = "cpu", *, threads: int | None = None) -> dict[str, Any]:
    """What the figures were taken on; sets torch's threads where they are given.

    Returns:
        ``cpu cores threads device load python torch cuda``; load is of the last minute.
    """
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
) -> dict[str, list[float]]:
    """Seconds of every case, taken in turns, so that a load from outside hits all alike.

    Each round runs all cases once and starts one case further, so that none always follows the
    same other. What a case returns is freed outside its time.

    Args:
        cases: Functions without arguments, by name.
        repeats: Rounds.
        device: ``cuda`` measures between two events, everything else the process's CPU time.
        warmup: Rounds before, not measured: caches, compilers, the allocator.

    Returns:
        By name, ``repeats`` values in the order they were taken.
    """
    measure = _seconds_cuda if torch.device(device).type == "cuda" else _seconds_cpu
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: a collection would fall on whoever is running
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


def median(values: Sequence[float]) -> float:
    """Of at least one value."""
    return statistics.median(values)


def summary(values: Sequence[float]) -> dict[str, float]:
    """``median q1 q3 repeats``; quartiles as numpy's, by linear interpolation."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return {"median": at(0.5), "q1": at(0.25), "q3": at(0.75), "repeats": len(ordered)}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned text: the first column to the left, the others to the right; floats in 3 digits."""
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
    out: Path | None,
    *,
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    seconds: Mapping[str, Sequence[float]],
    figures: Any = None,
) -> dict[str, Any]:
    """All of a bench as one JSON file, replaced whole.

    Args:
        out: Where; None writes nothing.
        machine: :func:`machine`.
        settings: Arguments of the bench.
        seconds: :func:`interleaved`, of all cases.
        figures: What the bench derives: ratios, rates, bytes, checks.

    Returns:
        ``machine settings seconds figures`` as written; ``seconds`` holds :func:`summary` by case.
    """
    results = {
        "machine": dict(machine),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()},
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "figures": figures,
    }
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".part")
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(part, out)
    return results


def _seconds_cpu(case: Callable[[], Any]) -> float:
    begin = time.process_time()
    result = case()
    taken = time.process_time() - begin
    del result
    return taken


def _seconds_cuda(case: Callable[[], Any]) -> float:
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
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
