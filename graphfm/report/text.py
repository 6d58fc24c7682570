"""User's words on a page: no control characters, no end of a thousand letters."""

from __future__ import annotations

import unicodedata

LONGEST = 120  # letters of a name that are shown


def plain(text: str) -> str:
    r"""A text that can stand on a page; what cannot be shown becomes U+FFFD.

    Control characters, lone surrogates and the marks that turn the direction of what follows
    (U+202A to U+202E, U+2066 to U+2069) could hide what a name really is. Escaping for HTML is
    another matter, and is done by whoever writes the page.

    >>> plain("a\x00b")
    'a\ufffdb'
    """
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") or _turns(c) else c for c in text
    )


def short(text: str) -> str:
    """A name of at most :data:`LONGEST` letters.

    >>> short("c" * 200) == "c" * 119 + "…"
    True
    """
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _turns(letter: str) -> bool:
    return "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
