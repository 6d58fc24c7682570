"""The model card of a checkpoint: ``README.md``, made from its ``config.json``.

A card states only facts of the checkpoint, so saving a model again writes the same card.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CARD = "README.md"
FRONT = "---\nlibrary_name: graphfm\n"
LIMITS = (
    "The model predicts for nodes of one graph. It predicts no edges, no whole graphs, no time and "
    "no text.",
    "The benefit of these weights for a new graph depends on the graph. A fit reports how far the "
    "graph is from the pretraining graphs (`far_states_`, `corpus_novelty_`). It also weights the "
    "prediction from the node states by held-out labels, against experts that read only features "
    "and labels.",
    "Do not evaluate the model on the graphs listed under `not_judged_on` in config.json: it was "
    "trained on them, or on graphs with the same nodes or features.",
    "The audit finds graphs whose nodes can be matched. It does not find every leak.",
)


def model_card(
    about: Mapping[str, Any], shape: Mapping[str, Any], params: Mapping[str, int]
) -> str:
    """Return the card as Markdown, with the front matter for the hub.

    Args:
        about: Content of ``config.json`` without the shape; every key is optional.
        shape: Shape of the model.
        params: Number of parameters by group.
    """
    name = str(about.get("name", "a GraphFM model"))
    parts = [
        f"{FRONT}license: apache-2.0\npipeline_tag: graph-ml\n"
        "tags: [graphs, node-classification, perceiver]\n---",
        f"# {name}",
        f"A Perceiver for graphs (Lachi et al., arXiv 2407.11907). The trunk, which all graphs "
        f"share, has {params['trunk']:,} parameters. The adapter from which a new graph starts has "
        f"{params['universal']:,}. Width {shape['dim']}, stored as "
        f"{about.get('precision', 'float32')}.",
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


def is_card(path: Path) -> bool:
    """Return true if a file is a model card, or if it does not exist."""
    if not path.exists():
        return True
    head = path.read_bytes()[:200].decode("utf-8", "replace")
    return head.startswith(FRONT)


def _corpus(about: Mapping[str, Any]) -> list[str]:
    """Describe the pretraining graphs and their licences."""
    ids = about.get("corpus", [])
    if not ids:
        return ["## Pretraining graphs", "Not recorded in the checkpoint."]
    licenses: Mapping[str, Sequence[str]] = about.get("licenses", {"not recorded": ids})
    rows = [(name, len(own), ", ".join(own)) for name, own in licenses.items()]
    lines = [
        "## Pretraining graphs",
        f"{len(ids)} graphs. The licences are those of the data; the data is not in this folder.",
        _table(("licence", "graphs", "ids"), rows),
    ]
    if people := about.get("personal", []):
        lines.append(f"In {len(people)} of them, nodes are people: {', '.join(people)}.")
    if left_out := about.get("left_out"):
        lines.append(f"Left out because they could not be read: {', '.join(left_out)}.")
    return lines


def _audit(about: Mapping[str, Any]) -> list[str]:
    """Describe the comparison with evaluation graphs."""
    audit = about.get("audit")
    if not audit:
        return ["## Audit", "The pretraining graphs were not compared with evaluation graphs."]
    result = "No overlap" if audit["clean"] else "OVERLAP FOUND"
    only = audit.get("declared_only", [])
    text = (
        f"{result} with the evaluation graphs {', '.join(audit['judged'])}. "
        f"{audit['pairs_compared']:,} pairs of graphs were compared by their data, the others by "
        "their catalog entries."
    )
    if only:
        text += f" The files of {', '.join(only)} were not available."
    return ["## Audit", text]


def _run(about: Mapping[str, Any]) -> list[str]:
    """Describe the training run."""
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
        ("largest change of a node state by rounding", about.get("rounding")),
    ]
    known = [(name, f"{v:,}" if isinstance(v, int) else v) for name, v in rows if v is not None]
    parts = ["## Training run", _table(("", ""), known)] if known else []
    if curve := about.get("curve"):
        parts.append("Loss / log C and accuracy on validation nodes of the pretraining graphs:")
        shown = [(f"{step:,}", f"{loss:.3f}", f"{share:.3f}") for step, loss, share in curve]
        parts.append(_table(("step", "loss", "accuracy"), shown))
    return parts


def _scores(about: Mapping[str, Any]) -> list[str]:
    """Describe the benchmark scores; empty if there are none."""
    scores = about.get("scores")
    if not scores:
        return []
    parts = ["## Scores", f"On unseen graphs, by `graphfm benchmark {scores['suite']}`"]
    parts[-1] += f" at commit {', '.join(scores['commits'])}." if scores.get("commits") else "."
    parts[-1] += " `-random`: the same model with random weights; `-tuned`: tuned settings."
    for table in scores["tables"]:
        parts += [f"{table['title']}:", _table(table["columns"], table["rows"])]
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines)


def _wrapped(part: str) -> str:
    """Wrap a paragraph to 110 columns; leave tables, code and lists as they are."""
    return part if part[0] in "-|`#" else textwrap.fill(part, 110, break_on_hyphens=False)
