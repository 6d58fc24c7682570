"""Start the processes of a run on this machine, and start them again when one of them dies."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence

from graphfm.errors import RecipeError

RESTARTS = 3  # in a row: a run that has gone on for SETTLED seconds begins to count anew
SETTLED = 600.0
GRACE = 300  # seconds for a step and a checkpoint, between a stop signal and SIGKILL
STOPPED, INTERRUPTED, CRASHED = 75, 130, 1

log = logging.getLogger(__name__)


def launch(nproc: int, argv: Sequence[str]) -> int:
    """Run ``graphfm ARGV`` in some processes, with torch's elastic agent.

    A process that dies (killed, out of host memory, a lost device) takes the others with it; all
    are started again, up to 3 times in a row, and go on from the newest checkpoint, which is what
    ``--resume auto`` does. One that ends with an exit code of its own, such as a recipe that is
    wrong or a disk that is full, would end so again: it is not restarted. A stop signal goes to all
    of them.

    Args:
        nproc: Processes on this machine.
        argv: Arguments of ``graphfm``, such as ``["pretrain", "demo", "--out", "runs/demo"]``; a
            process that finds ``WORLD_SIZE`` in its environment does not launch again.

    Returns:
        The exit code: 0, the processes' own one, or 1 where they died once too often.

    Raises:
        RecipeError: GFM412 for fewer than one process.
    """
    if nproc < 1:
        raise RecipeError("GFM412", f"--nproc must be 1 at least, got {nproc}")
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What torchrun does, but not to 1 whatever the machine has.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE))
    # Its own account of a death says nothing that is not said here.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    died = 0
    while True:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id="graphfm",
            max_restarts=0,  # its own restarts do not look at exit codes
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
        own = own_code(codes.values())
        if own is not None:
            return own
        died = 1 if time.monotonic() - began > SETTLED else died + 1
        told = ", ".join(f"process {rank}: {code}" for rank, code in sorted(codes.items()))
        if died > RESTARTS:
            log.warning("a process died again (%s): given up after %d restarts", told, RESTARTS)
            return CRASHED
        log.warning("a process died (%s); restart %d of %d", told, died, RESTARTS)


def own_code(codes: Iterable[int]) -> int | None:
    """The exit code that some process chose; None where they were killed or crashed.

    A signal is a negative code, an uncaught exception 1; a process whose peer went away ends so.

    >>> own_code([-15, 8, 1]), own_code([-9, 1])
    (8, None)
    """
    chosen = [code for code in codes if code > 1]
    return max(chosen) if chosen else None
