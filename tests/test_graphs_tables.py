"""Tables are read as they stand: text as text, each row on its line, types by all rows."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.readers import frames, textfiles
from graphfm.graphs.readers.columns import encode, plan_columns, plan_from_json, plan_to_json
from graphfm.graphs.readers.frames import read_frame
from graphfm.graphs.readers.open_table import open_table


def table_of(folder: Path, text: str, name: str = "t.csv"):
    (folder / name).write_text(text)
    return open_table(folder / name)


def features_of(folder: Path, text: str, plan=None):
    table = table_of(folder, text)
    names = table.names[1:]
    words = [column.name for column in plan or () if column.kind == "category"]
    frame = read_frame(table, names, text=words)
    plan = plan_columns(frame) if plan is None else plan
    x = encode(frame, plan)
    return plan, x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("delimiter", list(textfiles.DELIMITERS))
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    """Beside cells that hold others of them. Seen to fail with the first that cuts at all."""
    other = ";" if delimiter == "," else ","
    text = "\n".join(
        delimiter.join(row) for row in (("id", "p"), (f'"a{other}b"', "1"), ("c", "2"))
    )
    table = table_of(tmp_path, text)
    assert table.delimiter == delimiter and table.names == ("id", "p")
    assert table.text(["id"])["id"].to_pylist() == [f"a{other}b", "c"]


def test_comments_blank_lines_and_no_header(tmp_path: Path) -> None:
    """As SNAP's files are. Seen to fail with the first line taken for a header."""
    table = table_of(tmp_path, "# Nodes: 3\n# FromNodeId\tToNodeId\n\n0\t1\n1\t2\n\n2\t0\n")
    assert not table.has_header and len(table.names) == 2
    assert table.text(table.names).column(0).to_pylist() == ["0", "1", "2"]
    assert table.lines([0, 1, 2]) == [4, 5, 7]


def test_lines_count_line_breaks_in_cells(tmp_path: Path) -> None:
    table = table_of(tmp_path, 'id,p\n"a\nb",1\nc,2\n\nd,3\n')
    assert table.lines([1, 2]) == [4, 6]


def test_a_type_that_later_rows_do_not_keep(tmp_path: Path, monkeypatch) -> None:
    """Numbers at first, text in the end. Seen to fail without a second look: GFM103."""
    for module in ("open_table", "tables", "textfiles"):
        monkeypatch.setattr(f"graphfm.graphs.readers.{module}.SAMPLE_BYTES", 200)
    rows = [f"n{i},{i},{i % 2}" for i in range(200)]
    odd = [f"m{i},x,1" for i in range(20)]
    frame = read_frame(table_of(tmp_path, "\n".join(["id,a,b", *rows, *odd])), ["a", "b"])
    assert frame.kinds == {"a": "category", "b": "number"} and frame.num_rows == 220
    rows.append("m,7.5,")
    frame = read_frame(table_of(tmp_path, "\n".join(["id,a,b", *rows])), ["a", "b"])
    assert frame.numbers[-1][0] == 7.5 and np.isnan(frame.numbers[-1][1])


def test_numbers_are_rounded_to_float32_once(tmp_path: Path) -> None:
    """The text of a float32 gives just this float32 back."""
    x = np.random.default_rng(0).normal(size=500).astype(np.float32)
    x = np.concatenate([x, np.float32([1e-45, 3.4028235e38, 16777217, 0.1, -0.0])])
    text = "\n".join(["id,x", *(f"{i},{v!s}" for i, v in enumerate(x))])
    assert (read_frame(table_of(tmp_path, text), ["x"]).numbers[:, 0] == x).all()


@pytest.mark.parametrize("share", [0.02, 0.6])
def test_wide_tables_are_the_same_sparse_or_dense(tmp_path: Path, monkeypatch, share) -> None:
    """In several batches, with gaps. Seen to fail with the mean taken over all rows."""
    monkeypatch.setattr("graphfm.graphs.readers.tables.BLOCK_BYTES", 20_000)
    rng = np.random.default_rng(0)
    x = np.where(rng.random((150, 200)) < share, rng.integers(1, 9, (150, 200)), 0).astype(float)
    x[3, 5] = x[70, 5] = x[9, 11] = np.nan
    rows = [f"n{i}," + ",".join("" if np.isnan(v) else f"{v:g}" for v in x[i]) for i in range(150)]
    text = "\n".join(["id," + ",".join(f"x{i}" for i in range(200)), *rows])
    _, read = features_of(tmp_path, text)
    monkeypatch.setattr(frames, "WIDE", 10**6)
    _, dense = features_of(tmp_path, text)
    assert read.shape == (150, 202)
    np.testing.assert_array_equal(read, dense)
    assert read[3, 5] == np.float32(np.nanmean(x[:, 5])) and read[3, 6] == 1


def test_a_plan_gives_the_same_features_for_a_row_of_another_table(tmp_path: Path, caplog) -> None:
    """Whatever else is in the table. Seen to fail with levels and means of the new one."""
    text = "id,side,size,born\na,n,1,2020-01-01\nb,s,,2020-01-02\nc,n,5,2020-01-03\nd,,2,\n"
    plan, x = features_of(tmp_path, text)
    plan = plan_from_json(plan_to_json(plan))
    _, again = features_of(tmp_path, "id,born,size,side\nc,2020-01-03,5,n\nz,,,w\n", plan)
    np.testing.assert_array_equal(again[0], x[2])
    assert again[1].tolist() == [0, 0, 0, np.float32(8 / 3), 1, np.float32(18263), 1]
    assert "1 of 2 values of 'side' were not seen at the fit" in caplog.text
    with pytest.raises(DataError, match=r"GFM130(.|\n)*born"):
        features_of(tmp_path, "id,side,size\na,n,1\n", plan)
    with pytest.raises(DataError, match="GFM130.*'size' was a number"):
        features_of(tmp_path, "id,side,size,born\na,n,big,2020-01-01\n", plan)


@pytest.mark.parametrize("cells", ["1,,2,,3,4", "yes,no,,yes,no,no", "2020-01-01,,2020-01-03,,,",
                                   "a,b,a,b,,a"])  # fmt: skip
@pytest.mark.parametrize("wide", [0, 10**6])
def test_a_column_that_is_empty_only_here_is_named_once(
    tmp_path: Path, caplog, monkeypatch, cells: str, wide: int
) -> None:
    """At predict time. Seen to fail: nothing was said, and every row got the mean."""
    monkeypatch.setattr(frames, "WIDE", wide)
    text = "id,odd,even\n" + "\n".join(f"n{i},{c},{i % 2}" for i, c in enumerate(cells.split(",")))
    plan, _ = features_of(tmp_path, text)
    assert "are empty here" not in caplog.text
    features_of(tmp_path, "id,odd,even\nx,,1\ny,,0\n", plan)
    assert caplog.text.count("are empty here") == 1
    assert (
        "1 columns had values at the fit and are empty here" in caplog.text and "odd" in caplog.text
    )
    caplog.clear()
    features_of(tmp_path, text, plan)
    assert "are empty here" not in caplog.text


def test_parquet_and_gzip_read_as_csv_does(tmp_path: Path) -> None:
    text = "id,a,b,c\n007,1.5,true,2020-01-01\n8,,false,\nx,2,,2021-06-01\n"
    table = table_of(tmp_path, text)
    wanted = read_frame(table, ["a", "b", "c"])
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    columns = pa.csv.read_csv(tmp_path / "t.csv")
    columns = columns.set_column(0, "id", pa.array(["007", "8", "x"]))
    pa.parquet.write_table(columns, tmp_path / "t.parquet")
    for name in ("t.csv.gz", "t.parquet"):
        other = open_table(tmp_path / name)
        assert other.text(["id"])["id"].to_pylist() == ["007", "8", "x"]
        frame = read_frame(other, ["a", "b", "c"])
        assert frame.kinds == wanted.kinds
        np.testing.assert_array_equal(frame.numbers, wanted.numbers)


def test_lists_in_parquet_are_refused_by_name(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"id": ["a"], "v": [[1, 2]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="GFM110.*'v'"):
        read_frame(open_table(tmp_path / "t.parquet"), ["v"])
