"""The command line: output on stdout, exit codes, refused input, written files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from graphfm.cli.main import app
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.report.curves import draw_curves

ROOT = Path(__file__).resolve().parents[1]

# Options are stable. Add a new one here only on purpose; a setting of a run belongs in a recipe.
OPTIONS = {
    "": "debug help install-completion offline show-completion version",
    "demo": "help json out overwrite seed",
    "doctor": "help json",
    "pretrain": "device dry-run help json max-time nproc out overwrite resume seed skip-broken "
    "trust-shards",
    "finetune": "destination device directed drop dry-run duplicate-weights ensemble features "
    "from graph header help id json max-steps max-time nodes obsp out overwrite "
    "refit-all seed source split strip-ids target task tune unknown-nodes",
    "predict": "coverage directed graph help json model nodes only out overwrite proba safe-csv "
    "target unknown-nodes",
    "embed": "directed graph help json model nodes out overwrite target unknown-nodes",
    "evaluate": "coverage directed graph help json model nodes on target unknown-nodes",
    "inspect": "help json target",
    "report": "graph help json max-time nodes out overwrite seed target tsne",
    "benchmark": "dry-run from graphs help jobs json max-time models out report-only "
    "search-cost seeds split steps suite trials",
    "explain": "help json",
    "datasets list": "domain help json mixture role",
    "datasets show": "help json",
    "datasets verify": "help json",
    "datasets stats": "destination directed drop features header help id json "
    "nodes obsp source split strip-ids "
    "target unknown-nodes",
    "datasets prepare": "all help jobs json mixture",
    "datasets landscape": "help json mixture out overwrite",
    "datasets audit": "declared help json",
    "recipes list": "help json",
    "recipes show": "help json",
    "recipes validate": "help json",
    "scaling fit": "by-dataset column held-out help json law method out overwrite plot "
    "resamples seed",
    "scaling predict": "fit help json params targets unique",
    "scaling optimal": "fit flops help json unique",
    "scaling design": "branch budget draws fit help json like max-runs noise out overwrite "
    "params seed seeds targets unique",
    "scaling grid": "device dry-run help jobs json out",
}


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")


def ran(*args: str | Path) -> Result:
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    return result


def real(*args: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "graphfm", *args],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


def commands(group: Any, path: Sequence[str] = ()) -> dict[str, Any]:
    found = {" ".join(path): group} if not path else {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, [*path, name])
        else:
            found[" ".join([*path, name])] = command
    return found


def read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graph of two communities; ids have commas and quotes, nodes a feature and a label."""
    graph = nx.Graph()
    graph.add_nodes_from(range(40))
    graph.add_edges_from(nx.planted_partition_graph(2, 20, 0.5, 0.05, seed=1).edges)
    rng = np.random.default_rng(0)
    for node in graph:
        graph.nodes[node]["size"] = float(rng.normal(node // 20, 0.5))
        graph.nodes[node]["noise"] = float(rng.normal())
        graph.nodes[node]["team"] = "north, east" if node < 20 else 'the "south"'
    path = tmp_path_factory.mktemp("graph") / "Two Teams.graphml"
    nx.write_graphml(nx.relabel_nodes(graph, lambda n: f'n{n}, "é"'), path)
    return path


@pytest.fixture(scope="module")
def fitted(graph_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Model fitted by the command, and the output of the command with --json."""
    out = tmp_path_factory.mktemp("fitted") / "model"
    done = ran(
        *("finetune", "--graph", graph_file, "--target", "team", "--tune", "probe"),
        *("--seed", "3", "--out", out, "--json"),
    )
    return out, json.loads(done.stdout)


def test_options_are_stable() -> None:
    """Seen to fail with a new option of `embed`."""
    from typer.main import get_command

    found = {}
    for name, command in commands(get_command(app)).items():
        params = [o for p in command.params for o in p.opts if o.startswith("--")]
        found[name] = " ".join(sorted({o[2:] for o in params} | {"help"}))
    assert found == OPTIONS


@pytest.mark.parametrize("name", OPTIONS)
def test_help_names_every_option(name: str) -> None:
    """Seen to fail with a hidden option."""
    text = ran(*name.split(), "--help").stdout
    for option in OPTIONS[name].split():
        assert f"--{option}" in text


def test_finetune_compares_on_one_split(fitted: tuple[Path, Any]) -> None:
    """Seen to fail when a baseline was scored on all nodes: num_nodes differed."""
    out, found = fitted
    baselines = {"majority", "features-only logistic regression", "label propagation", "GCN"}
    names = {"graphfm", *baselines}
    assert set(found["test"]) == names
    split = json.loads((out / "split.json").read_text())
    parts = [set(split["nodes"][part]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    for score in found["test"].values():
        assert score["num_nodes"] == len(parts[2])
        low, high = score["interval"]
        assert 0 <= low <= score["accuracy"] <= high <= 1
    assert found["test"]["graphfm"]["accuracy"] > found["test"]["majority"]["accuracy"]


def test_predict_writes_id_label_probability(
    fitted: tuple[Path, Any], graph_file: Path, tmp_path: Path
) -> None:
    """Seen to fail with the columns of --proba in every file, and with ids by position."""
    out = tmp_path / "preds.csv"
    done = ran("predict", "--model", fitted[0], "--graph", graph_file, "--out", out)
    assert done.stdout == "" and "Next: graphfm evaluate" in done.stderr
    head, *rows = read_csv(out)
    assert head == ["id", "label", "probability", "split"]
    assert [row[0] for row in rows] == [f'n{i}, "é"' for i in range(40)]
    assert {row[1] for row in rows} == {"north, east", 'the "south"'}
    assert all(0.5 <= float(row[2]) <= 1 for row in rows)

    ran("predict", "--model", fitted[0], "--graph", graph_file, "--out", out, "--proba",
        "--overwrite")  # fmt: skip
    head, *every = read_csv(out)
    assert head[3:] == ["p_north, east", 'p_the "south"', "split"]
    assert [[*row[:3], row[-1]] for row in every] == rows
    for row in every:
        assert max(float(row[3]), float(row[4])) == pytest.approx(float(row[2]))
        assert float(row[3]) + float(row[4]) == pytest.approx(1, abs=1e-5)


def test_predict_takes_a_graph_without_the_label(
    fitted: tuple[Path, Any], graph_file: Path, tmp_path: Path
) -> None:
    """The label is not a feature, so it may be missing. Seen to fail when it was required."""
    graph = nx.read_graphml(graph_file)
    for _, record in graph.nodes(data=True):
        del record["team"]
    bare = tmp_path / "bare.gexf"
    nx.write_gexf(graph, bare)
    ran("predict", "--model", fitted[0], "--graph", graph_file, "--out", tmp_path / "a.csv")
    ran("predict", "--model", fitted[0], "--graph", bare, "--out", tmp_path / "b.csv")
    assert read_csv(tmp_path / "a.csv") == read_csv(tmp_path / "b.csv")


def test_evaluate_repeats_the_scores_of_finetune(
    fitted: tuple[Path, Any], graph_file: Path
) -> None:
    """From the folder, on the nodes of the split. Seen to fail with --on all as default."""
    done = ran("evaluate", "--model", fitted[0], "--graph", graph_file, "--json")
    again, before = json.loads(done.stdout), fitted[1]["test"]["graphfm"]
    assert {k: again[k] for k in before} == before
    whole = ran("evaluate", "--model", fitted[0], "--graph", graph_file, "--on", "all", "--json")
    assert json.loads(whole.stdout)["num_nodes"] == 40


def test_embed_writes_a_vector_per_node(
    fitted: tuple[Path, Any], graph_file: Path, tmp_path: Path
) -> None:
    """Both formats have the same values. Seen to fail with ids as pickled objects."""
    for name in ("e.npz", "e.csv"):
        ran("embed", "--model", fitted[0], "--graph", graph_file, "--out", tmp_path / name)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as held:
        ids, states = held["ids"].tolist(), held["embedding"]
    _, *rows = read_csv(tmp_path / "e.csv")
    assert [row[0] for row in rows] == ids
    written = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(written, states, rtol=1e-4, atol=1e-6)
    assert states.std(axis=0).max() > 0


def test_inspect_describes_a_model_and_a_graph(fitted: tuple[Path, Any], graph_file: Path) -> None:
    """Seen to fail when a folder was read as a graph."""
    assert json.loads(ran("inspect", fitted[0], "--json").stdout)["tune"] == "probe"
    facts = json.loads(ran("inspect", graph_file, "--target", "team", "--json").stdout)
    assert facts["num_nodes"] == 40 and facts["class_counts"]["north, east"] == 20
    assert 0.8 < facts["homophily"]["edge"] <= 1


def test_log_messages_of_the_readers_are_printed(graph_file: Path) -> None:
    """Seen to fail without a log handler."""
    done = ran("inspect", graph_file)
    assert "3 columns (2 numbers, 1 categories) become 4 features" in done.stderr
    assert "columns" not in done.stdout
    labelled = ran("inspect", graph_file, "--target", "team")
    assert f"--graph '{graph_file}'" in labelled.stderr  # a name with a space, quoted for the shell


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        (["finetune", "--graph", "planetoid-corra", "--dry-run"], "GFM120", 3),
        (["finetune", "--graph", "gone.graphml", "--dry-run"], "GFM103", 3),
        (["finetune", "--graph", "iris", "--target", "x", "--dry-run"], "GFM210", 4),
        (["finetune", "--graph", "iris", "--split", "0.5,0.5", "--dry-run"], "GFM145", 3),
        (["pretrain", "demmo", "--dry-run"], "GFM200", 4),
        (["pretrain", "demo", "train.stepps=3", "--dry-run"], "GFM201", 4),
        (["predict", "--model", "gone", "--graph", "iris", "--out", "p.csv"], "GFM301", 5),
        (["embed", "--model", "gone", "--graph", "iris", "--out", "e.txt"], "GFM402", 8),
        (["predict", "--model", "gone", "--graph", "iris", "--out", "no/p.csv"], "GFM403", 8),
        (["datasets", "prepare"], "GFM210", 4),
    ],
)
def test_errors_have_four_parts_and_their_exit_code(
    args: list[str], code: str, exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing on stdout, nothing written. Seen to fail with an error printed to stdout."""
    monkeypatch.chdir(tmp_path)
    done = run(*args)
    assert (done.exit_code, done.stdout) == (exit_code, ""), done.stderr
    assert done.stderr.startswith(f"✗ {code}  ")
    assert "\n  docs    " in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Seen to fail with the parser's own exception let through: exit 1."""
    for name, text in (("a.graphml", "<graphml><gra"), ("b.gml", "graph [ node"), ("c.gexf", "{}")):
        (tmp_path / name).write_text(text)
        done = run("inspect", tmp_path / name)
        assert done.exit_code == 3 and name in done.stderr


def test_a_wrong_flag_is_exit_2() -> None:
    """Seen to fail when every exception was reported as a bug of graphfm."""
    done = run("pretrain", "demo", "--sead", "1")
    assert done.exit_code == 2 and "--seed" in done.stderr
    assert run("finetune", "--graph", "iris", "--tune", "everything").exit_code == 2


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file, or on the screen with --debug, after the command too."""
    from graphfm.graphs import inputs

    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(inputs, "read_graph", broken)
    done = run("inspect", "iris")
    assert done.exit_code == 1 and "GFM400" in done.stderr and "KeyError" in done.stderr
    where = next(line for line in done.stderr.splitlines() if line.startswith("  where"))
    file = Path(where.split(maxsplit=1)[1])
    assert "in broken" in file.read_text() and "inspect" in file.read_text()
    file.unlink()
    assert isinstance(run("inspect", "iris", "--debug").exception, KeyError)


def test_out_is_never_overwritten_by_accident(tmp_path: Path) -> None:
    """A folder that graphfm did not write is never removed. Seen to fail without that check."""
    (tmp_path / "thesis.tex").write_text("years of work")
    args = ["finetune", "--graph", "iris", "--out", tmp_path]
    assert run(*args).exit_code == 8
    done = run(*args, "--overwrite")
    assert done.exit_code == 8 and "GFM402" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    done = run("predict", "--model", tmp_path, "--graph", "iris", "--out", tmp_path / "thesis.tex")
    assert done.exit_code == 8 and "GFM402" in done.stderr


def test_dry_runs_write_nothing(tmp_path: Path) -> None:
    """Seen to fail when the folder was made before the check."""
    out = tmp_path / "runs" / "x"
    plan = json.loads(ran("finetune", "--graph", "iris", "--out", out, "--dry-run",
                          "--json").stdout)  # fmt: skip
    assert plan["train"] + plan["val"] + plan["test"] == plan["num_nodes"] == 150
    assert not out.parent.exists()


def test_pretrain_then_finetune_from_it(tmp_path: Path) -> None:
    """On two graphs; the same command continues the run, another seed is refused."""
    two = {"les-miserables", "wine"}
    others = Catalog.read().mixture("demo").keys() - two
    small = ["train.steps=2", "train.warmup_steps=1", "train.save_every=1", "model.dim=32"]
    small.append(f"data.exclude=[{', '.join(others)}]")
    out = tmp_path / "run"
    done = ran("pretrain", "demo", *small, "--out", out, "--seed", "5", "--json")
    receipt = json.loads(done.stdout)
    assert receipt["steps"] == 2 and set(receipt["targets_seen_by_dataset"]) == two
    assert "Next: graphfm finetune" in done.stderr
    held = {p.name for p in out.iterdir()}
    assert held >= {"config.resolved.yaml", "env.json", "metrics.jsonl", "run.json", "tb", "LATEST",
                    "checkpoints"}  # fmt: skip
    assert list((out / "tb").iterdir())

    more = [*small[1:], "train.steps=3"]
    assert json.loads(ran("pretrain", "demo", *more, "--out", out, "--seed", "5",
                          "--json").stdout)["steps"] == 3  # fmt: skip
    assert run("pretrain", "demo", *more, "--out", out, "--seed", "6").exit_code == 5
    assert run("pretrain", "demo", *more, "--out", out, "--resume", "never").exit_code == 8

    model = tmp_path / "model"
    ran("finetune", "--graph", "iris", "--from", out, "--tune", "probe", "--out", model)
    assert json.loads(ran("inspect", model, "--json").stdout)["from"] == str(out)

    draw_curves(out, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_one_value_on_stdout() -> None:
    """Seen to fail when the next step was printed to stdout."""
    for args in (["doctor"], ["datasets", "list"], ["recipes", "list"], ["recipes", "validate"]):
        assert json.loads(ran(*args, "--json").stdout)
    assert len(json.loads(ran("recipes", "show", "demo", "--json").stdout)) > 3


def test_recipes_show_can_be_read_back(tmp_path: Path) -> None:
    """Seen to fail with the hint among the YAML."""
    shown = ran("recipes", "show", "demo", "train.steps=77").stdout
    (tmp_path / "again.yaml").write_text(shown, encoding="utf-8")
    assert ran("recipes", "show", tmp_path / "again.yaml").stdout == shown
    assert "steps: 77" in shown
    (tmp_path / "bad.yaml").write_text(shown.replace("max_time", "maxtime"), encoding="utf-8")
    done = run("recipes", "validate", tmp_path / "again.yaml", tmp_path / "bad.yaml")
    assert done.exit_code == 4 and "Did you mean 'max_time'" in done.stderr


def test_a_terminal_that_cannot_print_the_cross_gets_an_x() -> None:
    """Seen to fail with UnicodeEncodeError."""
    done = real("recipes", "show", "gone", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 4 and done.stderr.startswith(b"x GFM200")


def test_a_closed_pipe_is_not_an_error() -> None:
    """`graphfm datasets list | head -1`. Seen to fail with "Broken pipe" on stderr."""
    command = [sys.executable, "-m", "graphfm", "recipes", "list"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141 and errors == b""


def test_version() -> None:
    from graphfm.version import __version__

    done = real("--version")
    assert done.stdout.decode().split() == ["graphfm", __version__]
