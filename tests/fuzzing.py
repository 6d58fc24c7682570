"""Seeds of every reader, and the one property: a graph, or an error of ours."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.data import Data

from graphfm.errors import GraphFMError
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.files import read_file
from graphfm.graphs.readers.options import ReadOptions

EDGES = b"source,target,weight\n1,2,0.5\n2,3,1\n3,1,2\n"
NODES = b'id,label,size,born,side,split\n1,a,1.5,2020-01-01,n,train\n2,b,,,"s,x",val\n3,a,3,,n,\n'


def _saved(write: object, *args: object, **fields: object) -> bytes:
    file = io.BytesIO()
    write(file, *args, **fields)  # type: ignore[operator]
    return file.getvalue()


def seeds() -> dict[str, bytes]:
    """One small valid file for each reader, by the name it is read under."""
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, {0: 1.0, 1: 2.0, 2: 3.0}, "size")
    data = Data(
        x=torch.rand(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0, 1, 0])
    )
    arrays = {"edge_index": data.edge_index.numpy(), "x": data.x.numpy(), "y": data.y.numpy()}
    nodes = pa.table({"id": ["1", "2", "3"], "label": ["a", "b", "a"], "size": [1.0, None, 2.0]})
    return {
        "edges.csv": EDGES,
        "nodes.csv": NODES,
        "edges.csv.gz": gzip.compress(EDGES),
        "nodes.parquet": _saved(lambda file: pa.parquet.write_table(nodes, file)),
        "g.graphml": _saved(lambda file: nx.write_graphml(graph, file)),
        "g.gml": _saved(lambda file: nx.write_gml(graph, file)),
        "g.gexf": _saved(lambda file: nx.write_gexf(graph, file)),
        "g.npz": _saved(np.savez, **arrays),
        "a.npz": _saved(sparse.save_npz, sparse.csr_array(np.eye(3))),
        "a.npy": _saved(np.save, np.eye(3)),
        "g.pt": _saved(lambda file: torch.save(data, file)),
    }


def mutated(seed: bytes) -> st.SearchStrategy[bytes]:
    """Anything at all, or the seed with some pieces replaced, doubled or cut."""
    piece = st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"", b",", b"\n", b'"', b"\0", b"-1", b"nan", b"1e999", b"9" * 400, b"\xff"]
        ),
    )
    cut = st.tuples(st.integers(0, len(seed)), st.integers(0, 12), piece)

    def apply(cuts: list[tuple[int, int, bytes]]) -> bytes:
        content = seed
        for start, length, new in cuts:
            content = content[:start] + new + content[start + length :]
        return content

    return st.one_of(st.lists(cut, min_size=1, max_size=4).map(apply), st.binary(max_size=200))


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return a file with up to six cuts, copies, flipped bits or insertions, or random bytes."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(300))
    pieces = [b"", b",", b"\n", b'"', b"\0", b"-1", b"nan", b"1e999", b"9" * 400, b"\xff",
              b"\xef\xbb\xbf",
              b"2147483648", b"9223372036854775807", b"<", b"&", b"[", b"{", b";"]  # fmt: skip
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(content) + 1)
        way = rng.randrange(4)
        if way == 0:
            content = content[:at] + rng.choice(pieces) + content[at + rng.randrange(10) :]
        elif way == 1 and at < len(content):
            content = (
                content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            )
        elif way == 2:
            content = content[:at] + content[at : at + rng.randrange(40)] + content[at:]
        else:
            content = content[:at] + rng.randbytes(rng.randrange(6)) + content[at:]
    return content[:20_000]


def read_bytes(folder: Path, name: str, content: bytes) -> Graph | GraphFMError:
    """Read a file that holds this; what is not its business is valid."""
    files = {"edges.csv": EDGES, name: content} if name.startswith("nodes") else {name: content}
    for old in folder.iterdir():
        old.unlink()
    for file, text in files.items():
        (folder / file).write_bytes(text)
    nodes = folder / name if name.startswith("nodes") else None
    path = folder / ("edges.csv" if nodes else name)
    options = ReadOptions(nodes=nodes, target="label", need_target=False, unknown_nodes="add")
    try:
        graph = read_file(path, options).graph
    except GraphFMError as error:
        return error
    assert isinstance(graph, Graph)
    return graph
