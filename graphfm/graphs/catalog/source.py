"""Contract of all sources of graphs: list the raw files and their addresses, and read the graph.

The address of a raw file is ``https://...`` or continues the source's ``url``. If the ``url`` ends
in ``/``, the address is a path below it; if it ends in ``.zip``, ``.tar.gz``, ..., the address is a
file in that archive. ``https://.../a.zip!dir/file`` names a file in an archive too.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from graphfm.config.parts import PartConfig, StrictConfig
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.graph import Graph

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".gz")
WHOLE = "*"
"""Member that stands for the only file of a ``.gz``."""


class RawFile(StrictConfig):
    """A raw file that can be fetched."""

    path: str
    """Path below the data folder."""
    url: str
    member: str = ""
    """Path in the archive at ``url``; empty = ``url`` is the file itself."""
    max_mb: float = Field(default=64, gt=0)
    """Limit on the size of the download and of the unpacked file, in MB."""


class SourceConfig(PartConfig):
    """Base of all sources. A source without raw files overrides :meth:`build` only."""

    def downloads(self) -> list[RawFile]:
        """Return the raw files that can be fetched."""
        return []

    def raw_files(self, data: Path) -> list[Path]:
        """Return the files that are read; their hashes are part of the cache key.

        Raises:
            OfflineError: GFM401 if one of them is not below ``data``.
        """
        return here([data / file.path for file in self.downloads()])

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph from its raw files below ``data``."""
        raise NotImplementedError


class FetchedConfig(SourceConfig):
    """Base of the sources whose entry holds the addresses of its raw files."""

    url: str = ""
    """Folder, archive or file that the addresses of ``files`` continue."""
    files: dict[str, str] = {}
    """Address of each raw file, by path below :attr:`folder`; empty = nothing is fetched."""
    max_mb: float = Field(default=64, gt=0)
    """Limit on the size of each file, in MB."""

    @property
    def folder(self) -> str:
        """Folder of the raw files below the data folder; ends in ``/`` if not empty."""
        return ""

    def downloads(self) -> list[RawFile]:
        """Return the raw files that can be fetched."""
        return [
            raw_file(self.folder + path, self.url, address, self.max_mb)
            for path, address in self.files.items()
        ]


def raw_file(path: str, url: str, address: str, max_mb: float) -> RawFile:
    """Return a raw file from the parts of its address; see the module.

    >>> raw_file("a/x.txt", "https://host/data.zip", "x.txt", 1).member
    'x.txt'
    """
    is_complete = address.startswith(("https://", "http://", "{"))
    if not is_complete and url.endswith(ARCHIVES) and not url.endswith("/"):
        return RawFile(path=path, url=url, member=address, max_mb=max_mb)
    url, _, member = (address if is_complete else url + address).partition("!")
    return RawFile(path=path, url=url, member=member, max_mb=max_mb)
