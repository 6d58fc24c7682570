"""The entries of the catalog: how many, whole, honest, and such that PyG can be asked for them."""

from __future__ import annotations

import inspect
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphfm.config.load import shipped
from graphfm.graphs.catalog.catalog import Catalog, _sources
from graphfm.graphs.catalog.rawfiles import PLAIN
from graphfm.graphs.catalog.source import RawFile, SourceConfig
from graphfm.graphs.spec import DatasetSpec

CATALOG = Catalog.read()
ENTRIES = list(CATALOG.entries.values())
PYG: list[tuple[str, Any]] = [
    (e.id, source) for e in ENTRIES for source in _sources(e) if source.kind == "pyg"
]

# Old raw files that are pickles of arrays: the allow-list of rawfiles.py looks into them.
PICKLED = {"Planetoid", "NELL", "MixHopSyntheticDataset"}


def addresses(entry: DatasetSpec) -> list[RawFile]:
    return [file for source in _sources(entry) for file in source.downloads()]


def test_every_file_is_walked_and_every_entry_counted() -> None:
    """Seen to fail with one entry removed, and with one listed twice."""
    ids = [
        entry["id"]
        for path in shipped("datasets").rglob("*.yaml")
        for entry in yaml.safe_load(path.read_text()).get("datasets") or []
    ]
    assert sorted(ids) == sorted(CATALOG.entries)
    domains = Counter(entry.domain for entry in ENTRIES)
    assert len(ids) == 360
    assert domains["synthetic"] == 72
    assert domains["synthetic-benchmark"] == 11  # drawn by others: MixHop's ten, BA-shapes
    assert sum(not entry.synthetic for entry in ENTRIES) == 277
    kinds = Counter(e.source["kind"] for e in ENTRIES if e.domain != "synthetic")
    assert kinds == {
        "pyg": 123,
        "facebook100": 80,
        "npz": 63,
        "arrays": 9,
        "networkx": 4,
        "sklearn": 4,
        "ogb": 4,
        "edgelist": 1,
    }
    assert sum(entry.role == "evaluation" for entry in ENTRIES) == 15


def test_all_facebook_schools_and_tu_collections_are_there() -> None:
    """Seen to fail with one school under the name of another."""
    schools = [e for e in ENTRIES if e.group == "facebook100"]
    named = {alias for e in schools for alias in e.aliases}
    assert (len(schools), len(named)) == (100, 100)
    assert all(e.personal for e in schools)
    assert {"Auburn71", "NotreDame57", "JohnsHopkins55", "Yale4"} <= named
    assert sum(e.source.get("dataset") == "TUDataset" for e in ENTRIES) == 37


def test_an_entry_says_what_it_is() -> None:
    """Licence or `unknown`, domain, group, citation, counts or why there are none.

    Seen to fail with a citation gone.
    """
    for entry in ENTRIES:
        assert entry.license and entry.domain and entry.group and entry.title, entry.id
        assert entry.citation, entry.id
        if entry.counts == "measured":
            assert None not in entry.count.values(), entry.id
        elif entry.num_nodes is None:
            assert entry.notes, entry.id
        assert all(isinstance(source, SourceConfig) for source in _sources(entry)), entry.id


def test_an_address_is_https_and_ends_in_the_data_folder() -> None:
    """Seen to fail with http, and with `..` in a path."""
    for entry in ENTRIES:
        files = addresses(entry)
        for file in files:
            assert re.fullmatch(r"https://[\w.-]+/[\w./%?=&~-]+", file.url), (entry.id, file.url)
            assert ".." not in file.path and not file.path.startswith("/"), (entry.id, file.path)
        assert len({file.path for file in files}) == len(files), entry.id


def test_no_path_has_two_addresses() -> None:
    """The hash of a path is known once; what the bundle rewrote is not what its origin has.

    Seen to fail with the roads of Paris and London in one folder, and with an origin in the folder
    of its source.
    """
    for entry in ENTRIES:
        folders = [source.folder for source in _sources(entry) if source.kind == "pyg"]
        assert len(set(folders)) == len(folders), entry.id
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for entry in ENTRIES:
        for file in addresses(entry):
            found[file.path].add((file.url, file.member))
    assert {path: where for path, where in found.items() if len(where) > 1} == {}


def test_hosts_that_must_not_be_named_are_not() -> None:
    """PyG's own host comes from its class, at fetch time."""
    text = "".join(path.read_text() for path in shipped("datasets").rglob("*.yaml"))
    assert not re.search(r"//(data\.)?py(g|pi)\.", text)
    assert addresses(CATALOG.entry("elliptic"))[0].url.endswith("elliptic_txs_features.csv.zip")


def test_an_alias_is_shared_within_a_group_only() -> None:
    """Cora under two names is one group. Seen to fail with the alias Wiki for wikics."""
    groups = defaultdict(set)
    for entry in ENTRIES:
        for alias in {*entry.aliases, entry.id}:
            groups[re.sub(r"[^a-z0-9]", "", alias.lower())].add(entry.group)
    assert {alias: found for alias, found in groups.items() if len(found) > 1} == {}


def test_large_is_what_does_not_fit() -> None:
    """Above a million nodes or 20 million edges. Seen to fail with reddit as regular."""
    for entry in ENTRIES:
        nodes, edges = entry.num_nodes or 0, entry.num_edges or 0
        assert (entry.size == "large") == (nodes > 1_000_000 or edges > 20_000_000), entry.id


def test_pyg_has_the_class_and_takes_its_arguments() -> None:
    """Seen to fail with `homophilly` for MixHop."""
    import torch_geometric.datasets

    for _, source in PYG:
        kind = getattr(torch_geometric.datasets, source.dataset)
        names = [source.name] if source.name else []
        roots = ["root"] if source.root else []
        inspect.signature(kind).bind(*roots, *names, **source.args)


class _Stop(Exception):
    pass


def test_the_files_that_pyg_asks_for_are_those_of_the_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the folder it looks in. Seen to fail with `raw: cs/raw` for Coauthor CS."""
    import torch_geometric.datasets
    from torch_geometric.data import InMemoryDataset

    def stop(self: Any, root: str, *args: object, **kwargs: object) -> None:
        self.root = root
        raise _Stop

    monkeypatch.setattr(InMemoryDataset, "__init__", stop)
    for id, source in PYG:
        if not source.root:
            continue
        kind = getattr(torch_geometric.datasets, source.dataset)
        dataset = kind.__new__(kind)
        with pytest.raises(_Stop):
            dataset.__init__("", *([source.name] if source.name else []), **source.args)
        assert dataset.raw_dir == source.raw, id
        wanted = dataset.raw_file_names if source.files else []
        for name in [wanted] if isinstance(wanted, str) else wanted:  # GraphLand's is a folder
            assert any(f == name or f.startswith(f"{name}/") for f in source.files), (id, name)


def test_every_raw_file_is_of_a_kind_that_may_be_opened() -> None:
    """Seen to fail (GFM138 when fetched) for the edge lists of Airports and GraphLand's YAML."""
    for id, source in PYG:
        for name in source.files:
            known = Path(name).suffix in PLAIN | {".npz", ".npy", ".yaml"}
            assert known or source.dataset in PICKLED, (id, name)
