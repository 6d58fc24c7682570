"""Mixtures: sets of graphs of the catalog, with a weight for each graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from graphfm.graphs.spec import DatasetSpec


class Selector(BaseModel):
    """Filter of catalog entries; each field that is given must match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = "*"
    """Glob of ids."""
    role: Literal["pretraining", "evaluation"] | None = None
    domain: str | None = None
    group: str | None = None
    source: str | None = None
    """Kind of the source."""
    personal: bool | None = None
    synthetic: bool | None = None
    judged: bool | None = None
    """True: groups with an evaluation graph only; false: other groups only."""
    size: Literal["regular", "large"] | None = None
    max_nodes: int | None = Field(default=None, ge=1)
    first: int | None = Field(default=None, ge=1)
    """Number of matches to keep, in catalog order. Default: all."""

    def fits(self, entry: DatasetSpec, judged_groups: Collection[str]) -> bool:
        """Return true if an entry matches all fields except ``first``."""
        if self.max_nodes is not None and (entry.num_nodes or self.max_nodes + 1) > self.max_nodes:
            return False
        have = {
            "role": entry.role,
            "domain": entry.domain,
            "group": entry.group,
            "source": entry.source.get("kind"),
            "personal": entry.personal,
            "synthetic": entry.synthetic,
            "judged": entry.group in judged_groups,
            "size": entry.size,
        }
        wanted = {field: getattr(self, field) for field in have}
        return fnmatch(entry.id, self.id) and all(
            value is None or value == have[field] for field, value in wanted.items()
        )


class Mixture(BaseModel):
    """One entry of ``mixtures:``: its graphs and their weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = ""
    include: tuple[str | Selector, ...] = Field(min_length=1)
    """Ids, globs and selectors."""
    exclude: tuple[str | Selector, ...] = ()
    weight: str = Field(default="size^0.5", pattern=r"^size\^[0-9.]+$")
    """``size^p``: the weight of a graph is the p-th power of its number of nodes."""

    def weigh(self, entries: Mapping[str, DatasetSpec]) -> dict[str, float]:
        """Return the weight of each graph; an unknown size counts as the median of known sizes."""
        sizes = {id: entry.num_nodes for id, entry in entries.items()}
        known = [size for size in sizes.values() if size]
        usual = median(known) if known else 1
        power = float(self.weight.removeprefix("size^"))
        return {id: float(size or usual) ** power for id, size in sizes.items()}
