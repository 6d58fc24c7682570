"""Descriptions of graphs and tasks, known before a graph is read."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Task = Literal["auto", "classify", "regress"]
"""Kind of the labels; ``auto`` = a continuous target if they are numbers with fractions."""

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskSpec(_Spec):
    """Kind of the labels and number of classes."""

    kind: Literal["classify", "multilabel", "regress"] = "classify"
    """Head of the model: one class of several, any number of labels, or one number."""
    num_classes: int = Field(ge=0)
    """Number of classes, or of labels; 1 for a number."""


class GraphSpec(_Spec):
    """Sizes of a graph that a model needs for its adapter and head: ``model.add_graph(spec)``."""

    name: str
    """Id of the dataset, which is the key of its adapter and its head."""
    num_features: int = Field(ge=0)
    """Number of columns of the transformed features; 0 without features."""
    task: TaskSpec
    num_raw: int = Field(default=0, ge=0)
    """Number of multi-hop feature columns that the head reads beside the state; pretraining: 0."""
    num_experts: int = Field(default=1, ge=1)
    """Number of experts that the head pools, itself included; above 1 only for ``classify``."""

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
    """Other names of the same data."""
    source: dict[str, Any]
    """Reader: ``kind`` names a file of ``graphs/catalog/sources``; the rest are its arguments."""
    origin: dict[str, Any] | None = None
    """Another source of the same graph, fetched if the raw files of ``source`` are missing."""
    task: Literal["classify", "multilabel"] = "classify"
    split: str = "none"
    """Name of the split that the data comes with."""
    domain: str
    group: str
    """Graphs of one group share nodes or features; they are never on both sides of a split."""
    role: Literal["pretraining", "evaluation"] = "pretraining"
    size: Literal["regular", "large"] = "regular"
    """``large``: too large to prepare in 24 GiB of memory."""
    license: str = "unknown"
    citation: str = ""
    num_nodes: int | None = Field(ge=1)
    num_edges: int | None = Field(ge=0)
    """Number of edges, where an undirected edge counts twice as in :attr:`Graph.num_edges`."""
    num_features: int | None = Field(ge=0)
    num_classes: int | None = Field(ge=0)
    counts: Literal["measured", "published"] = "measured"
    """``published``: taken from a paper or package, never loaded by us; None = not known."""
    personal: bool = False
    """True if rows are attributes of people."""
    notes: str = ""

    @field_validator("id", "group")
    @classmethod
    def _is_id(cls, name: str) -> str:
        return GraphSpec._is_id(name)

    @model_validator(mode="after")
    def _measured_is_known(self) -> DatasetSpec:
        if self.counts == "measured" and None in self.count.values():
            raise ValueError("measured counts must be given; without them, set counts: published")
        return self

    @property
    def count(self) -> dict[str, int | None]:
        """Numbers of nodes, edges, features and classes."""
        fields = ("num_nodes", "num_edges", "num_features", "num_classes")
        return {field: getattr(self, field) for field in fields}

    @property
    def synthetic(self) -> bool:
        """True if a generator made the graph."""
        return self.domain.startswith("synthetic")
