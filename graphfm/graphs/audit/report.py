"""Result of a leakage audit: the overlaps it found, as values and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphfm.errors import DataError
from graphfm.graphs.audit.overlap import Comparison


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A graph of the corpus that overlaps with an evaluation graph.

    Args:
        corpus: Id of the graph of the corpus.
        judged: Id of the evaluation graph.
        declared: Fields that their catalog entries have in common: ``id``, ``alias``, ``group``.
        data: Comparison of their data.
    """

    corpus: str
    judged: str
    declared: tuple[str, ...]
    data: Comparison

    @property
    def kinds(self) -> tuple[str, ...]:
        """All evidence: fields of the entries, then kinds of signatures."""
        return self.declared + self.data.kinds

    @property
    def relation(self) -> str:
        """Relation of the two sets of nodes, in words."""
        if not self.data.kinds:
            return "declared"
        one, other = self.data.shares
        if min(one, other) > 0.9:
            return "the same nodes"
        if max(one, other) > 0.8:
            part, whole = (self.corpus, self.judged)[:: 1 if one > other else -1]
            return f"{part} is a part of {whole}"
        return "some nodes"

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "corpus": self.corpus,
            "judged": self.judged,
            "kinds": list(self.kinds),
            "relation": self.relation,
            "matched": self.data.matched,
            "share_of_corpus_graph": round(self.data.shares[0], 4),
            "share_of_judged_graph": round(self.data.shares[1], 4),
            "edge_jaccard": None if self.data.jaccard is None else round(self.data.jaccard, 4),
        }


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Result of an audit.

    Args:
        corpus: Ids of the graphs that a model is trained on.
        judged: Ids of the evaluation graphs.
        overlaps: Overlaps, the largest first; one is enough to refuse the corpus.
        hints: (corpus id, evaluation id, reason) of pairs that a person should look at; a hint does
            not refuse the corpus.
        compared: Number of pairs whose data was compared.
        declared_only: Ids whose files are missing here, so that only their entries were compared.
        seconds: Duration of the audit, in seconds.
    """

    corpus: tuple[str, ...]
    judged: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    hints: tuple[tuple[str, str, str], ...]
    compared: int
    declared_only: tuple[str, ...]
    seconds: float

    @property
    def clean(self) -> bool:
        """True if there is no overlap."""
        return not self.overlaps

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "clean": self.clean,
            "overlaps": [overlap.to_json() for overlap in self.overlaps],
            "hints": [list(hint) for hint in self.hints],
            "corpus": list(self.corpus),
            "judged": list(self.judged),
            "pairs_compared": self.compared,
            "declared_only": list(self.declared_only),
            "seconds": round(self.seconds, 2),
        }

    def refuse(self) -> None:
        """Raise an error if there is an overlap.

        Raises:
            DataError: GFM147 with the three largest overlaps.
        """
        if self.clean:
            return
        worst = "; ".join(
            f"{o.corpus} ~ {o.judged} ({', '.join(o.kinds)})" for o in self.overlaps[:3]
        )
        more = f", and {len(self.overlaps) - 3} more" if len(self.overlaps) > 3 else ""
        raise DataError(
            "GFM147",
            f"the corpus overlaps with evaluation graphs: {worst}{more}",
            fix="leave them out of the mixture, or with data.exclude=[ID, ...]",
        )
