"""Names of the models of a benchmark.

probe adapter decoder full auto   the pretrained model; the name says which parts are fitted
DEPTH-random                      control: the same model with random weights
probe-alone, decoder-random-alone model and raw features without the pool of experts
states, states-random             linear model on the node states alone, without raw features
DEPTH-200, DEPTH-random-200, ...  at most 200 gradient steps instead of ``--steps``
gcn, sage, ...                    a peer of ``graphfm.baselines.peers`` with default settings
gcn-tuned, sage-tuned, ...        the same after a random search on validation nodes
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphfm.baselines.peers import PEERS, TUNED
from graphfm.config.parts import did_you_mean
from graphfm.errors import DataError
from graphfm.fitting.depth import AUTO
from graphfm.fitting.descent import DEPTHS

STATES = "states"
OWN = (*DEPTHS, AUTO, STATES)
ANCHOR = "gcn"
"""Peer whose training time is the unit of cost, and whose Elo rating is 1000."""

GROUPS = {
    "random": ("probe-random", "decoder-random"),
    "peers": PEERS,
    "tuned": tuple(f"{kind}-tuned" for kind in TUNED),
}
GROUPS["all"] = (
    *("probe", "decoder", "auto", "probe-random", "decoder-random"),
    *GROUPS["peers"],
    *GROUPS["tuned"],
)
_OWN = re.compile(rf"({'|'.join(OWN)})(-random)?(-alone)?(?:-(\d+))?")


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """One model or peer method: a column of the table.

    Args:
        name: Name in the table.
        kind: Depth of the fit, ``states``, or one of ``PEERS``.
        random: If true, the model has random weights.
        alone: If true, the fit uses no pool of experts.
        steps: Maximum number of gradient steps. Default: that of the plan.
        tuned: If true, settings are chosen by random search.
    """

    name: str
    kind: str
    random: bool = False
    alone: bool = False
    steps: int | None = None
    tuned: bool = False

    @property
    def own(self) -> bool:
        """True for a model of graphfm, false for a peer."""
        return self.kind in OWN

    @property
    def prepared(self) -> bool:
        """True if the model reads positional encodings and transformed features."""
        return self.own or self.kind == "ridge"

    @property
    def control(self) -> bool:
        """True for a model of graphfm with random weights."""
        return self.own and self.random


def competitors(text: str) -> tuple[Competitor, ...]:
    """Read a list of models such as ``probe,decoder-200,gcn,gcn-tuned``; repeats are dropped.

    Raises:
        DataError: GFM712 for an unknown name.
    """
    names: list[str] = []
    for word in text.split(","):
        names += GROUPS.get(word.strip(), (word.strip(),)) if word.strip() else ()
    found = tuple(_competitor(name) for name in dict.fromkeys(names))
    if not found:
        raise DataError(
            "GFM712", "--models is empty", fix="for example --models probe,gcn,gcn-tuned"
        )
    return found


def _competitor(name: str) -> Competitor:
    if name in PEERS:
        return Competitor(name=name, kind=name)
    kind = name.removesuffix("-tuned")
    if kind in TUNED and kind != name:
        return Competitor(name=name, kind=kind, tuned=True)
    if own := _OWN.fullmatch(name):
        depth, random, alone, steps = own.groups()
        has_steps = depth not in (DEPTHS[0], STATES)
        if (steps is None or has_steps) and (alone is None or depth != STATES):
            return Competitor(
                name=name,
                kind=depth,
                random=random is not None,
                alone=alone is not None,
                steps=None if steps is None else int(steps),
            )
    every = [*GROUPS, *OWN, *PEERS, *GROUPS["tuned"]]
    raise DataError(
        "GFM712",
        f"unknown model {name!r}.{did_you_mean(name, every)}",
        why=f"{kind} has no settings to search" if kind in PEERS else "",
        fix=f"choose among {', '.join((*OWN, *PEERS))}; graphfm's models take the endings -random, "
        "-alone and -200 (steps), peers take -tuned",
    )
