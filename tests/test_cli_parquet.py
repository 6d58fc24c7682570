"""Parquet and CSV output have the same rows; ids are text in both."""

import csv
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.test_cli import ran


def test_predictions_and_states_as_parquet_are_those_of_the_csv(tmp_path: Path) -> None:
    """Seen to fail (ids became numbers) without a list of text columns."""
    out = tmp_path / "fit"
    ran("finetune", "--graph", "karate-club", "--tune", "probe", "--out", out)
    for command, more in (("predict", ["--proba", "--coverage", "0.8"]), ("embed", [])):
        rows = []
        for suffix in ("csv", "parquet"):
            path = tmp_path / f"{command}.{suffix}"
            ran(command, "--model", out, "--graph", "karate-club", "--out", path, *more)
            if suffix == "csv":
                with path.open(newline="") as file:
                    rows.append(list(csv.DictReader(file)))
            else:
                rows.append(pyarrow.parquet.read_table(path).to_pylist())
        assert len(rows[0]) == len(rows[1]) == 34 and list(rows[0][0]) == list(rows[1][0])
        for text, typed in zip(*rows, strict=True):
            assert isinstance(typed["id"], str)
            for name, value in typed.items():
                is_float = isinstance(value, float)
                same = is_float and float(text[name]) == pytest.approx(value, rel=1e-5, abs=1e-9)
                assert same or str(value).lower() == text[name].lower()
    assert not list(tmp_path.glob(".*"))
