"""What every source of graphs can do: tell its raw files and where each comes from, and read.

An address of a raw file is ``https://...``, or what follows the source's ``url``: a name below a
folder (the url ends in ``/``), or a member of an archive (it ends in ``.zip``, ``.tar.gz``, ...).
``https://.../a.zip!dir/member`` names a member by itself.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from graphfm.config.parts import PartConfig, StrictConfig
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.graph import Graph

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".gz")
WHOLE = "*"
"""The member of a ``.gz``, which holds one file."""


class RawFile(StrictConfig):
    """A raw file that can be fetched."""

    path: str
    """Where it lies below the data folder."""
    url: str
    member: str = ""
    """The file in the archive at ``url``; empty = ``url`` is the file."""
    max_mb: float = Field(default=64, gt=0)
    """Neither the download nor what is unpacked may be larger."""


class SourceConfig(PartConfig):
    """What the catalog asks of a source; one that reads no raw files is this and ``build``."""

    def downloads(self) -> list[RawFile]:
        """The raw files that can be fetched."""
        return []

    def raw_files(self, data: Path) -> list[Path]:
        """The files that are read, whose hashes are part of the cache key.

        Raises:
            OfflineError: GFM401 if one of them is not below ``data``.
        """
        return here([data / file.path for file in self.downloads()])

    def build(self, *, name: str, data: Path) -> Graph:
        """Read the graph from raw files that lie below ``data``."""
        raise NotImplementedError


class FetchedConfig(SourceConfig):
    """A source whose entry says where its raw files come from."""

    url: str = ""
    """A folder, an archive or a file that the addresses of ``files`` start from."""
    files: dict[str, str] = {}
    """Raw files, by path below :attr:`folder`, and their addresses; empty = nothing is fetched."""
    max_mb: float = Field(default=64, gt=0)
    """Size of the largest file, at most."""

    @property
    def folder(self) -> str:
        """Where the raw files lie below the data folder, with ``/`` at the end if not empty."""
        return ""

    def downloads(self) -> list[RawFile]:
        """The raw files that can be fetched."""
        return [
            raw_file(self.folder + path, self.url, address, self.max_mb)
            for path, address in self.files.items()
        ]


def raw_file(path: str, url: str, address: str, max_mb: float) -> RawFile:
    """One raw file from the parts of its address; see the module.

    >>> raw_file("a/x.txt", "https://host/data.zip", "x.txt", 1).member
    'x.txt'
    """
    alone = address.startswith(("https://", "http://", "{"))
    if not alone and url.endswith(ARCHIVES) and not url.endswith("/"):
        return RawFile(path=path, url=url, member=address, max_mb=max_mb)
    whole = address if alone else url + address
    url, _, member = whole.partition("!")
    return RawFile(path=path, url=url, member=member, max_mb=max_mb)
