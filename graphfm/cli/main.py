"""The command ``graphfm``: its sub-commands, and the exit code and message of every error."""

from __future__ import annotations

import errno
import logging
import os
import sys
import tempfile
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from graphfm.cli import (
    benchmark,
    datasets,
    demo,
    doctor,
    embed,
    evaluate,
    explain,
    finetune,
    inspect,
    predict,
    pretrain,
    recipes,
    scaling,
)
from graphfm.cli import report as report_page
from graphfm.cli.terminal import note, report, show
from graphfm.errors import GraphFMError, MemoryLimitError, OutputError
from graphfm.version import __version__


class Commands(TyperGroup):
    """Group of commands that turns an error into its four-part message and its exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order they were added, not in alphabetical order."""
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept ``--debug`` and ``--offline`` also after the name of a command."""
        first = [flag for flag in ("--debug", "--offline") if flag in args]
        args = [*first, *(a for a in args if a not in first)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; report an error and exit with its code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise  # an unknown option: typer reports it, exit code 2
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if _is_closed_pipe(error):
                # The reader has ended (`graphfm datasets list | head`). Without the redirection,
                # Python would print "Broken pipe" when it flushes stdout at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(141) from None
            if ctx.params.get("debug"):
                raise
            known = _as_graphfm_error(error)
            if known is None:
                _report_bug(error)
                raise typer.Exit(1) from None
            report(known)
            raise typer.Exit(known.exit_code) from None


class _StderrHandler(logging.Handler):
    """Handler that prints log messages of the package to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


# Texts of the errors that gloo and nccl raise when another process of the run has ended.
LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "remote process exited")

# Texts of a failed allocation of torch, C++, the loader of libraries, and threads.
NO_MEMORY = (
    "allocate memory",
    "bad_alloc",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
)

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(datasets.app, name="datasets")
app.add_typer(recipes.app, name="recipes")
app.command("pretrain")(pretrain.pretrain)
app.command("finetune")(finetune.finetune)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("evaluate")(evaluate.evaluate)
app.command("inspect")(inspect.inspect)
app.command("report")(report_page.report)
app.command("benchmark")(benchmark.benchmark)
app.add_typer(scaling.app, name="scaling")
app.command("explain")(explain.explain)


def _version(wanted: bool) -> None:
    if wanted:
        show(f"graphfm {__version__}")
        raise typer.Exit()


@app.callback()
def graphfm(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the Python traceback of an error.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not use the network; same as GRAPHFM_OFFLINE=1.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """A foundation model for graphs: predict a label for every node of your graph.

    Try it: `graphfm demo`

    Your own graph: `graphfm finetune --graph my.graphml --target label --out runs/mine`
    """
    if offline:
        os.environ["GRAPHFM_OFFLINE"] = "1"
    log = logging.getLogger("graphfm")
    log.setLevel(logging.INFO)  # also shows which rows or columns were left out, merged or filled
    if not log.handlers:
        log.addHandler(_StderrHandler())


def main() -> None:
    """Run the command line; entry point of the console script."""
    # Threads that wait for each other sleep instead of spinning; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="graphfm")


def _is_out_of_memory(error: Exception) -> bool:
    """Return true for a failed allocation, whichever library reports it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        words in str(error).lower() for words in NO_MEMORY
    )


def _is_closed_pipe(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _as_graphfm_error(error: Exception) -> GraphFMError | None:
    """Return an error of the machine (memory, disk, network) as one of ours; None for a bug."""
    if isinstance(error, GraphFMError):
        return error
    if _is_out_of_memory(error):
        return MemoryLimitError(
            "GFM404",
            "out of memory",
            why=str(error).splitlines()[0] if str(error) else "",
            fix="close other programs, or give fewer feature columns (--features); for a run of "
            "pretraining reduce sampling.max_context, sampling.targets_per_step or model.dim",
        )
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EFBIG,
    ):
        return OutputError("GFM403", f"cannot write: {error.strerror}", where=error.filename or "")
    if any(words in str(error) for words in LOST_PEER):
        return GraphFMError(
            "GFM413",
            "another process of this run has ended",
            why="its error is printed above; if the system killed it, see the system's log",
            fix="run the same command again: it continues from the newest checkpoint",
        )
    if isinstance(error, PermissionError):
        return OutputError("GFM403", "no permission to write", where=str(error.filename or ""))
    return None


def _report_bug(error: Exception) -> None:
    with tempfile.NamedTemporaryFile(
        "w", prefix="graphfm-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"graphfm {__version__}, {sys.version}\n{' '.join(sys.argv)}\n\n")
        file.write("".join(traceback.format_exception(error)))
    first = (str(error).strip().splitlines() or [""])[0]
    report(
        GraphFMError(
            "GFM400",
            f"a bug in graphfm: {type(error).__name__}: {first}",
            where=file.name,
            fix="report it with this file, which contains the traceback and the command",
        )
    )
