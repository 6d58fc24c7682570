"""Download of one file over HTTPS: resumed after a break, limited in size, and complete.

It is a downloader for ``pooch.retrieve``. pooch's own starts again after a break, follows redirects
to http, has no limit on the size, and decompresses before it hashes.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from graphfm.errors import DataError, OfflineError
from graphfm.storage import file_sha256

TRIES = 4
PAUSE = 1.0
"""Seconds before the second try; doubled before each further try."""
TIMEOUT = (10.0, 30.0)
"""Seconds to wait for the connection, and for the next bytes."""
MAX_REDIRECTS = 10
CHUNK = 1 << 16


class Broken(Exception):
    """Failure that another try can solve."""


class Download:
    """Downloader of one address, called by pooch.

    Args:
        part: File of the bytes so far. It stays after a break, and the next run continues it.
        title: Title of the progress bar.
        max_bytes: Limit on the size of the file.
        must_be_whole: Refuse an answer without a length or a last chunk. Set it if neither a hash
            nor the end of an archive shows that the file is complete.
        by_hand: How to get the file without this download, for the error.
    """

    def __init__(
        self, part: Path, *, title: str, max_bytes: int, must_be_whole: bool, by_hand: str
    ):
        self.part, self.title, self.max_bytes = part, title, max_bytes
        self.must_be_whole, self.by_hand = must_be_whole, by_hand
        self.version = part.with_name(part.name + ".version")  # ETag or date of the bytes so far
        self.url = ""
        self.sha256 = ""
        """Hash of the downloaded file."""

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Download the address to a file.

        Raises:
            DataError: GFM141 for a file above its limit.
            OfflineError: GFM401 for any other failure.
        """
        import requests
        import urllib3

        self.url = url
        again = (Broken, requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)
        with requests.Session() as session:
            for number in range(1, TRIES + 1):
                try:
                    self._try(session)
                    break
                except requests.exceptions.SSLError as error:
                    raise self.refused(f"no trusted connection: {_reason(error)}") from error
                except again as error:
                    if number == TRIES:
                        raise self.refused(f"{_reason(error)} ({TRIES} tries)") from error
                    time.sleep(PAUSE * 2 ** (number - 1))
                except requests.RequestException as error:  # an address that is not valid
                    raise self.refused(str(error)) from error
                except (DataError, OSError):  # too large, or the disk is full
                    self.drop()
                    raise
        self.sha256 = file_sha256(self.part)
        os.replace(self.part, output_file)
        self.drop()

    def refused(self, reason: str) -> OfflineError:
        """Return GFM401 with the address and how to get the file without this download."""
        what = f"cannot fetch {self.title}: {reason}"
        return OfflineError("GFM401", what, where=self.url, fix=self.by_hand)

    def drop(self) -> None:
        """Delete the bytes so far."""
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)

    def _try(self, session: Any) -> None:
        """Download the file once, continuing with the bytes so far if the server allows it."""
        from tqdm import tqdm

        have = self.part.stat().st_size if self.part.exists() and self.version.exists() else 0
        # Only an ETag or a date shows that the rest belongs to the same file.
        same = self.version.read_text(encoding="latin-1") if have else ""
        headers = {
            "User-Agent": "graphfm",
            "Accept-Encoding": "identity",  # hash and length are those of the file itself
        }
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": same}
        with self._answer(session, headers) as answer:
            have, total = self._begin(answer, have, same)
            if max(have, total or 0) > self.max_bytes:
                raise self._too_large(total)
            with (
                self.part.open("ab" if have else "wb") as file,
                tqdm(
                    desc=self.title,
                    initial=have,
                    total=total,
                    unit="B",
                    unit_scale=True,
                    leave=False,
                    disable=None,  # off when stderr is no terminal
                ) as bar,
            ):
                self.version.unlink(missing_ok=True)
                if version := _version(answer) or (same if have else ""):
                    self.version.write_text(version, encoding="latin-1")
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    have += len(chunk)
                    if have > self.max_bytes:
                        raise self._too_large(None)
                    file.write(chunk)
                    bar.update(len(chunk))
            ends = total is not None or "chunked" in answer.headers.get("Transfer-Encoding", "")
        if total is not None and have != total:
            raise Broken(f"the server sent {have:,} of {total:,} bytes")
        self._check(have, ends)

    def _answer(self, session: Any, headers: dict[str, str]) -> Any:
        """Return the answer at the end of all redirects, each of which must lead to https."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            if urlsplit(url).scheme != "https":
                raise self.refused(f"it leads to {url}, which is not https")
            answer = session.get(
                url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
            )
            target = session.get_redirect_target(answer)
            if target is None:
                return answer
            answer.close()
            url = urljoin(url, target)
        raise self.refused(f"more than {MAX_REDIRECTS} redirects")

    def _begin(self, answer: Any, have: int, same: str) -> tuple[int, int | None]:
        """Return the number of bytes to keep, and the size of the file if the server gives it."""
        status, headers = answer.status_code, answer.headers
        if have and status in (206, 416):
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
            changed = _version(answer) not in ("", same)
            if status == 416 or span is None or int(span[1]) != have or changed:
                self.drop()
                raise Broken("the file changed at its origin while it was fetched")
            return have, int(span[2])
        if status in (408, 429) or status >= 500:
            raise Broken(f"the server answers {status} {answer.reason}")
        if status != 200:
            raise self.refused(f"the server answers {status} {answer.reason}")
        encoding = headers.get("Content-Encoding", "identity")
        if encoding != "identity" and not self.url.endswith("gz"):  # for a .gz file
            raise self.refused(f"the server encodes it as {encoding}, which was not requested")
        if "text/html" in headers.get("Content-Type", "") and not self.title.endswith("html"):
            raise self._page()
        length = headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _check(self, have: int, ends: bool) -> None:
        """Refuse a complete answer that cannot be the file."""
        with self.part.open("rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        error = None
        if start.startswith((b"<!doctype html", b"<html")) and not self.title.endswith("html"):
            error = self._page()
        elif not have:
            error = self.refused("the server sends an empty file")
        elif self.must_be_whole and not ends:
            error = self.refused(
                f"the server sends {have:,} bytes without their total, and no hash is known, so "
                "the file may be incomplete"
            )
        if error:
            self.drop()
            raise error

    def _page(self) -> OfflineError:
        """Return the error for a web page in place of the file."""
        return self.refused("the server answers with a web page (a quota, or a login)")

    def _too_large(self, total: int | None) -> DataError:
        """Return the error for a file above its limit."""
        size = f"{total:,} bytes" if total else "more"
        return DataError(
            "GFM141",
            f"{self.title} may have {self.max_bytes:,} bytes, but the server sends {size}",
            where=self.url,
            fix="if the size is right, raise max_mb in the entry of the catalog",
        )


def _version(answer: Any) -> str:
    """Return the version of an answer: its ETag if that is strong, else its date."""
    etag: str = answer.headers.get("ETag", "")
    date: str = answer.headers.get("Last-Modified", "")
    return date if not etag or etag.startswith("W/") else etag


def _reason(error: BaseException) -> str:
    """Return the innermost reason of an error of requests or urllib3."""
    while True:
        first = error.args[0] if error.args else None
        inner = getattr(error, "reason", None) or first
        if not isinstance(inner, BaseException):
            return (first if isinstance(first, str) else str(error)).rpartition("): ")[2]
        error = inner
