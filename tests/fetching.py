"""Fixtures of the tests that fetch: a trusted server, and a cache with something in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import trustme

from graphfm.errors import GraphFMError
from graphfm.graphs.catalog import download
from graphfm.graphs.catalog import fetch as room
from graphfm.graphs.catalog.fetch import fetch, locked_hashes
from graphfm.graphs.catalog.source import RawFile
from tests.http_server import Site, serving

BODY = bytes(range(256)) * 800  # 204,800 bytes: four chunks
CAP = 0.3


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    return folder


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[Site]:
    with serving(certificates / "server.pem") as site:
        yield site


@pytest.fixture
def site(server: Site, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The server, trusted, with nothing on it; tries follow each other at once."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "GRAPHFM_OFFLINE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "authority.pem"))
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setattr(download, "TIMEOUT", (10.0, 10.0))
    monkeypatch.setattr(room, "known_hashes", dict)
    server.answers.clear()
    server.requests.clear()
    return server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with a file that must stay as it is."""
    folder = tmp_path / "home" / "data"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "a.txt").write_bytes(b"earlier")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def here(site: Site, path: str = "new/b.bin", *, url: str = "/b.bin", member: str = "") -> RawFile:
    return RawFile(path=path, url=site.address + url, member=member, max_mb=CAP)


def known(monkeypatch: pytest.MonkeyPatch, body: bytes, path: str = "new/b.bin") -> None:
    monkeypatch.setattr(room, "known_hashes", lambda: {path: sha256(body).hexdigest()})


def refused(code: str, files: list[RawFile], folder: Path) -> GraphFMError:
    """The error of a fetch, after which nothing has changed."""
    before, lock = content(folder), locked_hashes(folder)
    with pytest.raises(GraphFMError) as caught:
        fetch(files, folder)
    assert caught.value.code == code, caught.value
    assert caught.value.exit_code == (9 if code == "GFM401" else 3)
    assert caught.value.where and caught.value.fix
    assert content(folder) == before
    assert locked_hashes(folder) == lock
    assert not (folder / "new").exists()
    return caught.value
