"""Packed files of a person: what unpacks to far more than its size is refused before it is read."""

import bz2
import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphfm.errors import DataError
from graphfm.graphs import packed
from graphfm.graphs.inputs import read_graph
from graphfm.graphs.packed import check_packed

PAIR = b"source,target\na,b\nb,c\n"
GRAPHML = b"<graphml><graph edgedefault='undirected'><node id='a'/></graph>%s</graphml>"


def gz(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def npz(path: Path, arrays: dict[str, np.ndarray], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return path


def bombs(folder: Path) -> list[Path]:
    """Write files of some kB that unpack to more than a thousand times as much."""
    blank = b" " * 4_000_000
    edges = {"edge_index": np.array([[0, 1], [1, 2]]), "x": np.zeros((3, 400_000))}
    return [
        gz(folder / "a.csv.gz", PAIR + blank),
        gz(folder / "a.txt.gz", PAIR + blank),
        gz(folder / "a.jsonl.gz", b'{"source": 1, "target": 2}\n' + blank),
        gz(folder / "a.mtx.gz", b"%%MatrixMarket matrix coordinate pattern general\n" + blank),
        gz(folder / "a.graphml.gz", GRAPHML % blank),
        gz(folder / "a.gexf.gz", b"<gexf>" + blank + b"</gexf>"),
        gz(folder / "a.gml.gz", b"graph [" + blank + b"]"),
        gz(folder / "a.json.gz", json.dumps({"nodes": [], "edges": []}).encode() + blank),
        npz(folder / "a.npz", edges, zipfile.ZIP_BZIP2),
    ]


def test_every_reader_refuses_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail: each was unpacked as a whole."""
    for path in bombs(tmp_path):
        with pytest.raises(DataError, match="GFM141.*1000 times") as caught:
            read_graph(str(path))
        assert "GRAPHFM_MAX_RATIO" in caught.value.fix and str(path) in caught.value.where
    nodes = gz(tmp_path / "nodes.csv.gz", b"id,x\na,1\n" + b"\n" * 4_000_000)
    edges = tmp_path / "edges.csv"
    edges.write_bytes(PAIR)
    from graphfm.graphs.readers.options import ReadOptions

    with pytest.raises(DataError, match="GFM141"):
        read_graph(str(edges), options=ReadOptions(nodes=nodes))


def test_the_ratio_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHFM_MAX_RATIO", "2000")
    path = gz(tmp_path / "a.csv.gz", PAIR + b"\n" * 4_000_000)
    assert read_graph(str(path)).graph.num_nodes == 3
    for wrong in ("-1", "many", "0", ""):
        monkeypatch.setenv("GRAPHFM_MAX_RATIO", wrong)
        with pytest.raises(DataError, match="must be a whole number"):
            read_graph(str(path))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000), ratio=st.integers(1, 60), repeat=st.integers(1, 40))
def test_exactly_what_is_above_the_ratio_is_refused(
    tmp_path: Path, content: bytes, ratio: int, repeat: int
) -> None:
    path = gz(tmp_path / "any.gz", content * repeat)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "HARMLESS", 0)
        patch.setattr(packed, "PIECE", 64)
        patch.setenv("GRAPHFM_MAX_RATIO", str(ratio))
        if len(content) * repeat > ratio * path.stat().st_size:
            with pytest.raises(DataError, match="GFM141"):
                check_packed(path)
        else:
            check_packed(path)


def test_what_is_small_damaged_or_plain_is_left_to_its_reader(tmp_path: Path) -> None:
    files = {
        "small.gz": gzip.compress(b" " * 900_000),
        "cut.gz": gzip.compress(np.random.default_rng(0).bytes(5000))[:3000],
        "cut.npz": b"PK\x03\x04 and no more",
        "plain.gz": PAIR,
        "bzip2.gz": bz2.compress(b" " * 4_000_000),
        "empty.gz": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        check_packed(tmp_path / name)
