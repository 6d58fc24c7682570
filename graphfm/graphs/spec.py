"""What is known of a graph before it is read."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Task = Literal["auto", "classify", "regress"]
"""What a user says of labels; ``auto``: numbers with fractions are a continuous target."""

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskSpec(_Spec):
    """What there is to predict about a node."""

    kind: Literal["classify", "multilabel", "regress"] = "classify"
    """The head that does it: one class of several, any number of labels, or one number."""
    num_classes: int = Field(ge=0)
    """Classes, or labels; 1 for a number."""


class GraphSpec(_Spec):
    """What a model must know of a graph to take it in: ``model.add_graph(spec)``."""

    name: str
    """Id of the dataset: the key of its adapter and its head."""
    num_features: int = Field(ge=0)
    """Columns of the transformed features, 0 without features."""
    task: TaskSpec
    num_raw: int = Field(default=0, ge=0)
    """Columns of raw multi-hop features that the head reads beside the state; 0 in pretraining."""
    num_experts: int = Field(default=1, ge=1)
    """Closed-form experts whose answers the head pools, itself counted; only for ``classify``."""

    @field_validator("name")
    @classmethod
    def _is_id(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"must be lower-case letters, digits and hyphens, got {name!r}")
        return name


class DatasetSpec(_Spec):
    """One entry of the catalog."""

    id: str
    title: str
    aliases: tuple[str, ...] = ()
    """Other names by which the same data is known."""
    source: dict[str, Any]
    """How it is read: ``kind`` names a file of ``graphs/sources``, the rest its arguments."""
    origin: dict[str, Any] | None = None
    """Another source of the same graph, fetched where the raw files of ``source`` are not here."""
    task: Literal["classify", "multilabel"] = "classify"
    split: str = "none"
    """The masks it comes with."""
    domain: str
    group: str
    """Graphs of one group share nodes or a feature space: never on both sides of a split."""
    role: Literal["pretraining", "evaluation"] = "pretraining"
    size: Literal["regular", "large"] = "regular"
    """Large: too large to prepare on one machine with 24 GiB."""
    license: str = "unknown"
    citation: str = ""
    num_nodes: int | None = Field(ge=1)
    num_edges: int | None = Field(ge=0)
    """As :attr:`Graph.num_edges` counts them: an undirected edge twice."""
    num_features: int | None = Field(ge=0)
    num_classes: int | None = Field(ge=0)
    counts: Literal["measured", "published"] = "measured"
    """Published: as a paper or a package says, never loaded by us; None = not said."""
    personal: bool = False
    """Rows are people's attributes."""
    notes: str = ""

    @field_validator("id", "group")
    @classmethod
    def _is_id(cls, name: str) -> str:
        return GraphSpec._is_id(name)

    @model_validator(mode="after")
    def _measured_is_known(self) -> DatasetSpec:
        if self.counts == "measured" and None in self.count.values():
            raise ValueError("counts that are measured must be given; else counts: published")
        return self

    @property
    def count(self) -> dict[str, int | None]:
        """Nodes, edges, features and classes."""
        fields = ("num_nodes", "num_edges", "num_features", "num_classes")
        return {field: getattr(self, field) for field in fields}

    @property
    def synthetic(self) -> bool:
        """Drawn by a generator, not observed."""
        return self.domain.startswith("synthetic")
