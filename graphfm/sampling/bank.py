"""GraphBank: many graphs as one CSR on one device.

Shapes:
    G  graphs   N  nodes of all graphs   E  edges   P  columns of the positional encoding
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.prepare import PreparedGraph


class GraphBank:
    """All graphs of a run, resident on the device that trains.

    Nodes are numbered through; graph g owns nodes ``offset[g]:offset[g + 1]``. Graphs keep the
    order they came in, so that sorted node numbers are in the order of graphs.

    Args:
        graphs: Prepared graphs with names that differ.
        raw: Raw multi-hop features by name, (n, R), of the graphs whose head reads them.
        device: Where everything lies.
    """

    def __init__(
        self,
        graphs: Sequence[PreparedGraph],
        *,
        raw: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
    ):
        self.names = tuple(g.name for g in graphs)
        if len(set(self.names)) != len(self.names):
            raise DataError("GFM119", "graphs of a bank must have names of their own")
        self.offset = [0]
        starts, rowptrs, cols = 0, [torch.zeros(1, dtype=torch.int64)], []
        for graph in graphs:
            rowptrs.append(graph.rowptr[1:] + starts)
            cols.append(graph.col + self.offset[-1])
            starts += len(graph.col)
            self.offset.append(self.offset[-1] + graph.num_nodes)
        small = self.offset[-1] < 2**31  # half the bytes of the largest array
        self.rowptr = torch.cat(rowptrs).to(device)
        self.col = torch.cat(cols).to(torch.int32 if small else torch.int64).to(device)
        self.pe = torch.cat([g.pe for g in graphs]).to(device)
        self.x = {g.name: g.x.to(device) for g in graphs}
        self.y = {g.name: g.y.to(device) for g in graphs if g.y is not None}
        self.raw = {name: values.to(device) for name, values in (raw or {}).items()}
        self.graph_key = torch.tensor([stable_key(name) for name in self.names], device=device)
        self.device = torch.device(device)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.offset[-1]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_bytes(self) -> int:
        """Of everything on the device."""
        tensors = [self.rowptr, self.col, self.pe, *self.x.values(), *self.y.values()]
        return sum(t.numel() * t.element_size() for t in (*tensors, *self.raw.values()))


def stable_key(name: str) -> int:
    """A signed 64-bit key that depends on the name alone, on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)
