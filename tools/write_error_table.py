"""Write the table of error codes into docs/errors.md, from graphfm/cli/explanations.yaml.

python tools/write_error_table.py
"""

from __future__ import annotations

from pathlib import Path

from graphfm.cli.explain import explanations

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
MARK = "<!-- below: written by tools/write_error_table.py -->\n"


def error_table() -> str:
    """Return the codes and their titles as a Markdown table."""
    rows = [f"| {code} | {entry['title']} |" for code, entry in explanations().items()]
    return "\n".join(["| code | error |", "|---|---|", *rows, ""])


def main() -> None:
    """Replace the part of the page below the mark."""
    above = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(above + MARK + "\n" + error_table(), encoding="utf-8")


if __name__ == "__main__":
    main()
