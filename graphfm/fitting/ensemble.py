"""Ensemble of several fits of one graph, which predicts the mean of their probabilities.

Members share the graph, the labels and the depth. They differ by their seed: neighbors, context,
dropout, order of nodes, and the signs of the feature axes (``Adapter.flip_signs``).

Shapes:
    M  members   Q  nodes   C  classes   D  width
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphfm.checkpoint.folder import Checkpoint
from graphfm.errors import CheckpointError
from graphfm.graphs.spec import GraphSpec
from graphfm.model.graphfm import GraphFM

STEM = "member_"  # files of a checkpoint: member_1.safetensors is the second member
SEED_STEP = 1_000_003  # between the seeds of members: those of `--seed 0` and `--seed 1` differ


class Ensemble(nn.Module):
    """Several fitted models as one; :mod:`graphfm.fitting.inference` computes its predictions.

    Args:
        members: Models fitted to the same graph, at least 1. The first is the fit without an
            ensemble.
    """

    def __init__(self, members: Sequence[GraphFM]):
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def first(self) -> GraphFM:
        """The first member."""
        member: GraphFM = self.members[0]  # type: ignore[assignment]
        return member

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.first.device

    @property
    def specs(self) -> dict[str, GraphSpec]:
        """Specification of the graph, by name."""
        return self.first.specs

    def head(self, name: str) -> Any:
        """Return the head of the first member; logits mean the same for all."""
        return self.first.head(name)

    def num_params(self) -> dict[str, int]:
        """Count the parameters of all members, by group."""
        first = self.first.num_params()
        return {name: count * len(self.members) for name, count in first.items()}


def members_of(model: GraphFM | Ensemble) -> list[GraphFM]:
    """Return the members of an ensemble, or the model itself as the only member."""
    return list(model.members) if isinstance(model, Ensemble) else [model]  # type: ignore[arg-type]


def join_members(members: Sequence[GraphFM]) -> GraphFM | Ensemble:
    """Join members to one model; a single member stays as it is."""
    return members[0] if len(members) == 1 else Ensemble(members)


def member_seed(seed: int, member: int) -> int:
    """Return the seed of a member; the first has the seed of the fit."""
    return seed + SEED_STEP * member


def split_members(model: GraphFM | Ensemble) -> tuple[GraphFM, dict[str, dict[str, Tensor]]]:
    """Return the first member, and by file stem the weights of each other that differ from it.

    At depth ``probe`` these are a head and the signs of an adapter, not a whole trunk.
    """
    first, *others = members_of(model)
    theirs = first.state_dict()
    more = {}
    for place, other in enumerate(others, start=1):
        # an equal member gives a file without tensors, so that it is counted
        more[f"{STEM}{place}"] = {
            name: weight.detach().cpu()
            for name, weight in other.state_dict().items()
            if not torch.equal(weight, theirs[name])
        }
    return first, more


def load_members(first: GraphFM, checkpoint: Checkpoint) -> GraphFM | Ensemble:
    """Load the other members from a verified checkpoint and join them with the first.

    Raises:
        CheckpointError: GFM302 for a member that cannot be read, GFM304 for weights that the model
            does not have.
    """
    members = [first]
    place = 1
    while (weights := checkpoint.tensors(f"{STEM}{place}")) is not None:
        member = copy.deepcopy(first)
        unknown = sorted(set(weights) - set(member.state_dict()))
        if unknown:
            raise CheckpointError(
                "GFM304",
                f"{len(unknown)} weights of a member do not match the shape in config.json",
                where=str(checkpoint.path / f"{STEM}{place}.safetensors"),
                why=", ".join(unknown[:5]),
            )
        member.load_state_dict({**first.state_dict(), **weights})
        members.append(member)
        place += 1
    return join_members(members)
