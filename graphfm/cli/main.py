"""The command ``graphfm``: its sub-commands, and what becomes of an error."""

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
    """Turns an error into its four-part message and its exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order they were added, not by the alphabet."""
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--debug`` and ``--offline`` are understood after the command's name too."""
        first = [flag for flag in ("--debug", "--offline") if flag in args]
        args = [*first, *(a for a in args if a not in first)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise  # a wrong flag: typer says so, exit 2
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(130) from None
        except Exception as error:
            if _is_closed_pipe(error):
                # The reader is gone (`graphfm datasets list | head`): no message, no flush at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(141) from None
            if ctx.params.get("debug"):
                raise
            known = _known(error)
            if known is None:
                _report_bug(error)
                raise typer.Exit(1) from None
            report(known)
            raise typer.Exit(known.exit_code) from None


class _Messages(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


# What gloo and nccl say where a process of the same run is gone.
LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "remote process exited")

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
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Fetch nothing; same as GRAPHFM_OFFLINE=1.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """One Perceiver for graphs: pretrained on many, fitted to a new one in seconds.

    Begin with `graphfm demo`, or with your own graph:
    `graphfm finetune --graph my.graphml --target label --out runs/mine`
    """
    if offline:
        os.environ["GRAPHFM_OFFLINE"] = "1"
    log = logging.getLogger("graphfm")
    log.setLevel(logging.INFO)  # what was left out, merged or filled in is said, never silent
    if not log.handlers:
        log.addHandler(_Messages())


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="graphfm")


def _is_closed_pipe(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _known(error: Exception) -> GraphFMError | None:
    """What the machine, not the code, is to blame for."""
    if isinstance(error, GraphFMError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MemoryLimitError(
            "GFM404",
            "out of memory",
            why=str(error).splitlines()[0] if str(error) else "",
            fix="lower sampling.max_context, sampling.targets_per_step or model.dim",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return OutputError("GFM403", f"cannot write: {error.strerror}", where=error.filename or "")
    if any(words in str(error) for words in LOST_PEER):
        return GraphFMError(
            "GFM413",
            "another process of this run has gone",
            why="what ended it stands above, or in the system's log where it was killed",
            fix="the same command again goes on from the newest checkpoint; --nproc does so itself",
        )
    if isinstance(error, PermissionError):
        return OutputError("GFM403", "not allowed", where=str(error.filename or ""))
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
            f"this is a fault of graphfm: {type(error).__name__}: {first}",
            where=file.name,
            fix="report it with that file, which holds the traceback and this command",
        )
    )
