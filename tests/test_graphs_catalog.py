"""The catalog: entries, mixtures, and a cache that is whole or absent."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from graphfm.errors import DataError, OfflineError, RecipeError
from graphfm.graphs.catalog import fetch
from graphfm.graphs.catalog.catalog import Catalog, data_folder
from graphfm.storage import cache_folder

ENTRY = {
    "id": "tiny",
    "title": "A path of three",
    "source": {"kind": "npz", "file": "tiny.npz"},
    "domain": "test",
    "group": "tiny",
    "num_nodes": 3,
    "num_edges": 4,
    "num_features": 0,
    "num_classes": 2,
}
SAMPLE = [  # every source and class of the bundle once, small ones
    "planetoid-cora",
    "citationfull-cora-ml",
    "webkb-texas",
    "actor",
    "het-minesweeper",
    "fb100-reed98",
    "polblogs",
    "tu-mutag",
    "tu-enzymes",
    "fb100-caltech36",
    "flickr-attr",
    "nba",
]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.read()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A catalog of one graph, with data and cache folders of its own."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("GRAPHFM_DATA", str(data))
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path / "home"))
    save_tiny(data / "tiny.npz", [0, 1, -1])
    return read_catalog(tmp_path / "datasets", [ENTRY])


def save_tiny(path: Path, y: list[int]) -> None:
    np.savez(path, edge_index=np.array([[0, 1, 1, 2], [1, 0, 2, 1]]), y=np.array(y))


def read_catalog(folder: Path, entries: list[dict], mixtures: dict | None = None) -> Catalog:
    folder.mkdir(exist_ok=True)
    content = {"datasets": entries, "mixtures": mixtures or {}}
    (folder / "test.yaml").write_text(yaml.safe_dump(content))
    return Catalog.read(folder)


def cached() -> list[Path]:
    folder = cache_folder() / "graphs"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def counts(thing: object) -> dict[str, int]:
    fields = ("num_nodes", "num_edges", "num_features", "num_classes")
    return {field: getattr(thing, field) for field in fields}


def test_a_mixture_refuses_the_kin_of_what_is_judged(catalog: Catalog) -> None:
    """Every pretraining entry of an evaluation group, one by one.

    Seen to fail with `_refuse_evaluation` commented out.
    """
    kin = [
        e.id
        for e in catalog.entries.values()
        if e.role == "pretraining" and e.group in catalog.judged_groups
    ]
    assert {"ogbn-products", "ogbn-proteins"} <= set(kin)
    for id in kin:
        leaky = dataclasses.replace(catalog, mixtures={"leaky": {"include": [id]}})
        with pytest.raises(DataError, match="GFM136"):
            leaky.mixture("leaky")


@pytest.mark.parametrize("id", ["Planetoid_Cora", "planetoid-cora"])
def test_ids_may_be_written_as_in_the_manifest(catalog: Catalog, id: str) -> None:
    assert catalog.entry(id).id == "planetoid-cora"


def test_an_unknown_id_gets_a_hint(catalog: Catalog) -> None:
    """Seen to fail with the hint left out of the message."""
    with pytest.raises(DataError, match="GFM120.*Did you mean 'planetoid-cora'"):
        catalog.load("planetoid-coar")
    with pytest.raises(DataError, match="GFM120.*Did you mean 'local-152'"):
        catalog.mixture("local-125")


def test_an_unknown_key_of_an_entry_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="licence.*Did you mean 'license'"):
        read_catalog(tmp_path, [ENTRY | {"licence": "MIT"}])


def test_an_id_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="GFM122"):
        read_catalog(tmp_path, [ENTRY, ENTRY])


def test_local_152_is_the_bundle_and_what_is_built_in(catalog: Catalog) -> None:
    """Seen to fail with one id of the bundle left out."""
    mixture = catalog.mixture("local-152")
    entries = [catalog.entries[id] for id in mixture]
    kinds = [entry.source["kind"] for entry in entries]
    assert len(mixture) == 152
    assert sum(entry.synthetic for entry in entries) == 66
    assert kinds.count("networkx") + kinds.count("sklearn") == 7
    assert mixture["nba"] == pytest.approx(403**0.5)


@pytest.mark.realdata
def test_local_152_needs_no_network(catalog: Catalog) -> None:
    """With the bundle: nothing is to be fetched. Seen to fail with ogbn-arxiv in it."""
    assert all(catalog.is_here(id) for id in catalog.mixture("local-152"))


def test_no_evaluation_is_every_real_graph_that_is_not_judged_on(catalog: Catalog) -> None:
    judged = catalog.judged_groups
    free = {e.id for e in catalog.entries.values() if not e.synthetic and e.group not in judged}
    assert catalog.mixture("no-evaluation").keys() == free


def test_demo_needs_no_file_and_leaves_digits_out(catalog: Catalog) -> None:
    mixture = catalog.mixture("demo")
    entries = [catalog.entries[id] for id in mixture]
    assert len(mixture) == 17
    assert not [e for e in entries if e.source["kind"] in {"npz", "edgelist"} or "root" in e.source]
    assert "digits" not in {e.group for e in entries}


@pytest.mark.parametrize(("id", "group"), [("judged", "tiny"), ("judged", "other")])
def test_a_mixture_with_an_evaluation_graph_is_refused(tmp_path: Path, id: str, group: str) -> None:
    """By role, and by group; seen to fail with `_refuse_evaluation` commented out."""
    entries = [ENTRY, ENTRY | {"id": id, "group": group, "role": "evaluation"}]
    include = ["tiny"] if group == "tiny" else ["tiny", id]
    catalog = read_catalog(tmp_path, entries, {"leaky": {"include": include}})
    with pytest.raises(DataError, match="GFM136"):
        catalog.mixture("leaky")


def test_selectors_choose_in_catalog_order(tmp_path: Path) -> None:
    entries = [
        ENTRY | {"id": f"g{i}", "group": f"g{i}", "num_nodes": 10 * (i + 1), "personal": i == 1}
        for i in range(6)
    ]
    pick = {"id": "g*", "personal": False, "max_nodes": 50, "first": 3}
    mixtures = {"some": {"include": [pick], "exclude": ["g3"], "weight": "size^1"}}
    assert read_catalog(tmp_path, entries, mixtures).mixture("some") == {"g0": 10.0, "g2": 30.0}


@pytest.mark.parametrize(
    ("pick", "found"),
    [
        ({"synthetic": True}, ["drawn"]),
        ({"synthetic": False, "judged": False}, ["big", "drawn-not"]),
        ({"size": "large"}, ["big"]),
        ({"size": "regular", "judged": False}, ["drawn", "drawn-not"]),
    ],
)
def test_selectors_know_what_is_drawn_judged_and_large(
    tmp_path: Path, pick: dict, found: list[str]
) -> None:
    """The kin of an evaluation graph is judged, whatever its own role."""
    entries = [
        ENTRY | {"id": "kin"},
        ENTRY | {"id": "test", "role": "evaluation"},
        ENTRY | {"id": "big", "group": "big", "size": "large"},
        ENTRY | {"id": "drawn", "group": "drawn", "domain": "synthetic"},
        ENTRY | {"id": "drawn-not", "group": "drawn-not"},
    ]
    catalog = read_catalog(tmp_path, entries, {"some": {"include": [pick]}})
    assert sorted(catalog.mixture("some")) == found


def test_a_graph_of_unknown_size_weighs_as_the_median(tmp_path: Path) -> None:
    unknown = ENTRY | {"counts": "published", "num_nodes": None, "id": "unknown"}
    sized = [ENTRY | {"id": f"g{n}", "num_nodes": n} for n in (4, 9, 100)]
    catalog = read_catalog(tmp_path, [*sized, unknown], {"all": {"include": ["*"]}})
    assert catalog.mixture("all")["unknown"] == 3


def test_a_selector_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    catalog = read_catalog(tmp_path, [ENTRY], {"none": {"include": ["tinny"]}})
    with pytest.raises(DataError, match="GFM120.*Did you mean 'tiny'"):
        catalog.mixture("none")


def test_the_second_load_is_the_same_and_reads_the_cache(
    tiny: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail (the source was asked again) with the folder's name made random."""
    from graphfm.graphs.catalog.sources import npz

    first = tiny.load("tiny")
    monkeypatch.setattr(npz.Config, "build", None)
    second = tiny.load("tiny")
    assert second.fingerprint == first.fingerprint
    assert (second.name, second.class_names) == ("tiny", ("0", "1"))
    assert len(cached()) == 1


def test_an_altered_raw_file_gives_another_key(tiny: Catalog) -> None:
    """Seen to fail with the hashes left out of the key: the old labels came back."""
    assert tiny.load("tiny").y.tolist() == [0, 1, -1]
    save_tiny(data_folder() / "tiny.npz", [1, 0, -1])
    assert tiny.load("tiny").y.tolist() == [1, 0, -1]
    assert len(cached()) == 2


def test_a_truncated_raw_file_never_enters_the_cache(tiny: Catalog) -> None:
    path = data_folder() / "tiny.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="GFM103"):
        tiny.load("tiny")
    assert not cached()


def test_a_missing_raw_file_names_the_folder_to_set(tiny: Catalog) -> None:
    (data_folder() / "tiny.npz").unlink()
    with pytest.raises(OfflineError, match="GFM401(.|\n)*GRAPHFM_DATA"):
        tiny.load("tiny")


def test_a_graph_that_is_not_as_its_entry_says_is_refused(tiny: Catalog, tmp_path: Path) -> None:
    """Measured counts bind; published ones and those not said do not.

    Seen to fail without `_check_counts`.
    """
    off = ENTRY | {"num_edges": 6, "num_classes": 3}
    with pytest.raises(DataError, match="GFM143.*4 edges, but the catalog has 6, 2 classes"):
        read_catalog(tmp_path / "off", [off]).load("tiny")
    said = off | {"counts": "published", "num_features": None}
    assert read_catalog(tmp_path / "said", [said]).load("tiny").num_edges == 4
    with pytest.raises(RecipeError, match="counts: published"):
        read_catalog(tmp_path / "unsaid", [ENTRY | {"num_features": None}])


def test_the_origin_is_read_where_the_source_is_not(tiny: Catalog, tmp_path: Path) -> None:
    """Seen to fail with the first source alone looked at."""
    first = ENTRY | {"source": {"kind": "npz", "file": "gone.npz"}, "origin": ENTRY["source"]}
    assert read_catalog(tmp_path / "two", [first]).load("tiny").num_edges == 4
    assert read_catalog(tmp_path / "two", [first]).is_here("tiny")


@pytest.mark.parametrize("file", ["graph.safetensors", "graph.json"])
def test_a_damaged_cache_is_made_again(tiny: Catalog, file: str) -> None:
    """Seen to fail with the comparison of fingerprints removed."""
    first = tiny.load("tiny")
    damaged = cached()[0] / file
    content = bytearray(damaged.read_bytes())
    content[-8:] = bytes(8)  # the last label becomes 0
    damaged.write_bytes(content)
    assert tiny.load("tiny").fingerprint == first.fingerprint
    assert tiny.load("tiny").y.tolist() == [0, 1, -1]


def test_the_data_folder_defaults_to_one_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHFM_DATA", raising=False)
    assert data_folder() == cache_folder() / "data"


@pytest.mark.realdata
@pytest.mark.parametrize("id", SAMPLE)
def test_a_graph_of_the_bundle_matches_its_entry(catalog: Catalog, id: str) -> None:
    """Seen to fail with one more edge in the entry of actor."""
    graph = catalog.load(id)
    assert counts(graph) == counts(catalog.entry(id))
    assert catalog.load(id).fingerprint == graph.fingerprint
    assert graph.num_duplicates == 0


@pytest.mark.realdata
@pytest.mark.slow
def test_every_entry_loads_and_matches_the_manifest(catalog: Catalog) -> None:
    import csv

    with (data_folder() / "MANIFEST.csv").open() as file:
        manifest = {row["id"].replace("_", "-").lower(): row for row in csv.DictReader(file)}
    here = {id: e for id, e in catalog.entries.items() if catalog.is_here(id)}
    drawn = {id for id, entry in catalog.entries.items() if entry.domain == "synthetic"}
    assert len(manifest) == 94 and len(drawn) == 72
    assert manifest.keys() | drawn <= here.keys()
    for id, entry in here.items():
        assert counts(catalog.load(id)) == counts(entry), id
        if id in manifest:
            row = manifest[id]
            listed = [int(row[k]) for k in ("nodes", "edges", "features", "classes")]
            assert list(counts(entry).values()) == listed, id
            assert (entry.role, entry.group) == (
                row["role"],
                row["group"].lower().replace("_", "-"),
            )


@pytest.mark.realdata
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_polblogs_is_what_pyg_reads(catalog: Catalog) -> None:
    """Our reader stands in for PyG's, which needs pandas."""
    pytest.importorskip("pandas")
    from graphfm.graphs.catalog.sources import pyg

    source = pyg.Config(dataset="PolBlogs", root="PolBlogs/polblogs", raw="raw")
    graph = source.build(name="polblogs", data=data_folder())
    assert graph.fingerprint == catalog.load("polblogs").fingerprint


@pytest.mark.realdata
def test_the_label_of_a_molecule_is_not_among_its_features(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels in the raw file: features stay. Seen to fail with all columns of x kept."""
    before = catalog.load("tu-enzymes")
    monkeypatch.setattr(fetch, "known_hashes", dict)  # or the altered file would be refused
    shutil.copytree(data_folder() / "TUDataset" / "ENZYMES", tmp_path / "TUDataset" / "ENZYMES")
    monkeypatch.setenv("GRAPHFM_DATA", str(tmp_path))
    file = next(tmp_path.rglob("ENZYMES_node_labels.txt"))
    labels = np.loadtxt(file, dtype=int)
    np.savetxt(file, np.random.default_rng(0).permutation(labels), fmt="%d")
    after = catalog.load("tu-enzymes")
    assert isinstance(before.x, torch.Tensor)
    assert torch.equal(before.x, after.x)
    assert torch.equal(before.col, after.col)
    assert not torch.equal(before.y, after.y)
