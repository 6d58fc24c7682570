"""What a user is told when something cannot be done.

An error has four parts: what happened, where, why, and how to fix it; a code (``GFMnnn``) that
names its kind, and an exit code for the command line.
"""


class GraphFMError(Exception):
    """Something a user can mend.

    Args:
        code: ``GFM1xx`` data, ``GFM2xx`` recipe, ``GFM3xx`` checkpoint, ``GFM4xx`` the machine.
        what: What happened, with what was expected and what came, in one sentence.
        where: The file, line, column, key or node it happened at.
        why: The reason, if ``what`` does not say it.
        fix: What to do now.
    """

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: str = "", why: str = "", fix: str = ""):
        self.code, self.what, self.where, self.why, self.fix = code, what, where, why, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = {"where": self.where, "why": self.why, "fix": self.fix}
        lines = [f"  {name:<7} {text}" for name, text in parts.items() if text]
        return "\n".join([f"{self.code}  {self.what}", *lines])

    def __reduce__(self) -> tuple[object, ...]:  # crosses process borders with its parts
        return (_rebuild, (type(self), self.code, self.what, self.where, self.why, self.fix))


def _rebuild(kind: type, code: str, what: str, where: str, why: str, fix: str) -> GraphFMError:
    error: GraphFMError = kind(code, what, where=where, why=why, fix=fix)
    return error


class DataError(GraphFMError, ValueError):
    """A graph, table or label that cannot be used."""

    exit_code = 3


class RecipeError(GraphFMError, ValueError):
    """A recipe, a ``key=value`` or an argument that cannot be used."""

    exit_code = 4


class CheckpointError(GraphFMError):
    """A checkpoint that is damaged, untrusted or made for something else."""

    exit_code = 5


class DivergedError(GraphFMError):
    """The loss or a gradient is no longer finite."""

    exit_code = 6


class MemoryLimitError(GraphFMError):
    """Out of memory, also after backing off."""

    exit_code = 7


class OutputError(GraphFMError):
    """A file or folder cannot be written."""

    exit_code = 8


class OfflineError(GraphFMError):
    """Something has to be fetched, and the network may not or cannot be used."""

    exit_code = 9
