"""``graphfm finetune``."""

from __future__ import annotations

import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.inputs import (
    DestinationOption,
    DirectedOption,
    DuplicateOption,
    Duplicates,
    FeaturesOption,
    GraphOption,
    IdOption,
    NodesOption,
    ObspOption,
    SourceOption,
    StripOption,
    TargetOption,
    TaskKind,
    TaskOption,
    Unknown,
    UnknownOption,
)
from graphfm.cli.terminal import next_step, note, pairs, show, show_json

if TYPE_CHECKING:
    from graphfm.cli.scores import Scores


COVERAGE = 0.9  # of the prediction sets that are reported
MANY_FAR = 0.5  # of the nodes
FAR = 3.0  # standard deviations from the corpus from which on a graph is said to be unlike it


class Tune(StrEnum):
    """How deep a fit reaches into the pretrained model."""

    AUTO = "auto"
    PROBE = "probe"
    ADAPTER = "adapter"
    DECODER = "decoder"
    FULL = "full"


def finetune(
    graph: GraphOption,
    nodes: NodesOption = None,
    target: TargetOption = None,
    task: TaskOption = TaskKind.AUTO,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Shares of the labelled nodes, or a table of id and split. Default: the graph's "
            "own split, or 0.6/0.2/0.2.",
            rich_help_panel="Input",
        ),
    ] = None,
    features: FeaturesOption = None,
    source: SourceOption = None,
    destination: DestinationOption = None,
    id: IdOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownOption = Unknown.ERROR,
    duplicate_weights: DuplicateOption = Duplicates.SUM,
    strip_ids: StripOption = False,
    obsp: ObspOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CKPT",
            help="Run or checkpoint folder, owner/name on the Hugging Face Hub, or random. "
            "Default: the weights that come with the package.",
            rich_help_panel="Model",
        ),
    ] = None,
    tune: Annotated[
        Tune,
        typer.Option(
            help="What is learned; auto: the probe, then deeper where validation nodes say so.",
            rich_help_panel="Model",
        ),
    ] = Tune.AUTO,
    ensemble: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Fits of other seeds, whose probabilities are averaged.",
            rich_help_panel="Model",
        ),
    ] = 1,
    max_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Most gradient steps.", rich_help_panel="Training"),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Of the fit and a GCN beside it: 60s, 10m. Default: what they take.",
            rich_help_panel="Training",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the split and of the fit.", rich_help_panel="Training")
    ] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel="Training")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the fitted model.", rich_help_panel="Output"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace it.", rich_help_panel="Output")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fitted, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fit a pretrained model to one graph, and compare it with what costs nothing.

    Example: `graphfm finetune --graph edges.csv --nodes nodes.csv --target label --out runs/mine`
    """
    from graphfm.cli.comparison import comparison_table, split_graph
    from graphfm.cli.durations import duration
    from graphfm.cli.inputs import read_input
    from graphfm.cli.numbers import number_table, promise
    from graphfm.cli.output import folder_for_one, new_folder

    given = read_input(
        graph,
        nodes=nodes,
        target=target,
        task=task,
        features=features,
        source=source,
        destination=destination,
        id=id,
        directed=directed,
        unknown_nodes=unknown_nodes,
        duplicate_weights=duplicate_weights,
        strip_ids=strip_ids,
        obsp=obsp,
    )
    whole = split_graph(given.graph, split, seed=seed)
    seconds = duration(max_time)
    out = out or Path("runs") / whole.name
    new_folder(out, overwrite=overwrite, dry_run=dry_run)
    asked = {
        "graph": graph,
        "node_table": str(nodes) if nodes else None,
        "target": target,
        "from": start,
        "tune": tune.value,
        "max_steps": max_steps,
        "max_time": seconds,
        "ensemble": ensemble,
        "seed": seed,
    }
    if dry_run:
        from graphfm.cli.fit_plan import fit_plan, plan_lines

        plan = {**asked, **fit_plan(whole, asked, device=device), "out": str(out)}
        if as_json:
            show_json(plan)
        else:
            show(f"{whole!r}\n{pairs(plan_lines(plan))}")
        note("Nothing written.")
        next_step("graphfm", *(word for word in sys.argv[1:] if word != "--dry-run"))
        return
    kept = {**asked, "input": given.to_json(), "command": shlex.join(["graphfm", *sys.argv[1:]])}
    with folder_for_one(out):
        new_folder(out, overwrite=overwrite)  # again: another process may have filled it meanwhile
        result = fit(whole, out=out, asked=kept, device=device)
    if as_json:
        show_json({**asked, **result["json"], "out": str(out)})
    elif "intervals" in result["json"]:
        show(number_table(result["scores"]))
        note(promise(result["json"]["intervals"]))
    else:
        show(comparison_table(result["scores"]))
        note(honesty(result["scores"]["graphfm"], result["json"]))
    note(f"depth {result['json']['depth']}: {result['json']['tune_reason']}")
    warn_of_novelty(result["json"]["corpus_novelty"], result["json"]["far_states"])
    note(f"fitted in {result['json']['fit_seconds']:.1f} s, saved in {out}")
    beside = ["--nodes", nodes] if nodes else []
    next_step("graphfm predict --out preds.csv --model", out, "--graph", graph, *beside)


def fit(whole: Any, *, out: Path, asked: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit, save, compare: ``{"model", "scores" by method, "json"}``.

    Args:
        whole: The graph, with its split.
        out: Folder to save in.
        asked: ``from``, ``tune``, ``max_steps``, ``max_time``, ``ensemble`` and ``seed``; kept
            beside the model.
        device: Where to compute.
    """
    from graphfm.cli.audit import warn_if_seen
    from graphfm.cli.comparison import compare, save_split
    from graphfm.cli.numbers import compare_numbers, interval_scores
    from graphfm.cli.scores import set_scores
    from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
    from graphfm.training.intervals import Values
    from graphfm.training.receipt import MetricsLog

    given = ("tune", "max_steps", "max_time", "ensemble", "seed")
    chosen = {name: asked[name] for name in given if asked.get(name) is not None}
    kind = GraphFMRegressor if whole.task.kind == "regress" else GraphFMClassifier
    model = kind(asked["from"], device=device, verbose=True, **chosen)
    began = time.perf_counter()
    model.fit(whole)
    seconds = time.perf_counter() - began
    model.save(out)
    log = MetricsLog(out)
    for record in model.history_:
        values = {k: v for k, v in record.items() if k != "step"}
        log.write("train" if "loss" in record else "eval", int(record["step"]), values)
    log.close()
    answers = model.answer(whole, coverage=COVERAGE)
    judged = (whole.y, whole.test_mask)
    if isinstance(answers, Values):
        results: dict[str, Any] = compare_numbers(answers.values, whole)
        honest: dict[str, Any] = {"intervals": interval_scores(answers, *judged, coverage=COVERAGE)}
    else:
        assert answers.sets is not None
        limit = asked.get("max_time")
        left = None if limit is None else limit - seconds
        results = compare(answers, whole, seed=asked["seed"], seconds=left)
        honest = {
            "temperature": model.calibration_.temperature,
            "sets": set_scores(answers.sets, *judged, coverage=COVERAGE),
        }
    warn_if_seen(whole, model.not_judged_on_)
    facts = {
        "weights": model.weights_,
        "fit_seconds": seconds,
        "depth": model.tune_,
        "tune_reason": model.tune_reason_,
        "tried": model.tried_,
        "members": model.members_,
        "cut_short": model.cut_short_,
        "best_step": model.best_step_,
        "val_score": model.val_score_,
        "calibration_nodes": len(model.calibration_.scores),
        **honest,
        "corpus_novelty": model.corpus_novelty_,
        "far_states": model.far_states_,
        "test": {name: s.to_json() for name, s in results.items()},
    }
    save_split(out, whole, {**asked, **facts})
    return {"model": model, "scores": results, "json": facts}


def honesty(own: Scores, facts: dict[str, Any]) -> str:
    """Two lines: how well probabilities say what they mean, how prediction sets keep their promise.

    Args:
        own: Scores of the fitted model.
        facts: Of the fit, with ``temperature`` and ``sets``.
    """
    before = "" if own.ece_uncalibrated is None else f" ({own.ece_uncalibrated:.3f} before)"
    sets = facts["sets"]
    return pairs(
        {
            "calibration error": (
                f"{own.ece:.3f}{before}, Brier {own.brier:.3f}, "
                f"temperature {facts['temperature']:.2f}"
            ),
            "prediction sets": (
                f"{sets['coverage']:.1%} hold the truth where {sets['asked']:.0%} was asked for, "
                f"{sets['mean_size']:.2f} classes on average"
            ),
        },
        indent="",
    )


def warn_of_novelty(beside: dict[str, dict[str, float]], far_states: float | None) -> None:
    """Say what of a graph is far from every graph that the model was pretrained on.

    Args:
        beside: As the estimator's ``corpus_novelty_``.
        far_states: As its ``far_states_``.
    """
    if far_states is not None and far_states > MANY_FAR:
        note(
            f"unlike the pretraining corpus: {far_states:.0%} of the nodes have states farther out "
            "than 95% of the corpus'"
        )
    for name, place in beside.items():
        if abs(place["z"]) > FAR:
            note(
                f"unlike the pretraining corpus: {place['value']:,.4g} {name}, "
                f"{abs(place['z']):.1f} standard deviations "
                f"{'above' if place['z'] > 0 else 'below'} its mean"
            )
