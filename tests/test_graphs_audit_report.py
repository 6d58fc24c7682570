"""The leakage audit: what entries declare, what is not compared, what is refused and remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphfm.config.load import load_recipe
from graphfm.errors import DataError
from graphfm.graphs.audit import audit as audit_module
from graphfm.graphs.audit.audit import audit, audit_ids, not_judged_on
from graphfm.graphs.audit.overlap import Comparison, compare
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec
from graphfm.training.pretrain import pretrain
from tests.graphs import synthetic


def spec(id: str, **fields: object) -> DatasetSpec:
    values = {
        "title": id,
        "source": {"kind": "npz", "file": f"{id}.npz"},
        "domain": "test",
        "group": id,
        "num_nodes": 120,
        "num_edges": 4,
        "num_features": 0,
        "num_classes": 2,
    }
    return DatasetSpec(id=id, **{**values, **fields})


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({"group": "two"}, "group"), ({"aliases": ["The_Two"]}, "alias"), ({}, None)],
)
def test_what_entries_declare_counts(fields: dict[str, object], kind: str | None) -> None:
    """Unless told not to. Seen to fail with names compared as they are written."""
    specs = {"one": spec("one", **fields), "two": spec("two", aliases=["the two"])}
    report = audit({}, {}, specs, absent=(["one"], ["two"]))
    assert [o.kinds for o in report.overlaps] == ([(kind,)] if kind else [])
    assert report.declared_only == ("one", "two")
    assert audit({}, {}, specs, absent=(["one"], ["two"]), use_declared=False).clean


def test_names_that_are_alike_are_a_hint_only() -> None:
    specs = {"planetoid-cora": spec("planetoid-cora"), "cora-ml": spec("cora-ml")}
    report = audit({}, {}, specs, absent=(["planetoid-cora"], ["cora-ml"]))
    assert report.clean
    assert report.hints == (("planetoid-cora", "cora-ml", "both are called 'cora'"),)


def test_what_cannot_overlap_is_not_compared() -> None:
    """A drawn graph, and one of under 2% of the nodes; seen to fail without either rule."""
    graph = synthetic()
    specs = {
        "drawn": spec("drawn", domain="synthetic"),
        "seen": spec("seen"),
        "judged": spec("judged"),
        "huge": spec("huge", num_nodes=7000),
    }

    class Unread(dict):  # type: ignore[type-arg]
        def __getitem__(self, id: str) -> Graph:
            assert id != "huge", "loaded for nothing"
            return super().__getitem__(id)

    judged = Unread(judged=graph, huge=graph)
    report = audit({"drawn": graph, "seen": graph}, judged, specs)
    assert report.compared == 1
    assert [(o.corpus, o.judged) for o in report.overlaps] == [("seen", "judged")]


def test_a_refusal_names_the_worst_three() -> None:
    graph = synthetic()
    report = audit({f"g{i}": graph for i in range(5)}, {"judged": graph})
    with pytest.raises(DataError, match="GFM147.*g0 ~ judged .*; g1.*; g2.*and 2 more"):
        report.refuse()


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalog whose evaluation graph lies in its mixture too, under another name and group."""
    monkeypatch.setenv("GRAPHFM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    graph = synthetic(num_features=0)
    edges, y = graph.edge_index.numpy(), graph.y.numpy()
    order = np.random.default_rng(0).permutation(120)
    np.savez(tmp_path / "data" / "seen.npz", edge_index=order[edges], y=y)
    np.savez(tmp_path / "data" / "judged.npz", edge_index=edges, y=y)
    counts = {"num_edges": graph.num_edges, "num_classes": 3}
    entries = {
        "seen": spec("seen", **counts),
        "judged": spec("judged", role="evaluation", **counts),
        "kin": spec("kin", group="seen"),
    }
    return Catalog(entries=entries, mixtures={"leaky": {"include": ["seen"]}})


def test_pretraining_refuses_an_overlap(
    two: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That no name gives away. Seen to fail with the audit left out of pretrain()."""
    monkeypatch.setattr(Catalog, "read", classmethod(lambda cls: two))
    recipe = load_recipe("demo", ["data.mixture=leaky"])
    with pytest.raises(DataError, match=r"GFM147.*seen ~ judged \(.*whole"):
        pretrain(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_comparisons_are_made_once(two: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second audit reads them; a damaged file is made again.

    Seen to fail with the fingerprint of the other graph left out of the key.
    """
    first = audit_ids(["seen"], ["judged"], two)
    calls: list[int] = []

    def counted(a: object, b: object) -> Comparison:
        calls.append(1)
        return compare(a, b)  # type: ignore[arg-type]

    monkeypatch.setattr(audit_module, "compare", counted)
    again = audit_ids(["seen"], ["judged"], two)
    assert (again.overlaps, len(calls)) == (first.overlaps, 0)
    audit_ids(["seen"], ["kin" if two.is_here("kin") else "judged", "seen"], two)
    assert len(calls) == 1
    for path in (audit_module.cache_folder() / "audit").iterdir():
        path.write_text("{")
    assert audit_ids(["seen"], ["judged"], two).overlaps == first.overlaps
    assert len(calls) == 2


def test_what_is_not_here_is_known_by_its_entry(two: Catalog) -> None:
    report = audit_ids(["seen"], ["judged", "kin"], two)
    assert report.declared_only == ("kin",)
    assert {(o.judged, o.kinds[0]) for o in report.overlaps} >= {("kin", "group")}


def test_what_must_not_judge_is_the_corpus_and_its_groups(two: Catalog) -> None:
    """Seen to fail with ids only."""
    assert not_judged_on(["seen"], two) == ["kin", "seen"]
    assert not_judged_on(["mine"], two) == ["mine"]
