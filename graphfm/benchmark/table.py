"""``table.md``: what :func:`~graphfm.benchmark.summary.summarise` found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphfm.benchmark.cells import DONE, FAILED, LEFT_OUT, MIN_SEARCH_SECONDS
from graphfm.benchmark.summary import MISSING

SHOWN = 20  # failed cells that are listed; the others are in table.json
GOAL_ELO = 60


def markdown(summary: Mapping[str, Any], *, picture: str = "") -> str:
    """The whole report; scores in percent.

    Args:
        summary: As it was made.
        picture: Folder of the pictures beside it; empty = none was drawn.
    """
    plan, cells = summary["plan"], summary["cells"]
    lines = [
        f"# Benchmark: {plan['suite']}",
        "",
        f"{len(plan['graphs'])} graphs, {plan['seeds']} seeds, {len(plan['models'])} models; "
        f"searches on the first seed, of at most {plan['trials']} trials{_limit(plan)}, "
        f"at most {plan['steps']} gradient steps of ours"
        + (f", {plan['max_seconds']:g} s a cell" if plan["max_seconds"] else "")
        + f". Of {cells['all']:,} cells {cells[DONE]:,} are done, {cells[FAILED]:,} failed, "
        f"{cells[LEFT_OUT]:,} are left out with a reason, {cells[MISSING]:,} are {MISSING}.",
        "",
        f"Machine: {'; '.join(summary['machines']) or 'none yet'}; one core a fit. "
        f"Commit: {', '.join(summary['commits']) or 'none yet'}.",
    ]
    if summary["failed"]:
        lines += ["", "Failed:", ""]
        lines += [
            f"- {it['split']} {it['graph']} seed {it['seed']} {it['model']}: {it['error']}"
            for it in summary["failed"][:SHOWN]
        ]
        if len(summary["failed"]) > SHOWN:
            lines.append(f"- and {len(summary['failed']) - SHOWN} more, in table.json")
    if summary["left_out"]:
        lines += ["", "Left out:", ""]
        lines += [f"- {split} {graph}: {why}" for split, graph, why in summary["left_out"]]
    for split, found in summary["splits"].items():
        lines += ["", f"## Split {split}"]
        lines += _split(found, plan["models"], f"{picture}cd-{split.replace('/', '-')}.png")
    return "\n".join(lines)


def _limit(plan: Mapping[str, Any]) -> str:
    """Of the seconds of a search, and for whom it is the same."""
    cost = plan["search_cost"]
    if cost is None:
        return ""
    return (
        f" and of as many seconds as {cost:g} trainings of the default GCN on that graph, "
        f"{MIN_SEARCH_SECONDS:g} s at least, the same for each peer"
    )


def _split(found: Mapping[str, Any], models: Sequence[str], picture: str) -> list[str]:
    if not found["graphs"]:
        return ["", "Nothing is done yet."]
    lines: list[str] = []
    order = list(models)
    if "models" in found:
        order.sort(key=lambda m: found["models"][m]["rank"])
        lines += _standing(found, order)
        if len(order) > 1:
            lines += ["", f"![Average ranks and the critical difference]({picture})"]
        lines += _leads(found)
    if found["not_ranked"]:
        lines += ["", "Not ranked, for not every model has every seed there: "]
        lines[-1] += "; ".join(f"{g} ({why})" for g, why in found["not_ranked"].items()) + "."
    lines += _scores(found, order)
    lines += _costs(found, order)
    if "models" in found:
        lines += _pairs(found) + _wins(found, order)
    return lines


def _standing(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    anchor = found["elo_anchor"]
    rows = []
    for name in order:
        it = found["models"][name]
        rows.append(
            [
                name,
                f"{it['rank']:.2f} ({_span(it['rank_interval'], '.2f')})",
                f"{it['elo']:.0f} ({_span(it['elo_interval'], '.0f')})",
                str(it["first_on"]),
            ]
        )
    return [
        "",
        f"Over {len(found['ranked'])} graphs, with 95% bootstrap intervals over graphs; Elo: "
        + (f"{anchor} = 1000" if anchor else "their mean = 1000")
        + f", 400 a factor of 10 in the odds. Friedman p = {found['friedman_p']:.2g}.",
        "",
        *_table(["model", "average rank", "Elo", "first on"], rows),
    ]


def _leads(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- {it['model']}: Elo {it['elo']:+.0f} ({_span(it['elo_interval'], '+.0f')}), rank "
        f"{it['rank']:+.2f} ({_span(it['rank_interval'], '+.2f')}) against {it['best_tuned']}; "
        + (
            "first by both"
            if it["first_by_elo"] and it["first_by_rank"]
            else "first by Elo"
            if it["first_by_elo"]
            else "first by rank"
            if it["first_by_rank"]
            else "not first"
        )
        + (
            f"; the goal of {GOAL_ELO:+d} is reached"
            if it["elo"] >= GOAL_ELO
            else f"; {GOAL_ELO - it['elo']:.0f} short of the goal of {GOAL_ELO:+d}"
        )
        for it in found["leads"]
    ]
    return ["", "Ahead of the best tuned peer (positive is better):", "", *lines] if lines else []


def _scores(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    rows = []
    for graph, of in found["graphs"].items():
        scores = of["scores"]
        best = max(it["mean"] for it in scores.values())
        cells = [_score(scores.get(name), best) for name in order]
        name = graph + (" (ROC-AUC)" if of["metric"] == "roc_auc" else "")
        rows.append([name, f"{of['num_nodes']:,}", *cells])
    return [
        "",
        "Test score in percent, mean over seeds and half of its 95% t interval; accuracy, or "
        "ROC-AUC where it says so. The best is bold.",
        "",
        *_table(["graph", "nodes", *order], rows),
    ]


def _costs(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    rows = []
    for name in order:
        if name in found["costs"]:
            it = found["costs"][name]
            rows.append(
                [
                    name,
                    f"{it['seconds_median']:.2f}",
                    f"{it['seconds_total']:,.0f}",
                    f"{it['trials']:.1f}",
                    _ratio(it["over_gcn"]),
                    _ratio(it["over_gcn_prepared"]),
                    _ratio(it["over_search"]),
                    _ratio(it["flops_over_gcn"]),
                ]
            )
    head = ["model", "s, median", "s, all fits", "trials", "/ one GCN", "/ one GCN, with preparing"]
    return [
        "",
        "Cost: seconds of one core to fit and answer; over one training of the default GCN and "
        "over its whole search, on the same split and machine (geometric mean over graphs, least "
        "to most); trials are the mean. Preparing (positions, features) is once for a graph, "
        "whatever the labels. FLOPs are estimated, of ours and of the default GCN.",
        "",
        *_table([*head, "/ GCN search", "FLOPs / one GCN"], rows),
    ]


def _pairs(found: Mapping[str, Any]) -> list[str]:
    if not found["pairs"]:
        return []
    rows = [
        [
            f"{it['a']} - {it['b']}",
            f"{it['won']} / {it['lost']} / {it['tied']}",
            f"{100 * it['gain']:+.2f} ({100 * it['low']:+.2f} to {100 * it['high']:+.2f})",
            f"{it['sign_p']:.3f}",
            f"{it['wilcoxon_p']:.3f}",
            f"{it['wilcoxon_holm_p']:.3f}",
        ]
        for it in found["pairs"]
    ]
    head = ["pair", "won / lost / tied", "difference, points (95%)", "sign p", "Wilcoxon p", "Holm"]
    return ["", "Pairs over graphs, two-sided:", "", *_table(head, rows)]


def _wins(found: Mapping[str, Any], order: Sequence[str]) -> list[str]:
    if len(order) < 2:
        return []
    rows = [
        [a, *("" if a == b else f"{100 * found['wins'][a][b]:.0f}" for b in order)] for a in order
    ]
    return [
        "",
        "How often the row beats the column, in percent of graphs and seeds, ties half:",
        "",
        *_table(["", *order], rows),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _score(it: Mapping[str, Any] | None, best: float) -> str:
    if it is None:
        return ""
    mean = f"{100 * it['mean']:.1f}"
    mean = f"**{mean}**" if it["mean"] == best else mean
    return mean if it["half"] is None else f"{mean} ± {100 * it['half']:.1f}"


def _ratio(it: Mapping[str, Any] | None) -> str:
    if it is None:
        return ""
    return f"{it['mean']:.2g} ({it['least']:.2g} to {it['most']:.2g})"


def _span(pair: Sequence[float], digits: str) -> str:
    low, high = pair
    return f"{low:{digits}} to {high:{digits}}"
