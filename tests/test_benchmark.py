"""The harness: suites, cells, receipts, tables. Real models on planted graphs of 100 nodes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import graphfm.benchmark.run as harness
from graphfm.benchmark.cells import DONE, FAILED, LEFT_OUT, Cell, Plan, Unit, check_unseen
from graphfm.benchmark.fit import measure
from graphfm.benchmark.models import GROUPS, competitors
from graphfm.benchmark.run import choose_metric, run, run_unit
from graphfm.benchmark.suite import read_suite
from graphfm.benchmark.summary import summarise
from graphfm.benchmark.table import markdown
from graphfm.checkpoint.folder import save_checkpoint
from graphfm.config.recipe import ModelConfig
from graphfm.errors import DataError
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.splits import with_split
from graphfm.model.graphfm import GraphFM
from tests.graphs import synthetic

TINY = ModelConfig.model_validate(
    {
        "dim": 16,
        "encoder": {"kind": "perceiver", "num_latents": 4, "depth": 1, "num_heads": 2},
        "decoder": {"kind": "prefix", "depth": 1, "num_heads": 2},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite as the bundle is laid out: three npz, of which one is there to learn from."""
    path = tmp_path_factory.mktemp("suite")
    (path / "npz").mkdir()
    rows = []
    for i, (id, role) in enumerate(
        [("Plan_ted", "evaluation"), ("other", "evaluation"), ("corpus", "pretraining")]
    ):
        graph = synthetic(id.lower().replace("_", "-"), num_nodes=100 + 20 * i, seed=i)
        edges = torch.stack(
            [torch.arange(graph.num_nodes).repeat_interleave(graph.rowptr.diff()), graph.col]
        )
        assert graph.y is not None
        np.savez(
            path / "npz" / f"{id}.npz",
            edge_index=edges.numpy().astype(np.int32),
            y=graph.y.numpy(),
            x=graph.x,
        )
        rows.append({"id": id, "role": role, "group": id, "nodes": f"{graph.num_nodes}"})
    with (path / "MANIFEST.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "role", "group", "pyg_class", "root", "name", "nodes"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def plan_of(folder: Path, out: Path, models: str = "majority,ridge", **fields: object) -> Plan:
    values: dict[str, object] = {
        "suite": read_suite(str(folder)),
        "models": competitors(models),
        "splits": ("50/25/25",),
        "seeds": 2,
        "out": out,
        "checkpoint": None,
        "trials": 2,
        "steps": 2,
    }
    return Plan(**{**values, **fields})  # type: ignore[arg-type]


def test_a_folder_is_a_suite(folder: Path) -> None:
    """Seen to fail when rows of role pretraining were judged on."""
    suite = read_suite(str(folder))
    assert list(suite.groups) == ["plan-ted", "other"]
    assert suite.load("plan-ted").num_nodes == 100
    assert list(suite.only(["Plan_Ted"]).groups) == ["plan-ted"]
    with pytest.raises(DataError, match="GFM711"):
        suite.only(["corpus"])
    with pytest.raises(DataError, match=r"GFM711(.|\n)*MANIFEST.csv"):
        read_suite(str(folder / "npz"))
    with pytest.raises(DataError, match="did you mean|GFM711"):
        read_suite("evaluation15")


@pytest.mark.realdata
def test_the_bundle_is_the_catalogs_suite_and_a_folder() -> None:
    """Every judged row is found by the folder too, also PyG roots of ids outside the catalog."""
    import os

    from graphfm.benchmark.suite import _pyg
    from graphfm.graphs.catalog.sources.pyg import Config

    data = Path(os.environ["GRAPHFM_DATA"])
    named, found = read_suite("evaluation-15"), read_suite(str(data))
    assert len(named.groups) == 15
    assert set(found.groups) == set(named.groups)
    assert dict(found.groups) == dict(named.groups)
    with (data / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    for id in ("webkb_texas", "tu_MUTAG", "actor"):  # as a row says, without the catalog
        graph = Config(**_pyg(rows[id], data)).build(name="one", data=data)
        same = read_suite("evaluation-15").load(id.replace("_", "-").lower())
        assert (graph.num_nodes, graph.num_edges) == (same.num_nodes, same.num_edges)


def test_names_of_models() -> None:
    """Seen to fail with `probe-200`, which has no steps to take."""
    found = competitors("probe, decoder-random-200,gcn,gcn-tuned,gcn,random,states-random")
    assert [m.name for m in found] == [
        "probe", "decoder-random-200", "gcn", "gcn-tuned", "probe-random", "decoder-random",
        "states-random",
    ]  # fmt: skip
    assert (found[1].kind, found[1].random, found[1].steps) == ("decoder", True, 200)
    assert (found[3].kind, found[3].tuned, found[3].own) == ("gcn", True, False)
    assert len(competitors("all")) == len(set(GROUPS["all"]))
    (alone,) = competitors("decoder-random-alone-200")
    assert (alone.random, alone.alone, alone.steps) == (True, True, 200)
    for wrong in ("gcm", "probe-200", "ridge-tuned", "gcn-random", "states-alone", ""):
        with pytest.raises(DataError, match="GFM712"):
            competitors(wrong)


def test_the_metric_of_a_graph() -> None:
    """A quarter is not rare: below it is."""
    assert choose_metric(np.array([0] * 75 + [1] * 25)) == "accuracy"
    assert choose_metric(np.array([0] * 76 + [1] * 24)) == "roc_auc"
    assert choose_metric(np.array([0] * 90 + [1] * 5 + [2] * 5)) == "accuracy"


def test_cells_are_done_once_and_resumed(folder: Path, tmp_path: Path) -> None:
    """In processes, as the command does it. Seen to fail when a done cell was measured again."""
    plan = plan_of(folder, tmp_path)
    run(plan)
    receipts = {cell: plan.receipt(cell) for cell in plan.cells()}
    assert len(receipts) == 8
    assert {r["status"] for r in receipts.values() if r} == {DONE}
    assert not list(plan.units(missing_only=True))
    gone = plan.path(next(plan.cells()))
    gone.write_text('{"status": "do')  # cut off
    before = {c: plan.path(c).stat().st_mtime_ns for c in plan.cells() if plan.path(c) != gone}
    run(plan)
    assert before == {c: plan.path(c).stat().st_mtime_ns for c in before}
    again = json.loads(gone.read_text())
    assert again["status"] == DONE
    assert again["score"] == receipts[next(plan.cells())]["score"]  # type: ignore[index]
    more = replace(plan, seeds=3)
    assert sum(len(unit.models) for unit in more.units(missing_only=True)) == 4


def test_no_model_is_shown_a_test_label(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the labels left in the graph, and with them in the prepared one."""
    plan = plan_of(folder, tmp_path, models="majority,probe-random")
    shown = []

    def looking(competitor, graph, prepared, **how):  # type: ignore[no-untyped-def]
        if graph.name != "warm-up":
            shown.append((graph.y[graph.test_mask], prepared.y[graph.test_mask]))
        return measure(competitor, graph, prepared, **how)

    monkeypatch.setattr(harness, "measure", looking)
    run_unit(plan, next(plan.units()))
    assert len(shown) == 2
    for own, other in shown:
        assert len(own) and (own == -1).all() and (other == -1).all()


def test_a_failed_cell_is_reported_and_run_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail when a failed cell counted as done, and when its graph was still ranked."""
    plan = plan_of(folder, tmp_path)
    broken = [True]

    def failing(competitor, graph, *args, **how):  # type: ignore[no-untyped-def]
        if broken and competitor.name == "ridge" and graph.name == "other":
            raise RuntimeError("planted")
        return measure(competitor, graph, *args, **how)

    monkeypatch.setattr(harness, "measure", failing)
    for unit in plan.units():
        run_unit(plan, unit)
    summary = summarise(plan)
    assert summary["cells"] == {"all": 8, DONE: 6, FAILED: 2, LEFT_OUT: 0, "not done yet": 0}
    assert summary["splits"]["50/25/25"]["ranked"] == ["plan-ted"]
    text = markdown(summary)
    assert "other seed 1 ridge: RuntimeError: planted" in text
    assert "other (2 failed)" in text
    broken.clear()
    for unit in plan.units(missing_only=True):
        assert (unit.graph, [m.name for m in unit.models]) == ("other", ["ridge"])
        run_unit(plan, unit)
    assert summarise(plan)["failed"] == []


def test_a_graph_without_the_split_is_left_out_with_the_reason(
    folder: Path, tmp_path: Path
) -> None:
    """Left out is not failed. Seen to fail when it raised."""
    plan = plan_of(folder, tmp_path, splits=("official",), seeds=1)
    for unit in plan.units():
        run_unit(plan, unit)
    summary = summarise(plan)
    assert summary["cells"][LEFT_OUT] == 4 and not summary["failed"]
    assert "official other: the graph has no split of its own" in markdown(summary)


def test_a_receipt_belongs_to_what_it_depends_on(folder: Path, tmp_path: Path) -> None:
    """Seen to fail when the key of a random trunk held the weights, or a peer's held them."""
    starts = []
    for seed in (1, 2):
        save_checkpoint(tmp_path / f"run{seed}", GraphFM(TINY, seed=seed), meta={})
        starts.append(str(tmp_path / f"run{seed}"))
    names = "probe,probe-random,decoder,decoder-7,gcn,gcn-tuned"
    one, other = (plan_of(folder, tmp_path, names, checkpoint=start).keys for start in starts)
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"probe", "decoder", "decoder-7"}
    longer = plan_of(folder, tmp_path, names, checkpoint=starts[0], steps=3, trials=9).keys
    assert {name for name in one if one[name] != longer[name]} == {"decoder", "gcn-tuned"}
    dearer = plan_of(folder, tmp_path, names, checkpoint=starts[0], search_cost=2.0).keys
    assert {name for name in one if one[name] != dearer[name]} == {"gcn-tuned"}


def test_every_search_has_the_same_seconds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the trainings say, of a GCN that is measured once for a graph.

    Seen to fail with the limit taken for every model, and with the GCN measured for each search.
    """
    plan = plan_of(folder, tmp_path, "gcn,gcn-tuned,gprgnn-tuned", search_cost=3.0)
    limits, trained = [], []

    def looking(competitor, graph, *args, **how):  # type: ignore[no-untyped-def]
        limits.append((competitor.name, how.get("search_seconds")))
        if graph.name != "warm-up" and competitor.name == "gcn":
            trained.append(graph.name)
        return measure(competitor, graph, *args, **{**how, "trials": 1})

    monkeypatch.setattr(harness, "measure", looking)
    monkeypatch.setattr(harness, "MIN_SEARCH_SECONDS", 0.0)
    for unit in plan.units():
        run_unit(plan, unit)
    assert trained.count("plan-ted") == plan.seeds + 1
    of_gcn = json.loads((tmp_path / "gcn" / "plan-ted.json").read_text())["seconds"]
    found = {
        (cell.model, (plan.receipt(cell) or {})["search_seconds"])
        for cell in plan.cells()
        if cell.graph == "plan-ted" and cell.seed == 0
    }
    assert found == {("gcn", None), ("gcn-tuned", 3 * of_gcn), ("gprgnn-tuned", 3 * of_gcn)}
    monkeypatch.setattr(harness, "MIN_SEARCH_SECONDS", 1e6)
    unit = Unit(split="50/25/25", graph="plan-ted", seed=0, models=plan.models[1:2])
    run_unit(plan, unit)
    run_unit(replace(plan, seeds=3), replace(unit, seed=2))  # found settings are fitted whole
    assert limits[-2:] == [("gcn-tuned", 1e6), ("gcn-tuned", None)]
    text = markdown(summarise(plan))
    assert "the time of 3 trainings of the default GCN" in text


def test_a_search_is_done_on_the_first_seed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others take what it found, and its cost; without it they fail.

    Seen to fail with a search for each seed, and with the seconds of the last fit alone.
    """
    plan = plan_of(folder, tmp_path, "gprgnn-tuned", seeds=3, trials=3)
    trials = []

    def looking(competitor, graph, *args, **how):  # type: ignore[no-untyped-def]
        found = measure(competitor, graph, *args, **how)
        if graph.name == "plan-ted":
            trials.append(found.trials)
        return found

    monkeypatch.setattr(harness, "measure", looking)
    first, *others = (unit for unit in plan.units() if unit.graph == "plan-ted")
    run_unit(plan, others[0])
    assert "the search on seed 0 failed" in summarise(plan)["failed"][0]["error"]
    for unit in (first, *others):
        run_unit(plan, unit)
    assert trials == [3, 1, 1]
    cells = [cell for cell in plan.cells() if cell.graph == "plan-ted"]
    searched, *taken = filter(None, map(plan.receipt, cells))
    for each in taken:
        assert each["settings"] == searched["settings"] and each["trials"] == 3
        assert each["seconds"] > searched["seconds"]
    assert len({each["val_score"] for each in taken}) == 2  # of other splits


def test_a_graph_of_the_corpus_is_refused(folder: Path, tmp_path: Path) -> None:
    """Seen to fail without the check; a random trunk of the same shape has seen nothing."""
    model = GraphFM(TINY, seed=0)
    save_checkpoint(tmp_path / "run", model, meta={"not_judged_on": ["other"]})
    plan = plan_of(folder, tmp_path, "probe,gcn", checkpoint=str(tmp_path / "run"))
    with pytest.raises(DataError, match=r"GFM147(.|\n)*other"):
        check_unseen(plan)
    check_unseen(replace(plan, models=competitors("probe-random,gcn")))
    check_unseen(replace(plan, suite=plan.suite.only(["plan-ted"])))
    with pytest.raises(DataError, match=r"GFM712(.|\n)*probe-random|GFM712(.|\n)*--from"):
        check_unseen(replace(plan, checkpoint=None))


def test_models_and_controls_predict_better_than_the_majority(folder: Path, tmp_path: Path) -> None:
    """Each beats the majority on planted blocks; the same seed gives the same answer."""
    graph = with_split(read_suite(str(folder)).load("plan-ted"), (0.5, 0.25, 0.25), seed=0)
    prepared = prepare(graph)
    save_checkpoint(tmp_path / "run", GraphFM(TINY, seed=0), meta={})
    assert graph.y is not None and graph.test_mask is not None
    y = graph.y[graph.test_mask].numpy()
    floor = np.bincount(y).max() / len(y)
    for model in competitors("probe,decoder-2,states,probe-random,states-random,probe-alone"):
        how = {"checkpoint": str(tmp_path / "run"), "seed": 0}
        found, again = (measure(model, graph, prepared, **how) for _ in range(2))  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.proba, again.proba)
        assert (found.proba.argmax(axis=1) == y).mean() > floor, model.name
        assert np.allclose(found.proba.sum(axis=1), 1, atol=1e-5)
        assert 0 < found.seconds and 0 < found.wall_seconds
        assert (found.flops is None) == (model.kind == "states")
    (peer,) = competitors("gcn")
    anchor = measure(peer, graph, prepared, checkpoint=None, seed=0)
    assert anchor.flops is not None
    # By hand: 100 nodes of 6 columns, 64 wide, 3 classes, 200 epochs.
    edges = graph.num_edges + 100
    products = 3 * 100 * 6 * 64 + 4 * (edges * 67 + 100 * 64 * 3)
    assert anchor.flops == pytest.approx(200 * 2 * products)


def test_the_summary_by_hand(folder: Path, tmp_path: Path) -> None:
    """Receipts written by hand. Seen to fail with seeds in place of graphs as the unit."""
    plan = plan_of(folder, tmp_path, "probe-random,gcn,gcn-tuned")
    scores = {  # by model: two seeds of plan-ted, two of other
        "probe-random": ([0.9, 0.8], [0.6, 0.6]),
        "gcn": ([0.7, 0.7], [0.5, 0.7]),
        "gcn-tuned": ([0.8, 0.8], [0.7, 0.7]),
    }
    seconds = {"probe-random": 1.0, "gcn": 2.0, "gcn-tuned": 20.0}
    for cell in plan.cells():
        path = plan.path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        score = scores[cell.model][["plan-ted", "other"].index(cell.graph)][cell.seed]
        facts = dict.fromkeys(("num_nodes", "num_edges", "num_features", "num_classes"), 9)
        about = {"machine": "m", "environment": {"commit": "c"}, "metric": "accuracy"}
        cost = {"seconds": seconds[cell.model], "prepare_seconds": 3.0}
        cost["trials"] = 1
        receipt = {"status": DONE, "score": score, "num_test": 9, **facts, **about, **cost}
        path.write_text(json.dumps(receipt))
    found = summarise(plan)["splits"]["50/25/25"]
    ranks = {name: it["rank"] for name, it in found["models"].items()}
    assert ranks == {"probe-random": 1.75, "gcn": 2.75, "gcn-tuned": 1.5}
    assert found["models"]["gcn"]["elo"] == 1000
    assert found["wins"]["probe-random"]["gcn"] == pytest.approx((1 + 0.5) / 2)
    assert found["wins"]["probe-random"]["gcn-tuned"] == pytest.approx((0.75 + 0) / 2)
    costs = found["costs"]["probe-random"]
    assert costs["over_gcn"]["mean"] == pytest.approx(0.5)
    assert costs["over_gcn_prepared"]["mean"] == pytest.approx(2.0)
    assert costs["over_search"]["mean"] == pytest.approx(0.05)
    text = markdown(summarise(plan))
    assert "| plan-ted | 9 | 80.0 ± 0.0 | **85.0** ± 63.5 | 70.0 ± 0.0 |" in text


def test_only_the_cell_of_a_killed_process_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail when everything that waited was reported as killed."""
    plan = plan_of(folder, tmp_path, seeds=1)
    killer = Unit(split="50/25/25", graph="other", seed=0, models=plan.models[1:])

    def dying(run: object, plan: Plan, units: list[Unit], *, jobs: int, bar: object) -> list[Unit]:
        left = []
        for unit in units:
            for model in unit.models:
                if jobs != 1 or (unit.graph, model.name) == (killer.graph, killer.models[0].name):
                    left.append(unit)
                    break
                run_unit(plan, replace(unit, models=(model,)))
        return left

    monkeypatch.setattr(harness, "run_in_processes", dying)
    run(plan, jobs=2)
    states = {cell: (plan.receipt(cell) or {}).get("status") for cell in plan.cells()}
    dead = Cell(split="50/25/25", graph="other", seed=0, model="ridge")
    assert states.pop(dead) == FAILED
    assert set(states.values()) == {DONE}
