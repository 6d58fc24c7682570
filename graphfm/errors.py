"""Errors that a user can fix.

Every message has up to four parts: what happened, where, why, and how to fix it. Every error has a
code (``GFMnnn``), which ``graphfm explain`` describes, and an exit code for the command line.
"""

FEW = 5  # names that a message lists


class GraphFMError(Exception):
    """Base class of all errors that a user can fix.

    Args:
        code: Code of the error: ``GFM1xx`` data, ``GFM2xx`` recipe, ``GFM3xx`` checkpoint,
            ``GFM4xx`` machine and network, ``GFM6xx`` training, ``GFM7xx`` comparison, ``GFM8xx``
            output.
        what: The problem in one sentence, with the expected and the given value.
        where: File, line, column, key or node of the problem. Default: left out.
        why: Cause of the problem, if ``what`` does not state it. Default: left out.
        fix: Instruction to the user. Default: left out.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: str = "", why: str = "", fix: str = ""):
        self.code, self.what, self.where, self.why, self.fix = code, what, where, why, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = {"where": self.where, "why": self.why, "fix": self.fix}
        lines = [f"  {name:<7} {text}" for name, text in parts.items() if text]
        return "\n".join([f"{self.code}  {self.what}", *lines])

    def __reduce__(self) -> tuple[object, ...]:  # keeps the parts when sent to another process
        return (_rebuild, (type(self), self.code, self.what, self.where, self.why, self.fix))


def _rebuild(kind: type, code: str, what: str, where: str, why: str, fix: str) -> GraphFMError:
    """Rebuild an error in another process."""
    error: GraphFMError = kind(code, what, where=where, why=why, fix=fix)
    return error


class DataError(GraphFMError, ValueError):
    """A graph, table or label that cannot be used."""

    exit_code = 3


class RecipeError(GraphFMError, ValueError):
    """A recipe, a ``key=value`` or an argument that cannot be used."""

    exit_code = 4


class CheckpointError(GraphFMError):
    """A checkpoint that is damaged, or made for another task or version."""

    exit_code = 5


class DivergedError(GraphFMError):
    """A loss or gradient that is not finite."""

    exit_code = 6


class MemoryLimitError(GraphFMError):
    """Out of memory, also with the smallest batch."""

    exit_code = 7


class OutputError(GraphFMError):
    """A file or folder that cannot be written."""

    exit_code = 8


class OfflineError(GraphFMError):
    """A download that is needed, but the network must not or cannot be used."""

    exit_code = 9
