"""The sampler's bench at a tiny size, its peers' neighbors, and the pieces that benches share."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests import sampler_peers as peers
from tests.test_sampling_neighbors import overlap_pvalue, star_rows

BENCHES = Path(__file__).parent.parent / "tools" / "bench"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHES))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_the_whole_bench_at_a_tiny_size(tool, tmp_path, capsys):
    """Every case has a row, ratios are of medians, and the environment is left as it was.

    Seen to fail with ours over the peer in place of the peer over ours.
    """
    before = dict(os.environ)
    out = tmp_path / "new" / "sampler.json"
    call = ["--num-nodes", "500", "--num-edges", "4000", "--batch-size", "20", "--raw-rows", "50"]
    assert tool("sampler").main([*call, "--repeats", "2", "--out", str(out)]) == 0
    assert dict(os.environ) == before
    found = json.loads(out.read_text())
    assert set(found) == {"machine", "settings", "seconds", "figures"}
    assert {"cpu", "cores", "torch", "threads", "device", "load"} <= set(found["machine"])
    rows = {row["case"]: row for row in found["figures"]["rows"]}
    assert set(rows) == set(found["seconds"])
    for title in ("hops [10, 10]", "hops [15]", "raw k=10", "raw k=10, degree 500"):
        ours, peer = rows[f"{title}: ours"], rows[f"{title}: argsort"]
        assert ours["peer / ours"] == 1 and found["seconds"][ours["case"]]["repeats"] == 2
        assert peer["peer / ours"] == pytest.approx(peer["ms"] / ours["ms"])
        edges = found["figures"]["edges"][title]
        assert ours["M edges/s"] == pytest.approx(edges / ours["ms"] / 1e3)
    floor = rows["raw k=10: floor"]["M edges/s"]
    ours = rows["raw k=10: ours"]
    assert ours["share of floor"] == pytest.approx(ours["M edges/s"] / floor)
    assert "raw k=10: reservoir stand-in, torch" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["argsort", "reservoir", "numba_reservoir"])
def test_peers_do_the_same_work(name):
    """Each gives a uniform sample without replacement.

    Seen to fail with the reservoir's draw from 0..i-1.
    """
    if name == "numba_reservoir":
        pytest.importorskip("numba")
    sample = peers.numba_reservoir() if name == "numba_reservoir" else getattr(peers, name)
    torch.manual_seed(0)
    rowptr, col = star_rows(12, 20_000)
    nodes = torch.arange(20_000)
    a, mask = sample(rowptr, col, nodes, 4)
    b, _ = sample(rowptr, col, nodes.flip(0), 4)
    assert mask.all()
    if name == "numba_reservoir":  # its stream begins anew at each call
        b = b.flip(0).roll(1, 0)
    assert overlap_pvalue(a, b, degree=12, k=4) > 1e-4
    assert np.ptp(np.bincount(a.flatten(), minlength=12)) < 8 * np.sqrt(20_000 / 3)

    rowptr, col = torch.tensor([0, 2, 2, 5]), torch.tensor([1, 2, 0, 1, 2])
    chosen, mask = sample(rowptr, col, torch.tensor([2, 1, 0]), 3)
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, True, False]]
    assert sorted(chosen[0].tolist()) == [0, 1, 2] and sorted(chosen[2, :2].tolist()) == [1, 2]


def test_cases_run_in_turns_and_warm_up_is_not_counted(tool):
    """Each round starts one case further. Seen to fail without."""
    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = tool("timing").interleaved(cases, 3, warmup=1)
    assert "".join(order) == "abcbcacababc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_figures_of_the_shared_pieces(tool, tmp_path):
    """Quartiles are numpy's; columns are aligned."""
    bench = tool("timing")
    values = [5.0, 1.0, 2.0, 9.0, 4.0, 4.5]
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    assert bench.summary(values) == {"median": median, "q1": q1, "q3": q3, "repeats": 6}
    assert bench.median(values) == median
    text = bench.table(["case", "ms"], [["a", 1234567], ["longer", 0.12345]])
    assert text.splitlines() == [
        "case           ms",
        "------  ---------",
        "a       1,234,567",
        "longer      0.123",
    ]
    args = bench.parser("x").parse_args(["--out", str(tmp_path / "o.json"), "--repeats", "3"])
    written = bench.write(args, {"cpu": "c"}, {"a": values}, figures=[1])
    assert json.loads(args.out.read_text()) == written
    assert [p.name for p in tmp_path.iterdir()] == ["o.json"]
    with pytest.raises(SystemExit):
        bench.parser("x").parse_args(["--repeats", "0"])
