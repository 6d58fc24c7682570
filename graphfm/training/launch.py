"""Start the processes of a run on this machine, and restart them when one of them dies."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence

from graphfm.errors import RecipeError

RESTARTS = 3  # in a row; after STABLE_SECONDS without a death the count starts again
STABLE_SECONDS = 600.0
GRACE_SECONDS = 300  # for a step and a checkpoint, between a stop signal and SIGKILL
STOPPED, INTERRUPTED, CRASHED = 75, 130, 1  # exit codes

log = logging.getLogger(__name__)


def launch(nproc: int, argv: Sequence[str]) -> int:
    """Run ``graphfm ARGV`` in several processes with torch's elastic agent.

    If a process dies (killed, out of host memory, a lost device), the others are ended and all are
    started again, up to 3 times in a row. With ``--resume auto`` they resume from the newest
    checkpoint. A process that ends with an exit code of its own, for instance for a wrong recipe or
    a full disk, would end the same way again, so it is not restarted. All processes get every stop
    signal.

    Args:
        nproc: Number of processes on this machine.
        argv: Arguments of ``graphfm``, such as ``["pretrain", "demo", "--out", "runs/demo"]``. A
            process that finds ``WORLD_SIZE`` in its environment does not launch others.

    Returns:
        The exit code: 0, the code that the processes chose, or 1 after too many deaths.

    Raises:
        RecipeError: GFM412 for fewer than one process.
    """
    if nproc < 1:
        raise RecipeError("GFM412", f"--nproc must be at least 1, got {nproc}")
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # torchrun sets 1 thread per process; here the processes share all cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_SECONDS))
    # The agent's report of a death repeats the warnings below.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    deaths = 0
    while True:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id="graphfm",
            max_restarts=0,  # the agent's own restarts ignore exit codes
            signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
            logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        )
        began = time.monotonic()
        try:
            elastic_launch(config, sys.executable)("-m", "graphfm", *argv)
            return 0
        except SignalException as error:
            return INTERRUPTED if error.sigval.name == "SIGINT" else STOPPED
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        code = chosen_exit_code(codes.values())
        if code is not None:
            return code
        deaths = 1 if time.monotonic() - began > STABLE_SECONDS else deaths + 1
        listed = ", ".join(f"process {rank}: {code}" for rank, code in sorted(codes.items()))
        if deaths > RESTARTS:
            log.warning("a process died again (%s): given up after %d restarts", listed, RESTARTS)
            return CRASHED
        log.warning("a process died (%s); restart %d of %d", listed, deaths, RESTARTS)


def chosen_exit_code(codes: Iterable[int]) -> int | None:
    """Return the exit code that a process chose; None if all were killed or crashed.

    A signal is a negative code. An uncaught exception is 1, which is also how a process ends whose
    peer went away.

    Args:
        codes: Exit codes of the processes that failed.

    >>> chosen_exit_code([-15, 8, 1]), chosen_exit_code([-9, 1])
    (8, None)
    """
    chosen = [code for code in codes if code > 1]
    return max(chosen) if chosen else None
