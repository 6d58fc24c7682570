"""The machine that a run has: its device, threads, memory, and versions of what is installed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache, wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from graphfm.errors import RecipeError

PACKAGES = ("graphfm", "torch", "torch-geometric", "numpy", "scipy", "scikit-learn")
"""Packages whose versions a receipt records."""

SMALL_GRAPH = 20_000
"""Nodes up to which a graph is worked on by one thread."""

Function = TypeVar("Function", bound=Callable[..., Any])


def pick_device(device: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA if there is one, else the CPU.

    Raises:
        RecipeError: GFM410 for CUDA on a machine without it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError("GFM410", "there is no CUDA device here", fix="use --device cpu")
    return torch.device(device)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """Compute in bf16: always for ``bf16``, on CUDA for ``auto``, where it is faster.

    Weights, norms, softmax and the loss stay in float32.
    """
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    if not wanted:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def matmul_rate(device: torch.device) -> float:
    """Measure the floating point operations per second of a matrix product, in about 20 ms."""
    size = 512
    a = torch.ones(size, size, device=device)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def one_thread_if_small(position: int) -> Callable[[Function], Function]:
    """Decorate a function to use one thread if its graph is small.

    The operations of a small graph take microseconds, and threads that wait for each other spin.
    Beside two busy processes on two cores a fit of 1,000 nodes took 70 s with two threads and 10 s
    with one; on an idle machine 6.2 and 6.9 s. One thread also gives the same bits everywhere.

    Args:
        position: Place among the positional arguments of the one that has ``num_nodes``.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            before = torch.get_num_threads()
            graph = args[position] if len(args) > position else None
            if before == 1 or graph is None or graph.num_nodes > SMALL_GRAPH:
                return function(*args, **kwargs)
            from threadpoolctl import threadpool_limits

            torch.set_num_threads(1)
            try:
                with threadpool_limits(1):  # those of NumPy and SciPy
                    return function(*args, **kwargs)
            finally:
                torch.set_num_threads(before)

        return limited  # type: ignore[return-value]

    return decorate


def memory_left(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device: the smallest known limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_meminfo("MemAvailable")]
    # The container's own limit: version 2 of control groups, then version 1.
    for folder, limit, usage in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        most, used = _number(Path(folder, limit)), _number(Path(folder, usage))
        if most is not None and used is not None:
            limits.append(most - used)
    limits.append(_address_space_left())
    return max(0, min((value for value in limits if value is not None), default=sys.maxsize))


def _meminfo(name: str) -> int | None:
    """Return a line of ``/proc/meminfo`` in bytes; None on other systems than Linux."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _number(path: Path) -> int | None:
    """Return the number in a file; None if there is no such file, or no limit ("max")."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _address_space_left() -> int | None:
    """Return the bytes left of a limit such as ``ulimit -v``; None if there is no limit."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return most - pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB; NaN on Windows."""
    try:
        import resource
    except ImportError:
        return float("nan")
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**30


def give_back_memory() -> None:
    """Return freed memory to the system, which glibc keeps in pieces; takes 0.06 s.

    Each step has tensors of other sizes. On local-small resident memory grew from 0.6 to 1.9 GiB
    in 1,000 steps, with 0.4 GiB in use; with this call every 100 steps it stays at 1.1 GiB.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc, another system
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def environment(seed: int) -> dict[str, Any]:
    """Return versions, platform, threads, device and commit: what reproduces a number."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "seed": seed,
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that holds this package; None if there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


@lru_cache(maxsize=1)
def machine_name() -> str:
    """Return the processor and its number of cores; times compare only on the same machine."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):  # not Linux, or a processor without a name
        pass
    return f"{name}, {os.cpu_count()} cores"
