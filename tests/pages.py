"""Reads a page of HTML and says what is out of order."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page, and notes whatever is out of order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.faults.append(f"{tag}: an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"a comment: {data[:40]}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    if reader.open:
        reader.faults.append(f"not closed: {reader.open}")
    return reader


def faults_of(html: str) -> list[str]:
    """What a page that loads nothing and runs nothing must not have."""
    reader = read(html)
    faults = list(reader.faults)
    ids = [a["id"] for _, a in reader.tags if a.get("id")]
    for tag, attrs in reader.tags:
        if tag in ("script", "iframe", "object", "embed", "form", "base", "img"):
            faults.append(f"<{tag}>")
        for name, value in attrs.items():
            if name.startswith("on") or name == "style" or name.startswith("xlink"):
                faults.append(f"<{tag} {name}=...>")
            inside = (value or "").startswith("#") and (value or "")[1:] in ids
            if name in ("src", "href") and not inside and value != "data:,":
                faults.append(f"<{tag} {name}={value}>")
            if name == "aria-labelledby" and value not in ids:
                faults.append(f"no id {value}")
    if len(ids) != len(set(ids)):
        faults.append("an id twice")
    return faults
