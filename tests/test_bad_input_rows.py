"""The 62 rows of the table of bad input have 62 tests, each where this table says."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parent
NUM_ROWS = 62

# Row of the table -> the file of its test or tests, named row_NN_... or test_NN_...
LABELS, MACHINE = "test_bad_input_labels.py", "test_bad_input_machine.py"
MODELS, TABLES = "test_bad_input_models.py", "test_bad_input_tables.py"
ROWS = {
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25), TABLES),
    **dict.fromkeys((26, 36, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52), TABLES),
    **dict.fromkeys((7, 8, 9, 10, 19, 21, 27, 28, 30, 32, 37, 41, 42, 62), MODELS),
    **dict.fromkeys((29, 31, 33, 34, 35, 38, 39, 40), LABELS),
    **dict.fromkeys((53, 54, 55, 56, 57, 58, 59, 60), MACHINE),
}
# Rows whose test stands with what it tests, under another name.
ELSEWHERE = {
    61: ("test_finetune_limits.py", "test_a_graph_larger_than_memory_is_refused_with_numbers"),
}


def named_rows(path: Path) -> set[int]:
    """Numbers of the rows that the functions of a file are named after."""
    names = (n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef))
    parts = (name.split("_") for name in names)
    return {int(p[1]) for p in parts if p[0] in ("row", "test") and p[1].isdigit() and len(p) > 2}


def test_every_row_has_its_test() -> None:
    """Seen to fail with row_33 renamed."""
    assert sorted([*ROWS, *ELSEWHERE]) == list(range(1, NUM_ROWS + 1))
    found = {name: named_rows(TESTS / name) for name in set(ROWS.values())}
    missing = {row: name for row, name in ROWS.items() if row not in found[name]}
    assert not missing
    for name, test in ELSEWHERE.values():
        assert f"def {test}(" in (TESTS / name).read_text()


def test_every_row_is_run() -> None:
    """A ``row_`` function is a test only by the parameters at the end of its file."""
    for name in set(ROWS.values()):
        text = (TESTS / name).read_text()
        assert ("def row_" in text) == ('parametrize("row", rows_of(globals()))' in text), name
