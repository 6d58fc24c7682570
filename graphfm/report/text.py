"""Text of the user on a page: no control characters, limited length."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 120  # letters of a name that are shown


def plain(text: str) -> str:
    r"""Replace characters that a page must not show by U+FFFD.

    These are control characters, lone surrogates and marks that change the direction of text
    (U+202A to U+202E, U+2066 to U+2069): they could hide the real name. The caller escapes HTML.

    >>> plain("a\x00b")
    'a\ufffdb'
    """
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") or _changes_direction(c) else c
        for c in text
    )


def short(text: str) -> str:
    """Shorten a name to at most :data:`MAX_LENGTH` letters.

    >>> short("c" * 200) == "c" * 119 + "…"
    True
    """
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _changes_direction(letter: str) -> bool:
    return "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
