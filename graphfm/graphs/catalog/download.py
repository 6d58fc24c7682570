"""One file over HTTPS: resumed where it broke off, never larger than its cap, and whole.

This is a downloader as ``pooch.retrieve`` takes one. pooch's own begins again after a break,
follows a redirect to http, has no cap, and undoes a compression before it hashes.
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
"""Seconds before the second try; twice as long before each further one."""
TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and to wait for the next bytes."""
MAX_REDIRECTS = 10
CHUNK = 1 << 16


class Broken(Exception):
    """What another try may mend."""


class Download:
    """Fetch one address; call it as pooch does.

    Args:
        part: Where the file grows. It stays after a break, for the next run to go on with.
        title: What the bar is called.
        max_bytes: More than this is refused, as soon as it is told or has come.
        must_be_whole: Refuse a body of which the server does not say where it ends: nothing else
            would show that it is all of it.
        by_hand: How to do without the network, for the error.
    """

    def __init__(
        self, part: Path, *, title: str, max_bytes: int, must_be_whole: bool, by_hand: str
    ):
        self.part, self.title, self.max_bytes = part, title, max_bytes
        self.must_be_whole, self.by_hand = must_be_whole, by_hand
        self.version = part.with_name(part.name + ".version")  # the ETag or date of what has come
        self.url = ""
        self.sha256 = ""
        """Of what has come."""

    def __call__(self, url: str, output_file: str, pooch: Any = None) -> None:
        """Fetch the address to a file.

        Raises:
            DataError: GFM141 for a file that is larger than its cap.
            OfflineError: GFM401 for anything that keeps the file from coming whole.
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
                except requests.RequestException as error:  # an address that cannot be
                    raise self.refused(str(error)) from error
                except (DataError, OSError):  # too large, or the disk is full
                    self.drop()
                    raise
        self.sha256 = file_sha256(self.part)
        os.replace(self.part, output_file)
        self.drop()

    def refused(self, reason: str) -> OfflineError:
        """GFM401, with the address and how to do without."""
        what = f"cannot fetch {self.title}: {reason}"
        return OfflineError("GFM401", what, where=self.url, fix=self.by_hand)

    def drop(self) -> None:
        """Forget what has come so far."""
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)

    def _try(self, session: Any) -> None:
        from tqdm import tqdm

        have = self.part.stat().st_size if self.part.exists() and self.version.exists() else 0
        # Without an ETag or a date nothing tells whether the rest belongs to the same file.
        same = self.version.read_text(encoding="latin-1") if have else ""
        headers = {
            "User-Agent": "graphfm",
            "Accept-Encoding": "identity",  # the hash and the length are those of the file itself
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
            raise Broken(f"{have:,} of {total:,} bytes came")
        self._look(have, ends)

    def _answer(self, session: Any, headers: dict[str, str]) -> Any:
        """The answer at the end of all redirects, each of which is looked at before it is taken."""
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
        """Bytes to keep of those we have, and how many there are in all if the server says."""
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
        if encoding != "identity" and not self.url.endswith("gz"):  # some call a .gz so
            raise self.refused(f"it comes encoded as {encoding}, which was not asked for")
        if "text/html" in headers.get("Content-Type", "") and not self.title.endswith("html"):
            raise self._page()
        length = headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _look(self, have: int, ends: bool) -> None:
        """Refuse what came whole but cannot be the file."""
        with self.part.open("rb") as file:
            start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        error = None
        if start.startswith((b"<!doctype html", b"<html")) and not self.title.endswith("html"):
            error = self._page()
        elif not have:
            error = self.refused("the server sends an empty file")
        elif self.must_be_whole and not ends:
            error = self.refused(
                f"the server sends {have:,} bytes and not whether that is all, and there is no "
                "hash to tell"
            )
        if error:
            self.drop()
            raise error

    def _page(self) -> OfflineError:
        return self.refused("the server answers with a web page (a quota, or a login)")

    def _too_large(self, total: int | None) -> DataError:
        size = f"{total:,} bytes" if total else "more"
        return DataError(
            "GFM141",
            f"{self.title} may have {self.max_bytes:,} bytes, and the server sends {size}",
            where=self.url,
            fix="if that is right, raise max_mb in the entry of the catalog",
        )


def _version(answer: Any) -> str:
    """What tells this content of an address from another: its ETag if it is strong, or its date."""
    etag: str = answer.headers.get("ETag", "")
    date: str = answer.headers.get("Last-Modified", "")
    return date if not etag or etag.startswith("W/") else etag


def _reason(error: BaseException) -> str:
    """What went wrong, out of the layers that requests and urllib3 put around it."""
    while True:
        first = error.args[0] if error.args else None
        inner = getattr(error, "reason", None) or first
        if not isinstance(inner, BaseException):
            return (first if isinstance(first, str) else str(error)).rpartition("): ")[2]
        error = inner
