"""Who takes part: names of models, and what each of them is.

probe adapter decoder full auto   a pretrained model, fitted at that depth
DEPTH-random                      the same with a trunk of fresh weights: the control
probe-alone, decoder-random-alone trunk and raw features without the pool of experts
states, states-random             closed form on the states alone, without raw features
DEPTH-200, DEPTH-random-200, ...  at most 200 gradient steps in place of ``--steps``
gcn, sage, ...                    a peer of ``graphfm.baselines.peers`` at its default settings
gcn-tuned, sage-tuned, ...        by random search on validation nodes
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
"""The peer whose one training is the unit of cost, and whose Elo is 1000."""

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
    """One column of the table.

    Args:
        name: As it is called there.
        kind: A depth, ``states``, or one of ``PEERS``.
        random: Whether its trunk has fresh weights.
        alone: Whether no expert that reads no state answers beside it.
        steps: Gradient steps at most; None = those of the plan.
        tuned: Whether its settings are searched.
    """

    name: str
    kind: str
    random: bool = False
    alone: bool = False
    steps: int | None = None
    tuned: bool = False

    @property
    def own(self) -> bool:
        """Whether it is a model of this package, not a peer."""
        return self.kind in OWN

    @property
    def prepared(self) -> bool:
        """Whether it reads encoded positions and transformed features."""
        return self.own or self.kind == "ridge"

    @property
    def control(self) -> bool:
        """Whether it is one of ours that nothing was learned for."""
        return self.own and self.random


def competitors(text: str) -> tuple[Competitor, ...]:
    """The models of a list such as ``probe,decoder-200,gcn,gcn-tuned``, each once.

    Raises:
        DataError: GFM712 for a name that is none.
    """
    names: list[str] = []
    for word in text.split(","):
        names += GROUPS.get(word.strip(), (word.strip(),)) if word.strip() else ()
    found = tuple(_competitor(name) for name in dict.fromkeys(names))
    if not found:
        raise DataError("GFM712", "no model is named", fix="such as --models probe,gcn,gcn-tuned")
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
        f"no model {name!r}.{did_you_mean(name, every)}",
        why="it has no settings to search" if kind in PEERS else "",
        fix=f"choose among {', '.join((*OWN, *PEERS))}; ours with -random, -alone, -200 (steps); "
        "peers with -tuned",
    )
