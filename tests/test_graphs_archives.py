"""Files out of archives, honest and hostile ones, as a server serves them."""
# ruff: noqa: F811 (fixtures come by import)

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from graphfm.errors import DataError
from graphfm.graphs.catalog import archives
from graphfm.graphs.catalog import fetch as room
from graphfm.graphs.catalog.fetch import fetch, locked_hashes
from tests.fetching import (  # noqa: F401
    BODY,
    certificates,
    content,
    folder,
    here,
    refused,
    server,
    site,
)
from tests.http_server import Site, whole


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, body in members:
            archive.writestr(name, body, how)
    return buffer.getvalue()


def tarred(*members: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def link(kind: bytes, name: str = "in/b.bin") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/hostname"
    return info


def zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("in/b.bin")
    info.external_attr = 0o120777 << 16
    return info


def altered(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body and len(old) == len(new)
    return body.replace(old, new)


NOISE = sha256(b"").digest() * 3_000
MEMBER = ("in/b.bin", BODY)
ARCHIVES = {
    "zip": zipped(("in/a.bin", b"a"), MEMBER),
    "stored zip": zipped(("in/a.bin", b"a"), MEMBER, how=zipfile.ZIP_STORED),
    "zip with ./": zipped(("./in/a.bin", b"a"), ("./in/b.bin", BODY)),
    "zip made on Windows": altered(zipped(("in/a.bin", b"a"), MEMBER), b"in/", b"in\\"),
    "tar.gz": tarred(("in/a.bin", b"a"), MEMBER, (link(tarfile.SYMTYPE, "in/c"), b"")),
    "tar.gz with ./": tarred(("./in/b.bin", BODY), ("./in/a.bin", b"a")),
}


@pytest.mark.parametrize("how", ARCHIVES)
def test_files_of_an_archive_are_fetched_once(site: Site, folder: Path, how: str) -> None:
    """Also those that are wanted later. Seen to fail with every archive removed after use."""
    site.answers["/download?id=7"] = whole(ARCHIVES[how])
    both = [
        here(site, f"new/{name}", url="/download?id=7", member=f"in/{name}")
        for name in ("a.bin", "b.bin")
    ]
    fetch(both[:1], folder)
    fetch(both, folder)
    assert content(folder) == {"old/a.txt": b"earlier", "new/a.bin": b"a", "new/b.bin": BODY}
    assert locked_hashes(folder).keys() == {"new/a.bin", "new/b.bin"}
    assert len(site.requests) == 1
    assert len(list((folder.parent / "downloads").iterdir())) == 1


def test_a_large_archive_is_not_kept(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the limit not looked at."""
    monkeypatch.setattr(room, "KEPT_MB", 1e-4)
    site.answers["/a.zip"] = whole(ARCHIVES["zip"])
    fetch([here(site, url="/a.zip", member="in/b.bin")], folder)
    assert content(folder)["new/b.bin"] == BODY
    assert not list((folder.parent / "downloads").iterdir())


def test_a_gz_holds_one_file(site: Site, folder: Path) -> None:
    site.answers["/b.gz"] = whole(gzip.compress(BODY), Content_Encoding="x-gzip")
    fetch([here(site, url="/b.gz", member="*")], folder)
    assert content(folder)["new/b.bin"] == BODY


ZIP, TAR, GZ = ARCHIVES["zip"], ARCHIVES["tar.gz"], gzip.compress(BODY)
ZEROS = bytes(50_000_000)
ONE = (1).to_bytes(4, "little")
BOMB = zipped(("in/b.bin", ZEROS))
HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "zip bomb": ("GFM141", BOMB, "the limit of 300,000"),
    "zip bomb that lies": ("GFM142", altered(BOMB, len(ZEROS).to_bytes(4, "little"), ONE), "CRC"),
    "tar bomb": ("GFM141", tarred(("in/b.bin", ZEROS)), "the limit of 300,000"),
    "tar bomb beside it": ("GFM141", tarred(("in/a", ZEROS), MEMBER), "the limit of 300,000"),
    "tar bomb in a long name": ("GFM141", tarred(("a" * 5_000_000, b""), MEMBER), "300,000"),
    "zip with ..": ("GFM142", zipped(MEMBER, ("in/../../evil", b"")), "leaves its folder"),
    "zip with an absolute name": ("GFM142", zipped(MEMBER, ("/tmp/evil", b"")), "leaves its"),
    "zip with a drive": ("GFM142", zipped(MEMBER, ("C:evil", b"")), "leaves its folder"),
    "zip with ..\\": ("GFM142", altered(ZIP, b"in/a.bin", b"..\\a.bin"), "leaves its folder"),
    "zip with a link": ("GFM142", zipped((zip_link(), b"/etc/hostname")), "not a plain file"),
    "zip with a folder": ("GFM142", zipped(("in/b.bin/", b"")), "0 files of this name"),
    "zip with two": ("GFM142", zipped(MEMBER, ("./in/b.bin", b"other")), "2 files of this name"),
    "zip without it": ("GFM142", zipped(("in/a.bin", BODY)), "0 files of this name"),
    "zip by bzip2": ("GFM142", zipped(MEMBER, how=zipfile.ZIP_BZIP2), "method 12"),
    "zip cut": ("GFM142", ZIP[:-30], "BadZipFile"),
    "zip with a flip": ("GFM142", ZIP[:200] + bytes([ZIP[200] ^ 1]) + ZIP[201:], "zlib|CRC"),
    "tar with ..": ("GFM142", tarred(MEMBER, ("in/../../evil", b"")), "leaves its folder"),
    "tar with an absolute name": ("GFM142", tarred(MEMBER, ("/tmp/evil", b"")), "leaves its"),
    "tar with a symlink": ("GFM142", tarred((link(tarfile.SYMTYPE), b"")), "not a plain file"),
    "tar with a hard link": ("GFM142", tarred((link(tarfile.LNKTYPE), b"")), "not a plain file"),
    "tar with a device": ("GFM142", tarred((link(tarfile.CHRTYPE), b"")), "not a plain file"),
    "tar with two": ("GFM142", tarred(("in/b.bin", b"1"), ("in/b.bin", b"2")), "2 files of"),
    "tar without it": ("GFM142", tarred(("in/a.bin", BODY)), "0 files of this name"),
    "tar cut": ("GFM142", TAR[:-9], "EOFError"),
    "tar with a flip": ("GFM142", TAR[:-6] + bytes([TAR[-6] ^ 1]) + TAR[-5:], "CRC"),
    "gz cut": ("GFM142", GZ[:-9], "EOFError|no zip"),
    "no archive": ("GFM142", BODY, "no zip, tar.gz or gz"),
}  # fmt: skip


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_leaves_the_cache_as_it_was(
    site: Site, folder: Path, how: str, tmp_path: Path
) -> None:
    """Also the good file that is asked for with the bad one, and everything outside the cache.

    Each row was seen to fail with what refuses it taken out of archives.py.
    """
    code, body, says = HOSTILE[how]
    site.answers["/a.zip"] = whole(body)
    wanted = [here(site, url="/a.zip", member="in/b.bin")]
    if how == "zip without it":
        wanted = [here(site, "new/a.bin", url="/a.zip", member="in/a.bin"), *wanted]
    if how == "gz cut":
        wanted = [here(site, url="/a.zip", member="*")]
    outside = {*tmp_path.iterdir()}
    error = refused(code, wanted, folder)
    assert re.search(says, error.what), error.what
    assert {*tmp_path.iterdir()} == outside and not Path("/tmp/evil").exists()
    assert not list((folder.parent / "downloads").iterdir())


def test_a_bomb_below_the_cap_is_seen_by_its_ratio(tmp_path: Path) -> None:
    """And a file of one repeated line is none. Seen to fail with MAX_RATIO at 2000, and at 500."""
    path = tmp_path / "a.zip"
    path.write_bytes(BOMB)
    with pytest.raises(DataError, match="GFM141.*1000 times"):
        list(archives.unpacked(path, "in/b.bin", max_bytes=10**9))
    lines = b"".join(b"%d\n" % i * 700 for i in range(2_000))
    path.write_bytes(gzip.compress(lines))
    assert len(lines) > 500 * path.stat().st_size and len(lines) > archives.HARMLESS
    assert b"".join(archives.unpacked(path, "*", max_bytes=10**9)) == lines


def test_an_archive_too_large_is_not_fetched(site: Site, folder: Path) -> None:
    """The cap is that of the largest file in it. Seen to fail with the archive uncapped."""
    site.answers["/a.zip"] = whole(zipped(("in/b.bin", os.urandom(400_000))))
    error = refused("GFM141", [here(site, url="/a.zip", member="in/b.bin")], folder)
    assert "the server sends" in error.what
