"""The model card of a checkpoint: ``README.md``, made from what its ``config.json`` says.

Nothing is in a card that is not in the checkpoint, so saving a model again writes the same card.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

LIMITS = (
    "It knows nodes of one graph: no edge, no time, no text and no whole graph is predicted.",
    "How far an unseen graph profits from these weights depends on the graph. The fit says where "
    "it lies beside the corpus (`far_states_`, `corpus_novelty_`), and weighs what the states say "
    "by labels held out from them, beside experts that read features and labels alone.",
    "Graphs under `not_judged_on` in config.json were learned from, or share nodes or features "
    "with such: a score on them says nothing.",
    "An audit sees graphs whose nodes can be matched, not every way in which data can leak.",
)


def model_card(
    about: Mapping[str, Any], shape: Mapping[str, Any], params: Mapping[str, int]
) -> str:
    """Markdown, with the front matter that the hub reads.

    Args:
        about: What ``config.json`` holds beside the shape; all of it may be missing.
        shape: Of the model.
        params: Its parameters by group.
    """
    name = str(about.get("name", "a GraphFM model"))
    parts = [
        "---\nlibrary_name: graphfm\nlicense: apache-2.0\npipeline_tag: graph-ml\n"
        "tags: [graphs, node-classification, perceiver]\n---",
        f"# {name}",
        f"A Perceiver for graphs (Lachi et al., arXiv 2407.11907): {params['trunk']:,} parameters "
        f"in the trunk that all graphs share, {params['universal']:,} in the adapter that a new "
        f"graph begins with, width {shape['dim']}, stored as {about.get('precision', 'float32')}.",
        "```python\nfrom graphfm import GraphFM, GraphFMClassifier\n\n"
        'model = GraphFM.from_pretrained("this folder, or owner/name on the hub")\n'
        'GraphFMClassifier(model).fit(graph, target="label").predict_proba()\n```',
        *_corpus(about),
        *_audit(about),
        *_run(about),
        *_scores(about),
        "## Limits",
        "\n".join(f"- {line}" for line in LIMITS),
    ]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _corpus(about: Mapping[str, Any]) -> list[str]:
    ids = about.get("corpus", [])
    if not ids:
        return ["## Learned from", "The checkpoint does not say."]
    licenses: Mapping[str, Sequence[str]] = about.get("licenses", {"not said": ids})
    rows = [(name, len(own), ", ".join(own)) for name, own in licenses.items()]
    lines = [
        "## Learned from",
        f"{len(ids)} graphs. The licences are those of the data; no graph is in here.",
        _table(("licence", "graphs", "ids"), rows),
    ]
    if people := about.get("personal", []):
        lines.append(f"Rows of {len(people)} of them are people: {', '.join(people)}.")
    if left_out := about.get("left_out"):
        lines.append(f"Left out because they could not be read: {', '.join(left_out)}.")
    return lines


def _audit(about: Mapping[str, Any]) -> list[str]:
    audit = about.get("audit")
    if not audit:
        return ["## Audit", "The corpus was not compared with graphs that models are judged on."]
    result = "clean" if audit["clean"] else "NOT CLEAN"
    only = audit.get("declared_only", [])
    text = (
        f"{result}: against {', '.join(audit['judged'])}; {audit['pairs_compared']:,} pairs were "
        "compared by their data, the others by what the catalog says of them."
    )
    if only:
        text += f" The files of {', '.join(only)} were not there."
    return ["## Audit", text]


def _run(about: Mapping[str, Any]) -> list[str]:
    receipt, environment = about.get("receipt", {}), about.get("environment", {})
    versions = environment.get("versions", {})
    rows = [
        ("recipe", about.get("recipe", {}).get("name")),
        ("steps", about.get("step")),
        ("targets seen", receipt.get("targets_seen")),
        ("training FLOPs", f"{receipt['flops']:.3g}" if "flops" in receipt else None),
        ("seconds", receipt.get("seconds")),
        ("seed", environment.get("seed")),
        ("commit", environment.get("commit")),
        ("torch", versions.get("torch")),
        ("largest change of a state by rounding", about.get("rounding")),
    ]
    said = [(name, f"{v:,}" if isinstance(v, int) else v) for name, v in rows if v is not None]
    parts = ["## The run", _table(("", ""), said)] if said else []
    if curve := about.get("curve"):
        parts.append("Loss / log C and accuracy on validation nodes of the corpus:")
        shown = [(f"{step:,}", f"{loss:.3f}", f"{share:.3f}") for step, loss, share in curve]
        parts.append(_table(("step", "loss", "accuracy"), shown))
    return parts


def _scores(about: Mapping[str, Any]) -> list[str]:
    scores = about.get("scores")
    if not scores:
        return []
    parts = ["## Scores", f"On graphs it has not seen, by `graphfm benchmark {scores['suite']}`"]
    parts[-1] += f" at commit {', '.join(scores['commits'])}." if scores.get("commits") else "."
    parts[-1] += " `-random`: the same with random weights; `-tuned`: searched settings."
    for table in scores["tables"]:
        parts += [f"{table['title']}:", _table(table["columns"], table["rows"])]
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def _wrapped(part: str) -> str:
    """A paragraph in lines of 110; tables, code and lists as they are."""
    return part if part[0] in "-|`#" else textwrap.fill(part, 110, break_on_hyphens=False)
