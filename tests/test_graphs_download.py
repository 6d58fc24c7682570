"""Servers that fail and connections that break: the cache stays as it was, or gets the whole."""
# ruff: noqa: F811 (fixtures come by import)

from __future__ import annotations

import gzip
import re
import resource
from pathlib import Path

import pytest

from graphfm.errors import OutputError
from graphfm.graphs.catalog import download
from graphfm.graphs.catalog.fetch import fetch
from tests.fetching import (  # noqa: F401
    BODY,
    certificates,
    content,
    folder,
    here,
    known,
    refused,
    server,
    site,
)
from tests.http_server import (
    Answer,
    Site,
    chunked,
    endless,
    raw,
    redirect,
    serving,
    silent,
    stalling,
    status,
    whole,
)

SHORT = BODY[:100_000]
PAGE = b"\n<!DOCTYPE html><title>Quota exceeded</title>"
FAILS: dict[str, tuple[str, Answer, str]] = {
    "truncates": (
        "GFM401",
        raw(200, SHORT, Content_Length=len(BODY)),
        "100000 bytes.*4 tries",
    ),
    "breaks a chunked body": ("GFM401", chunked(SHORT, ends=False), "ended prematurely.*4 tries"),
    "says no length": ("GFM401", raw(200, SHORT), "without their total"),
    "sends nothing": ("GFM401", whole(b""), "empty"),
    "stalls": ("GFM401", stalling(SHORT, Content_Length=len(BODY)), "timed out.*4 tries"),
    "says nothing": ("GFM401", silent, "timed out.*4 tries"),
    "hangs up": ("GFM401", lambda handler: None, "aborted.*4 tries"),
    "answers 404": ("GFM401", status(404), "404 Not Found"),
    "answers 403": ("GFM401", status(403), "403 Forbidden"),
    "answers 503": ("GFM401", status(503), "503 .*4 tries"),
    "answers 206 unasked": ("GFM401", raw(206, SHORT, Content_Length=len(SHORT)), "206"),
    "redirects to http": ("GFM401", redirect("http://127.0.0.1:9/b.bin"), "not https"),
    "redirects to a file": ("GFM401", redirect("file:///etc/hostname"), "not https"),
    "redirects in a circle": ("GFM401", redirect("/b.bin"), "10 redirects"),
    "sends a page": ("GFM401", whole(BODY, Content_Type="text/html; charset=utf-8"), "web page"),
    "sends a page as a file": ("GFM401", whole(PAGE, Content_Type="application/zip"), "web page"),
    "encodes": ("GFM401", whole(gzip.compress(BODY), Content_Encoding="gzip"), "not requested"),
    "is too long and says so": ("GFM141", raw(200, b"", Content_Length=300_001), "300,001"),
    "is too long": ("GFM141", chunked(BODY, BODY), "300,000"),
    "is endless": ("GFM141", endless, "300,000"),
}


@pytest.mark.parametrize("how", FAILS)
def test_a_server_that_fails_leaves_the_cache_as_it_was(
    site: Site, folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row was seen to fail with what refuses it taken out of download.py.

    Only what urllib3 sees by itself (truncated, broken and silent answers) cannot be taken out;
    these rows fail with one try instead of four.
    """
    code, answer, says = FAILS[how]
    if "timed out" in says:
        monkeypatch.setattr(download, "TIMEOUT", (10.0, 0.2))
    site.answers["/b.bin"] = answer
    error = refused(code, [here(site)], folder)
    assert re.search(says, error.what), error.what
    retried = says.endswith("tries")
    circle = how == "redirects in a circle"
    assert len(site.requests) == (11 if circle else download.TRIES if retried else 1)
    if code == "GFM141":
        assert not list((folder.parent / "downloads").iterdir())


def test_an_address_without_https_is_refused(folder: Path, site: Site) -> None:
    """Before any request. Seen to fail with the look at the scheme gone."""
    with serving(None) as plain:
        plain.answers["/b.bin"] = whole(BODY)
        error = refused("GFM401", [here(plain)], folder)
        site.answers["/b.bin"] = redirect(f"{plain.address}/b.bin")
        refused("GFM401", [here(site)], folder)
        assert not plain.requests
    assert "not https" in error.what


def test_an_untrusted_certificate_is_refused(
    site: Site, folder: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with verify=False."""
    site.answers["/b.bin"] = whole(BODY)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "other.pem"))
    error = refused("GFM401", [here(site)], folder)
    assert "certificate" in error.what
    assert not site.requests


def test_no_route_is_one_plain_sentence(site: Site, folder: Path) -> None:
    """Seen to fail with requests' own words: they begin with HTTPSConnectionPool."""
    file = here(site).model_copy(update={"url": "https://127.0.0.1:1/b.bin"})
    error = refused("GFM401", [file], folder)
    assert error.what.endswith("Connection refused (4 tries)") and "Pool" not in error.what


def test_a_proxy_of_the_environment_is_asked(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the session's trust_env off."""
    with serving(None) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        refused("GFM401", [here(site)], folder)
        assert {path for path, _ in proxy.requests} == {site.address.removeprefix("https://")}
    assert not site.requests


def test_a_full_disk_is_an_output_error(site: Site, folder: Path) -> None:
    """Nothing of the file stays to fill it. Seen to fail with OSError left out of `__call__`."""
    site.answers["/b.bin"] = whole(BODY, ETag='"1"')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match="GFM403"):
            fetch([here(site)], folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(folder) == {"old/a.txt": b"earlier"}
    assert not list((folder.parent / "downloads").iterdir())


# --- connections that break ---


def breaking(body: bytes, at: int, **headers: object) -> Answer:
    return raw(200, body[:at], Content_Length=len(body), **headers)


def ranges(site: Site) -> list[str | None]:
    return [headers.get("Range") for _, headers in site.requests]


@pytest.mark.parametrize(
    "tag", [{"ETag": '"1"'}, {"ETag": '"1"', "Last-Modified": "Sun, 01 Nov 2026 10:00:00 GMT"}]
)
def test_a_broken_connection_goes_on_where_it_was(site: Site, folder: Path, tag: dict) -> None:
    """As it lies there, without an encoding.

    Seen to fail with no Range asked for, with the rest put at the start, and with the encodings
    that requests asks for by itself.
    """
    site.answers["/b.bin"] = [breaking(BODY, 80_000, **tag), whole(BODY, **tag)]
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY
    assert ranges(site) == [None, "bytes=80000-"]
    assert site.requests[1][1]["If-Range"] == '"1"'
    assert site.requests[0][1]["Accept-Encoding"] == "identity"


def test_a_server_may_give_the_rest_in_parts(site: Site, folder: Path) -> None:
    """Seen to fail with the comparison of what came and the total gone: 120,000 bytes entered."""
    part = {"Content-Length": 40_000, "Content-Range": f"bytes 80000-119999/{len(BODY)}"}
    site.answers["/b.bin"] = [
        breaking(BODY, 80_000, ETag='"1"'),
        raw(206, BODY[80_000:120_000], ETag='"1"', **part),
        whole(BODY, ETag='"1"'),
    ]
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY
    assert ranges(site) == [None, "bytes=80000-", "bytes=120000-"]


def test_the_next_run_goes_on_too(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the part removed after the last try."""
    monkeypatch.setattr(download, "TRIES", 1)
    site.answers["/b.bin"] = [breaking(BODY, 80_000, ETag='"1"'), whole(BODY, ETag='"1"')]
    refused("GFM401", [here(site)], folder)
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY
    assert ranges(site) == [None, "bytes=80000-"]


def test_a_server_that_ignores_ranges_starts_again(site: Site, folder: Path) -> None:
    """Seen to fail with what comes always put at the end."""
    site.answers["/b.bin"] = [
        breaking(BODY, 80_000, ETag='"1"'),
        raw(200, BODY, Content_Length=len(BODY), ETag='"1"'),
    ]
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY


def test_without_a_version_nothing_is_resumed(site: Site, folder: Path) -> None:
    """A weak ETag is none. Seen to fail with the first two characters of it not looked at."""
    site.answers["/b.bin"] = [breaking(BODY, 9, ETag='W/"1"'), breaking(BODY, 9), whole(BODY)]
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY
    assert ranges(site) == [None, None, None]


OTHER = BODY[::-1]


def rest(start: int, **headers: object) -> Answer:
    """The rest of another file, for a client that asked for the rest of the first."""
    span = f"bytes {start}-{len(OTHER) - 1}/{len(OTHER)}"
    return raw(
        206, OTHER[80_000:], Content_Length=len(OTHER) - 80_000, Content_Range=span, **headers
    )


@pytest.mark.parametrize(
    "second",
    [
        whole(OTHER, ETag='"2"'),
        rest(80_000, ETag='"2"'),
        rest(79_999, ETag='"1"'),
        raw(206, OTHER[80_000:], Content_Length=len(OTHER) - 80_000, ETag='"1"'),
        raw(416, b"", Content_Length=0),
    ],
    ids=["says so", "gives its rest", "wrong range", "no range", "416"],
)
def test_a_file_that_changed_in_between_is_no_mixture(
    site: Site, folder: Path, second: Answer
) -> None:
    """Each was seen to fail with its part of the condition in `_begin` left out."""
    site.answers["/b.bin"] = [breaking(BODY, 80_000, ETag='"1"'), second, whole(OTHER, ETag='"2"')]
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == OTHER


def test_a_server_that_is_back_after_a_pause_is_asked_again(site: Site, folder: Path) -> None:
    """Seen to fail with 5xx refused at once."""
    site.answers["/b.bin"] = [status(503), status(429), lambda handler: None, whole(BODY)]
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY


def test_a_redirect_and_a_chunked_body_are_fine(site: Site, folder: Path) -> None:
    site.answers["/b.bin"] = redirect("c/../d.bin?x=1")
    site.answers["/d.bin?x=1"] = site.answers["/c/../d.bin?x=1"] = chunked(BODY[:7], BODY[7:])
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY
