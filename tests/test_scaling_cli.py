"""``graphfm scaling``: what a person and a script read of it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from graphfm.cli.main import app
from graphfm.scaling.laws import Chinchilla

ROOT = Path(__file__).resolve().parents[1]
LAW = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
COLUMNS = ("--column", "params=size", "--column", "targets=tokens", "--column", "loss=final")
DESIGN = ("--params", "5e7:1e10", "--targets", "1e9:2e11")


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["scaling", *(str(a) for a in args)], prog_name="graphfm")


def ran(*args: object) -> Result:
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    return result


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def grid(noise: float = 0.003) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {"size": n, "tokens": d, "final": LAW.predict(n, d)[0] * np.exp(noise * rng.normal())}
        for n in np.geomspace(5e7, 1e10, 5)
        for d in np.geomspace(1e9, 2e11, 5)
    ]


def receipt(path: Path, n: float, d: float, **changes: Any) -> Path:
    facts = {
        "params": {"trunk": int(n), "total": 10 * int(n)}, "targets_seen": int(d),
        "unique_targets": int(d), "flops": int(40 * n**0.9 * d), "seconds": 1e-9 * n * d + 1,
        "loss_end": float(LAW.predict(n, d)[0]), "finished": True, "environment": {"seed": 0},
        "nodes": 10, "datasets": 1, **changes,
    }  # fmt: skip
    path.write_text(json.dumps(facts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """fit.json, and what --json said."""
    folder = tmp_path_factory.mktemp("fit")
    runs = write(folder / "runs.csv", grid())
    out = folder / "fit.json"
    said = ran("fit", runs, *COLUMNS, "--resamples", 60, "--out", out, "--json")
    return out, json.loads(said.stdout)


def test_a_fit_is_one_json_value_with_intervals(fitted: tuple[Path, Any]) -> None:
    """Law, objective, and value, low and high of each parameter, as issue 7 names them."""
    out, said = fitted
    assert json.loads(out.read_text()) == said
    assert said["law"] == "chinchilla" and said["objective"] > 0
    assert said["params"].keys() == {"E", "A", "B", "alpha", "beta"}
    for name, it in said["params"].items():
        assert it["low"] < it["value"] < it["high"], name
    assert said["params"]["alpha"]["value"] == pytest.approx(LAW.alpha, abs=0.02)


def test_a_person_reads_exponents_and_a_picture_is_drawn(tmp_path: Path) -> None:
    runs = write(tmp_path / "runs.csv", grid())
    picture, out = tmp_path / "fit.png", tmp_path / "fit.json"
    done = ran(
        *("fit", runs, *COLUMNS, "--resamples", 20, "--held-out", 0.25),
        *("--plot", picture, "--out", out),
    )
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert {"alpha", "beta", "E", "held", "condition"} <= lines.keys()
    assert "error" in lines["held"] and "%" in lines["held"] and "[" in lines["alpha"]
    assert "A " not in done.stdout.replace("+ A /", "")  # never quoted alone
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"graphfm scaling predict --fit {out}" in done.stderr
    again = run("fit", runs, *COLUMNS, "--out", out)
    assert again.exit_code == 8 and "GFM402" in again.stderr


def test_receipts_are_read_and_unfinished_ones_left_out(tmp_path: Path) -> None:
    """FLOPs are the receipts': cost grows with size to the 0.9 there. Seen to fail with 6 N D."""
    places = [(n, d) for n in (1e5, 3e5, 1e6) for d in (1e6, 4e6, 2e7)]
    files = [receipt(tmp_path / f"{i}.json", n, d) for i, (n, d) in enumerate(places)]
    lost = receipt(tmp_path / "lost.json", 1e6, 1e8, finished=False)
    done = ran("fit", *files, lost, "--law", "chinchilla", "--resamples", 0, "--json")
    said = json.loads(done.stdout)
    assert "left out" in done.stderr and "lost.json" in done.stderr
    assert len(said["runs"]["params"]) == 9
    assert said["cost"]["power"] == pytest.approx(0.9, abs=1e-3)
    share = LAW.beta / (LAW.alpha + 0.9 * LAW.beta)
    assert said["exponents"]["params_in_compute"]["value"] == pytest.approx(share, abs=1e-3)


def test_a_confounded_design_is_refused_with_the_runs_that_settle_it(tmp_path: Path) -> None:
    """Issue 7: exit 3. With the runs that the message names, the same table is fitted.

    Seen to fail (exit 0) with a bound of 1e99 on the condition.
    """
    sizes = np.geomspace(5e7, 1e10, 12)
    rows = [{"params": n, "targets": 20 * n, "loss": LAW.predict(n, 20 * n)[0]} for n in sizes]
    done = run("fit", write(tmp_path / "diagonal.csv", rows))
    assert done.exit_code == 3 and "GFM702" in done.stderr
    named = re.findall(r"(\S+) params on (\S+?),? targets", done.stderr)
    more = [(float(n), float(d)) for n, d in named]
    assert len(more) == 2
    rows += [{"params": n, "targets": d, "loss": LAW.predict(n, d)[0]} for n, d in more]
    ran("fit", write(tmp_path / "settled.csv", rows), "--resamples", 0)


def test_a_prediction_is_that_of_the_law_and_says_how_far_it_is(fitted: tuple[Path, Any]) -> None:
    out, said = fitted
    values = {name: it["value"] for name, it in said["params"].items()}
    done = ran("predict", "--fit", out, "--params", 1e11, "--targets", 1e13, "--json")
    found = json.loads(done.stdout)
    expected = Chinchilla(**values).predict(1e11, 1e13)[0]
    assert found["loss"]["value"] == pytest.approx(expected)
    assert found["loss"]["low"] < expected < found["loss"]["high"]
    assert found["times_largest_compute"] == pytest.approx(1e24 / 2e21)
    told = ran("predict", "--fit", out, "--params", 1e11, "--targets", 1e13)
    assert "extrapolation: 500 times" in told.stderr
    near = ran("predict", "--fit", out, "--params", 1e10, "--targets", 2e11)
    assert "extrapolation" not in near.stderr
    ignored = ran("predict", "--fit", out, *"--params 1e9 --targets 1e10 --unique 1e9".split())
    assert "--unique is not used" in ignored.stderr


def test_the_best_size_spends_what_was_given(fitted: tuple[Path, Any]) -> None:
    best = json.loads(ran("optimal", "--fit", fitted[0], "--flops", 1e21, "--json").stdout)
    assert 6 * best["params"]["value"] * best["targets"]["value"] == pytest.approx(1e21)
    assert best["params"]["low"] < best["params"]["value"] < best["params"]["high"]
    said = ran("optimal", "--fit", fitted[0], "--flops", 1e21)
    assert "params" in said.stdout and "has no meaning" not in said.stderr


def test_a_best_size_that_no_run_tells_is_said_to_mean_nothing(tmp_path: Path) -> None:
    """Size does nothing here but for the least. Seen to fail without the note."""
    rng = np.random.default_rng(1)
    rows = [
        {
            **{"params": n, "targets": d},
            "loss": (1 + 40 * d**-0.2) * (1.02 if n == 5e7 else 1) * np.exp(2e-3 * rng.normal()),
        }
        for n in np.geomspace(5e7, 1e10, 4)
        for d in np.geomspace(1e9, 2e11, 4)
    ]
    out = tmp_path / "fit.json"
    ran("fit", write(tmp_path / "runs.csv", rows), *"--law chinchilla --resamples 20 --out".split(),
        out)  # fmt: skip
    said = ran("optimal", "--fit", out, "--flops", 1e20)
    assert "do not determine alpha: this best size has no meaning" in said.stderr
    plain = json.loads(ran("optimal", "--fit", out, "--flops", 1e20, "--json").stdout)
    assert plain["no_power"] == ["alpha"]


def test_a_design_is_a_table_that_beats_the_naive_grid(
    fitted: tuple[Path, Any], tmp_path: Path
) -> None:
    out = tmp_path / "runs.csv"
    done = ran(
        *("design", "--budget", 1e22, *DESIGN, "--fit", fitted[0], "--max-runs", 48),
        *("--draws", 20, "--out", out, "--json"),
    )
    said = json.loads(done.stdout)
    assert said["designed"]["flops"] <= said["budget"] == 1e22 and said["unit"] == "flops"
    for name in ("alpha", "beta", "frontier"):
        assert said["designed"]["sd"][name] < said["naive grid"]["sd"][name]
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"params", "targets", "seeds", "flops"}
    assert sum(int(row["seeds"]) for row in rows) == said["designed"]["runs"] <= 48
    text = ran("design", "--budget", 1e22, *DESIGN, "--max-runs", 20, "--draws", 2)
    assert "naive grid" in text.stdout and "the first guess is Chinchilla's" in text.stderr


def test_a_parameter_that_no_run_tells_of_is_null_and_named(tmp_path: Path) -> None:
    """RD where nothing repeats. Seen to fail: Infinity, which no other JSON reader knows."""
    rows = [
        {"params": n, "targets": d, "unique": min(d, 3e9) if i % 3 else d,
         "loss": LAW.predict(n, d)[0] * (1 + 0.003 * (-1) ** i)}
        for i, (n, d) in enumerate(
            (n, d) for n in np.geomspace(5e7, 1e10, 4) for d in np.geomspace(1e9, 2e11, 4)
        )
    ]  # fmt: skip
    law = tmp_path / "fit.json"
    runs = write(tmp_path / "runs.csv", rows)
    ran("fit", runs, "--law", "data-constrained", "--resamples", 0, "--out", law)
    flags = ("design", "--budget", 1e22, *DESIGN, "--fit", law, "--draws", 2, "--max-runs", 20)
    said = json.loads(ran(*flags, "--json").stdout, parse_constant=pytest.fail)
    assert said["designed"]["sd"]["RD"] is None is said["naive grid"]["sd"]["RD"]
    assert said["designed"]["sd"]["alpha"] > 0
    assert "not determined by these runs: RD" in ran(*flags).stderr
    repeated = json.loads(ran(*flags, "--unique", "1e9,2e11", "--json").stdout)
    assert {row["unique"] for row in repeated["runs"]} == {1e9, 2e11}
    best = [
        json.loads(ran("optimal", "--fit", law, "--flops", 1e22, *more, "--json").stdout)
        for more in ((), ("--unique", 1e9))
    ]
    assert best[1]["loss"]["value"] > best[0]["loss"]["value"]  # fewer targets, none for free
    done = ran("optimal", "--fit", law, "--flops", 1e22, "--unique", 1e9)
    assert "params" in done.stdout


def test_a_budget_in_hours_is_spent_by_the_seconds_of_receipts(tmp_path: Path) -> None:
    """Also of a run that did not finish: it took its seconds. Seen to fail with their flops."""
    like = [
        receipt(tmp_path / f"{n:g}.json", n, 1e7, seconds=2e-8 * n * 1e7, finished=False)
        for n in (1e5, 1e6)
    ]
    flags = [word for path in like for word in ("--like", path)]
    ranges = ("--params", "5e4:1.5e6", "--targets", "1e5:3e7")
    done = ran("design", "--budget", "8h", *ranges, *flags, "--draws", 2, "--json")
    said = json.loads(done.stdout)
    assert said["unit"] == "seconds" and said["budget"] == 28800
    total = sum(row["seeds"] * 2e-8 * row["params"] * row["targets"] for row in said["runs"])
    assert 0.8 * 28800 < total <= 28800 * (1 + 1e-6)
    assert total == pytest.approx(said["designed"]["seconds"])


def test_datasets_have_floors_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "params": n, "targets": d, "dataset": f"d{k}",
            "loss": LAW.predict(n, d)[0] + 0.2 * k + 0.003 * rng.normal(),
        }
        for k in range(4) for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)
    ]  # fmt: skip
    runs, out = write(tmp_path / "runs.csv", rows), tmp_path / "fit.json"
    done = ran("fit", runs, "--by-dataset", "--resamples", 5, "--out", out)
    assert "4 datasets" in done.stdout and "sd of floors" in done.stdout
    floors = json.loads(out.read_text())["floors"]
    assert floors["d3"] - floors["d0"] == pytest.approx(0.6, abs=0.02)
    assert run("fit", runs, "--by-dataset", "--held-out", 0.2).exit_code == 4
    plain = ran("fit", runs, "--by-dataset", "--resamples", 0, "--json").stdout
    assert json.loads(plain, parse_constant=pytest.fail)["params"]["E"]["low"] is None


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        (("fit", "RUNS", "--column", "params"), "GFM705", 4),
        (("fit", "RUNS", "--column", "params=no-such"), "GFM104", 3),
        (("fit", "RUNS", *COLUMNS, "--law", "chinchila"), "GFM704", 3),
        (("fit", "RUNS", *COLUMNS, "--plot", "fit.bmp"), "GFM403", 8),
        (("fit", "missing.csv"), "GFM103", 3),
        (("predict", "--fit", "missing.json", "--params", 1, "--targets", 1), "GFM103", 3),
        (("predict", "--fit", "RUNS", "--params", 1, "--targets", 1), "GFM103", 3),
        (("predict", "--fit", "FIT", "--params", -1, "--targets", 1), "GFM705", 4),
        (("optimal", "--fit", "FIT", "--flops", 0), "GFM705", 4),
        (("optimal", "--fit", "FIT", "--flops", 1e21, "--unique", 1e9), "GFM704", 3),
        (("design", "--budget", "8h", *DESIGN), "GFM705", 4),
        (("design", "--budget", "much", *DESIGN), "GFM705", 4),
        (("design", "--budget", "-1e20", *DESIGN), "GFM705", 4),
        (("design", "--budget", 1e22, "--params", "1e9", "--targets", "1e9:2e9"), "GFM705", 4),
        (("design", "--budget", 1e22, *DESIGN, "--unique", "1e9"), "GFM705", 4),
        (("design", "--budget", 1e17, *DESIGN), "GFM705", 4),
    ],
    ids=lambda value: " ".join(map(str, value[:4])) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_done_is_said_with_its_code(
    args: tuple[object, ...], code: str, exit_code: int, fitted: tuple[Path, Any], tmp_path: Path
) -> None:
    """In four parts, and no file is left behind."""
    known = {"RUNS": write(tmp_path / "runs.csv", grid()), "FIT": fitted[0]}
    places = ("missing.csv", "missing.json", "fit.bmp")
    done = run(*(known.get(a, tmp_path / a if a in places else a) for a in map(str, args)))  # type: ignore[arg-type]
    assert done.exit_code == exit_code and code in done.stderr, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv"]


def test_a_fit_imports_no_torch(tmp_path: Path) -> None:
    """Two seconds that nobody needs who fits a law to a table."""
    runs = write(tmp_path / "runs.csv", grid())
    program = (
        "import sys; from typer.testing import CliRunner; from graphfm.cli.main import app\n"
        f"done = CliRunner().invoke(app, ['scaling', 'fit', {str(runs)!r}, *{list(COLUMNS)!r}])\n"
        "assert done.exit_code == 0, done.stderr\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
