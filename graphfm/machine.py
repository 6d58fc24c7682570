"""TODO: graphfm/machine.py, from graphfm/training/loop.py."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import sys
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from graphfm.errors import RecipeError


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """bf16 where it gains: on CUDA. Weights, norms, softmax and loss stay in float32."""
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    if not wanted:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        RecipeError: GFM410 for a device that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError("GFM410", "there is no CUDA device here", fix="use --device cpu")
    return torch.device(device)


PACKAGES = ("graphfm", "torch", "torch-geometric", "numpy", "scipy", "scikit-learn")


def environment(seed: int) -> dict[str, Any]:
    """Versions, machine and commit, so that a number can be made again."""
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


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**30


def give_back_memory() -> None:
    """Return freed blocks to the system, which glibc keeps, in pieces: 0.06 s.

    Every step has tensors of other sizes. On local-small resident memory grew from 0.6 to 1.9 GiB
    in 1,000 steps, with 0.4 GiB in use; with this every 100 steps it stays at 1.1.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc, another system
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _commit() -> str | None:
    """Commit of the checkout this package lies in, if it does."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def memory_left(device: torch.device) -> int:
    """Bytes that may still be allocated on a device; the least of all limits that are known."""
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


def _product_rate(device: torch.device) -> float:
    """Floating point operations a second of a product of two matrices, measured in some 20 ms."""
    size = 512
    a = torch.ones(size, size, device=device)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def _address_space_left() -> int | None:
    """Of a limit such as ``ulimit -v``; None without one."""
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


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux: only the limits that are known count
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" = no limit


@lru_cache(maxsize=1)
def machine() -> str:
    """Its processor and number of cores: seconds are compared on one machine only."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):  # not Linux, or a processor without a name
        pass
    return f"{name}, {os.cpu_count()} cores"
