"""Write the summary of a benchmark as Markdown, for ``table.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphfm.benchmark.cells import DONE, FAILED, LEFT_OUT, MIN_SEARCH_SECONDS
from graphfm.benchmark.summary import MISSING

MAX_FAILED = 20  # failed cells to list; all are in table.json
GOAL_ELO = 60  # lead over the best tuned peer that graphfm aims at


def markdown(summary: Mapping[str, Any]) -> str:
    """Format a summary; scores are in percent.

    Args:
        summary: Result of :func:`~graphfm.benchmark.summary.summarise`.
    """
    plan, cells = summary["plan"], summary["cells"]
    lines = [
        f"# Benchmark: {plan['suite']}",
        "",
        f"{len(plan['graphs'])} graphs, {plan['seeds']} seeds, {len(plan['models'])} models; "
        f"at most {plan['trials']} trials per search, on seed 0{_limit(plan)}; "
        f"at most {plan['steps']} gradient steps of graphfm's models"
        + (f"; at most {plan['max_seconds']:g} s per cell" if plan["max_seconds"] else "")
        + f". Of {cells['all']:,} cells {cells[DONE]:,} are done, {cells[FAILED]:,} failed, "
        f"{cells[LEFT_OUT]:,} are left out for a reason below, {cells[MISSING]:,} are {MISSING}.",
        "",
        f"Machine: {'; '.join(summary['machines']) or 'none yet'}; one core per fit. "
        f"Commit: {', '.join(summary['commits']) or 'none yet'}.",
    ]
    if summary["failed"]:
        lines += ["", "Failed:", ""]
        lines += [
            f"- {row['split']} {row['graph']} seed {row['seed']} {row['model']}: {row['error']}"
            for row in summary["failed"][:MAX_FAILED]
        ]
        if len(summary["failed"]) > MAX_FAILED:
            lines.append(f"- and {len(summary['failed']) - MAX_FAILED} more, in table.json")
    if summary["left_out"]:
        lines += ["", "Left out:", ""]
        lines += [f"- {split} {graph}: {why}" for split, graph, why in summary["left_out"]]
    for split, found in summary["splits"].items():
        lines += ["", f"## Split {split}"]
        lines += _split(found, plan["models"], f"cd-{split.replace('/', '-')}.png")
    return "\n".join(lines)


def _limit(plan: Mapping[str, Any]) -> str:
    """Sentence about the time limit of a search; empty without a limit."""
    cost = plan["search_cost"]
    if cost is None:
        return ""
    return (
        f", within the time of {cost:g} trainings of the default GCN on the same graph (at least "
        f"{MIN_SEARCH_SECONDS:g} s), equal for all peers"
    )


def _split(found: Mapping[str, Any], models: Sequence[str], picture: str) -> list[str]:
    if not found["graphs"]:
        return ["", "No cell is done yet."]
    lines: list[str] = []
    order = list(models)
    if "models" in found:
        order.sort(key=lambda m: found["models"][m]["rank"])
        lines += _rank_table(found, order)
        if len(order) > 1:
            lines += ["", f"![Average ranks and the critical difference]({picture})"]
        lines += _lead_list(found)
    if found["not_ranked"]:
        lines += ["", "Not ranked, because some cells failed or are missing: "]
        lines[-1] += "; ".join(f"{g} ({why})" for g, why in found["not_ranked"].items()) + "."
    lines += _score_table(found, order)
    lines += _cost_table(found, order)
    if "models" in found:
        lines += _pair_table(found) + _win_table(found, order)
    return lines


def _rank_table(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    anchor = found["elo_anchor"]
    rows = []
    for name in order:
        row = found["models"][name]
        rows.append(
            [
                name,
                f"{row['rank']:.2f} ({_span(row['rank_interval'], '.2f')})",
                f"{row['elo']:.0f} ({_span(row['elo_interval'], '.0f')})",
                str(row["first_on"]),
            ]
        )
    return [
        "",
        f"Over {len(found['ranked'])} graphs of {found['num_groups']} groups, with 95% bootstrap "
        "intervals over groups. Elo: "
        + (f"{anchor} = 1000" if anchor else "mean = 1000")
        + "; 400 points are odds of 10 to 1. Friedman test that all models are equal: "
        f"p = {found['friedman_p']:.2g}.",
        "",
        *_table(["model", "average rank", "Elo", "first on"], rows),
    ]


def _lead_list(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- {row['model']}: Elo {row['elo']:+.0f} ({_span(row['elo_interval'], '+.0f')}), rank "
        f"{row['rank']:+.2f} ({_span(row['rank_interval'], '+.2f')}) against {row['best_tuned']}; "
        + (
            "first by Elo and rank"
            if row["first_by_elo"] and row["first_by_rank"]
            else "first by Elo"
            if row["first_by_elo"]
            else "first by rank"
            if row["first_by_rank"]
            else "not first"
        )
        + (
            f"; reaches the goal of {GOAL_ELO:+d} Elo"
            if row["elo"] >= GOAL_ELO
            else f"; {GOAL_ELO - row['elo']:.0f} below the goal of {GOAL_ELO:+d} Elo"
        )
        for row in found["leads"]
    ]
    return ["", "Lead over the best tuned peer (positive is better):", "", *lines] if lines else []


def _score_table(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    rows = []
    for graph, facts in found["graphs"].items():
        scores = facts["scores"]
        best = max(row["mean"] for row in scores.values())
        cells = [_score(scores.get(name), best) for name in order]
        name = graph + (" (ROC-AUC)" if facts["metric"] == "roc_auc" else "")
        rows.append([name, f"{facts['num_nodes']:,}", *cells])
    return [
        "",
        "Test score in percent: mean over seeds ± half of its 95% t interval. The score is "
        "accuracy, or ROC-AUC where noted. The best mean is bold.",
        "",
        *_table(["graph", "nodes", *order], rows),
    ]


def _cost_table(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    rows = []
    for name in order:
        if name in found["costs"]:
            row = found["costs"][name]
            rows.append(
                [
                    name,
                    f"{row['seconds_median']:.2f}",
                    f"{row['seconds_total']:,.0f}",
                    f"{row['trials']:.1f}",
                    _ratio(row["over_gcn"]),
                    _ratio(row["over_gcn_prepared"]),
                    _ratio(row["over_search"]),
                    _ratio(row["flops_over_gcn"]),
                ]
            )
    head = [
        "model",
        "s, median",
        "s, all fits",
        "trials",
        "/ one GCN",
        "/ one GCN, with preparation",
    ]
    return [
        "",
        "Cost: seconds of one core to fit and predict, and their ratio to one training of the "
        "default GCN and to its whole search, on the same split and machine (geometric mean over "
        "graphs, minimum to maximum). Trials are a mean. A graph is prepared once (positional "
        "encodings, features), whatever the labels. FLOPs are estimates.",
        "",
        *_table([*head, "/ GCN search", "FLOPs / one GCN"], rows),
    ]


def _pair_table(found: Mapping[str, Any]) -> list[str]:
    if not found["pairs"]:
        return []
    rows = [
        [
            f"{row['a']} - {row['b']}",
            f"{row['won']} / {row['lost']} / {row['tied']}",
            f"{100 * row['gain']:+.2f} ({100 * row['low']:+.2f} to {100 * row['high']:+.2f})",
            f"{row['sign_p']:.3f}",
            f"{row['wilcoxon_p']:.3f}",
            f"{row['wilcoxon_holm_p']:.3f}",
        ]
        for row in found["pairs"]
    ]
    head = ["pair", "won / lost / tied", "difference, points (95%)", "sign p", "Wilcoxon p", "Holm"]
    return ["", "Pairs of models, tested over graphs (two-sided):", "", *_table(head, rows)]


def _win_table(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    if len(order) < 2:
        return []
    rows = [
        [a, *("" if a == b else f"{100 * found['wins'][a][b]:.0f}" for b in order)] for a in order
    ]
    return [
        "",
        "Share of graphs and seeds in which the row beats the column, in percent; a tie is half:",
        "",
        *_table(["", *order], rows),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _score(cell: Mapping[str, Any] | None, best: float) -> str:
    if cell is None:
        return ""
    mean = f"{100 * cell['mean']:.1f}"
    mean = f"**{mean}**" if cell["mean"] == best else mean
    return mean if cell["half"] is None else f"{mean} ± {100 * cell['half']:.1f}"


def _ratio(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio['mean']:.2g} ({ratio['least']:.2g} to {ratio['most']:.2g})"


def _span(pair: Sequence[float], digits: str) -> str:
    low, high = pair
    return f"{low:{digits}} to {high:{digits}}"
