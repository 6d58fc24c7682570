"""GraphBank: many graphs as one CSR on one device.

Shapes:
    G  graphs   N  nodes of all graphs   E  edges   P  columns of the positional encoding
    F  feature columns of one graph   R  rows asked for
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.features.prepare import PreparedGraph


class GraphBank:
    """All graphs of a run, resident on the device that trains.

    Nodes are numbered through; graph g owns nodes ``offset[g]:offset[g + 1]``. Graphs keep the
    order they came in, so that sorted node numbers are in the order of graphs.

    Structure and encodings are allocated once and every graph is copied into its place: beside the
    bank no more than one graph is in memory. Features and labels are one tensor a graph; on a CPU
    in float32 they are not copied at all: they stay where the cache maps them, in pages that all
    processes share.

    Features are dense. A sparse form would not pay: they are principal scores, and of the 43
    million entries of local-152 none is zero.

    Args:
        graphs: Prepared graphs with names that differ.
        raw: Raw multi-hop features by name, (n, R), of the graphs whose head reads them.
        scaling: How the raw columns were scaled, for a fitted model to keep.
        device: Where everything lies.
        dtype: Of features and encodings as stored; what is read of them is float32. float16 halves
            them. It fits: features are clipped at 8 and encodings stay below 150, so that it rounds
            to 5e-4 of the largest value; bfloat16 takes the same room and rounds 8 times coarser.
        pin: Features stay in the host's memory, for a bank that does not fit the device, and a
            batch's rows are gathered there. Page-locked where there is CUDA, so that rows travel
            while the device computes; torch rounds each locked block up to a power of two.

    Raises:
        DataError: GFM119 for two graphs of one name, GFM151 for a value that ``dtype`` cannot hold.
    """

    def __init__(
        self,
        graphs: Sequence[PreparedGraph],
        *,
        raw: Mapping[str, Tensor] | None = None,
        scaling: dict[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        pin: bool = False,
    ):
        self.names = tuple(g.name for g in graphs)
        if len(set(self.names)) != len(self.names):
            raise DataError("GFM119", "graphs of a bank must have names of their own")
        self.device, self.pin = torch.device(device), pin
        self.offset = [0]
        for graph in graphs:
            self.offset.append(self.offset[-1] + graph.num_nodes)
        num_edges = sum(len(g.col) for g in graphs)
        small = self.num_nodes < 2**31  # half the bytes of the largest array
        self.rowptr = torch.zeros(self.num_nodes + 1, dtype=torch.int64, device=device)
        self.col = torch.empty(
            num_edges, dtype=torch.int32 if small else torch.int64, device=device
        )
        columns = graphs[0].pe.shape[1]
        # Of a single graph they stay where the cache maps them: 1.4 GB of 10 million nodes.
        stays = len(graphs) == 1 and self.device.type == "cpu" and dtype == graphs[0].pe.dtype
        self.pe = (
            graphs[0].pe
            if stays
            else torch.empty(self.num_nodes, columns, dtype=dtype, device=device)
        )
        self.x: dict[str, Tensor] = {}
        self.y: dict[str, Tensor] = {}
        edges = 0
        for first, last, graph in zip(self.offset, self.offset[1:], graphs, strict=False):
            # Shifted in place: a sum of its own would be a second copy, and of 64-bit integers.
            self.rowptr[first + 1 : last + 1].copy_(graph.rowptr[1:]).add_(edges)
            self.col[edges : edges + len(graph.col)].copy_(graph.col).add_(first)
            if not stays:
                self.pe[first:last].copy_(graph.pe)
            _check_range(self.pe[first:last], graph.pe, graph.name)
            x = graph.x.to(dtype)
            _check_range(x, graph.x, graph.name)
            self.x[graph.name] = _on_host(x) if pin else x.to(device)
            if graph.y is not None:
                self.y[graph.name] = graph.y.to(device)
            edges += len(graph.col)
        self.scaling = scaling
        self.raw = {name: values.to(device) for name, values in (raw or {}).items()}
        self.keys = [stable_key(name) for name in self.names]  # on the host: reading is no wait
        self.graph_key = torch.tensor(self.keys, device=device)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.offset[-1]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def nbytes(self) -> dict[str, int]:
        """Bytes by part; with ``pin`` those of ``features`` are the host's."""
        parts = {
            "structure": [self.rowptr, self.col, self.graph_key],
            "encodings": [self.pe],
            "features": list(self.x.values()),
            "labels": list(self.y.values()),
            "raw": list(self.raw.values()),
        }
        return {name: sum(t.nbytes for t in tensors) for name, tensors in parts.items()}

    @property
    def num_bytes(self) -> int:
        """Of all parts together."""
        return sum(self.nbytes.values())

    def to(self, device: torch.device | str) -> GraphBank:
        """The same bank on another device; what already lies there is shared, not copied."""
        moved = copy.copy(self)
        moved.device = torch.device(device)
        moved.rowptr, moved.col = self.rowptr.to(device), self.col.to(device)
        moved.pe, moved.graph_key = self.pe.to(device), self.graph_key.to(device)
        moved.y = {name: y.to(device) for name, y in self.y.items()}
        moved.raw = {name: values.to(device) for name, values in self.raw.items()}
        if not self.pin:
            moved.x = {name: x.to(device) for name, x in self.x.items()}
        return moved

    def features(self, name: str, nodes: Tensor) -> Tensor:
        """Features of some nodes of a graph, on the bank's device.

        Args:
            name: Of the graph.
            nodes: (R,) int64, places in the graph; with ``pin`` on the host, where the rows are.

        Returns:
            (R, F) float32, or as stored where that is more exact.
        """
        table = self.x[name]
        if self.pin and self.device.type == "cuda":
            rows = torch.empty(len(nodes), table.shape[1], dtype=table.dtype, pin_memory=True)
            torch.index_select(table, 0, nodes, out=rows)
            return _exact(rows.to(self.device, non_blocking=True))  # half a row travels, if half
        return _exact(table.index_select(0, nodes))  # 1.6 times as fast as table[nodes] on a CPU

    def encodings(self, graph: int, nodes: Tensor) -> Tensor:
        """Encodings of some nodes of a graph: (R,) -> (R, P); see :meth:`features`."""
        table = self.pe[self.offset[graph] : self.offset[graph + 1]]
        return _exact(table.index_select(0, nodes))


def stable_key(name: str) -> int:
    """A signed 64-bit key that depends on the name alone, on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def _exact(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _on_host(x: Tensor) -> Tensor:
    return x.pin_memory() if torch.cuda.is_available() else x


def _check_range(stored: Tensor, given: Tensor, name: str) -> None:
    """A number above 65,504 becomes infinite in float16, and the loss NaN many steps later."""
    if stored.dtype == given.dtype or bool(stored.isfinite().all()):
        return
    raise DataError(
        "GFM151",
        f"a feature or encoding is not finite as {stored.dtype}".replace("torch.", ""),
        where=name,
        fix="keep the bank in float32",
    )
