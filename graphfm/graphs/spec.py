"""What is known of a graph before it is read."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskSpec(_Spec):
    """What there is to predict about a node."""

    kind: Literal["classify", "multilabel"] = "classify"
    """The head that does it: one class of several, or any number of labels."""
    num_classes: int = Field(ge=0)
    """Classes, or labels."""


class GraphSpec(_Spec):
    """What a model must know of a graph to take it in: ``model.add_graph(spec)``."""

    name: str
    """Id of the dataset: the key of its adapter and its head."""
    num_features: int = Field(ge=0)
    """Columns of the transformed features, 0 without features."""
    task: TaskSpec
    num_raw: int = Field(default=0, ge=0)
    """Columns of raw multi-hop features that the head reads beside the state; 0 in pretraining."""

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
    source: dict[str, Any]
    """Where it comes from: ``kind`` names a file of ``graphs/sources``, the rest its arguments."""
    task: Literal["classify", "multilabel"] = "classify"
    domain: str
    group: str
    """Graphs of one group share nodes or a feature space: never on both sides of a split."""
    role: Literal["pretraining", "evaluation"] = "pretraining"
    license: str = "unknown"
    citation: str = ""
    num_nodes: int = Field(ge=1)
    num_edges: int = Field(ge=0)
    num_features: int = Field(ge=0)
    num_classes: int = Field(ge=0)
    personal: bool = False
    """Rows are people's attributes."""
    notes: str = ""

    @field_validator("id")
    @classmethod
    def _is_id(cls, name: str) -> str:
        return GraphSpec._is_id(name)
