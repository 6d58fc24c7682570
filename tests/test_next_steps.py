"""Every command ends with "Next:" and a command that works: run here, as it was printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from graphfm.cli.main import app

SMALL = "train.steps=2 train.warmup_steps=1 model.dim=32 train.eval_every=100 data.graph_share=0.2"
Next = Callable[..., str]


def run(text: str) -> Result:
    program, *words = shlex.split(text)
    assert program == "graphfm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["graphfm", *words])  # finetune repeats its own words
        return CliRunner().invoke(app, words, prog_name="graphfm")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without data of the catalog, and with a space in its name."""
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GRAPHFM_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("GRAPHFM_OFFLINE", "1")
    return folder


def after(text: str, code: int = 0) -> str:
    """Run a command and return the one next step that it prints."""
    done = run(text)
    assert done.exit_code == code, f"{text}\n{done.stderr}\n{done.exception!r}"
    steps = [line for line in done.stderr.splitlines() if line.startswith("Next: ")]
    assert len(steps) == 1, f"{text}\n{done.stderr}"
    return steps[0].removeprefix("Next: ")


def works(text: str) -> str:
    """Run a next step and return the command for messages; fail if it fails."""
    done = run(text)
    assert done.exit_code == 0, f"{text}\n{done.stderr}\n{done.exception!r}"
    return text


def tables(folder: Path, *, labelled: int = 60) -> None:
    """Write a ring of 60 nodes; the first ones have labels."""
    folder.mkdir(exist_ok=True)
    label = [("a" if i % 3 else "b") if i < labelled else "" for i in range(60)]
    rows = [f"n{i},{(i * 7) % 11},{label[i]}" for i in range(60)]
    (folder / "people.csv").write_text("\n".join(["id,x,label", *rows]) + "\n")
    edges = [f"n{i},n{(i + 1) % 60}" for i in range(60)]
    (folder / "ties.csv").write_text("\n".join(["source,target", *edges]) + "\n")


FILES = "--graph 'my data/ties.csv' --nodes 'my data/people.csv'"
FIT = f"graphfm finetune {FILES} --target label --from random --tune probe --out 'my model'"


def test_from_a_fit_to_a_report(here: Path) -> None:
    """Each next step in turn, beside files of another day.

    Seen to fail: ``predict`` onto the preds.csv that was there; ``inspect`` and ``report`` left
    --nodes out, so that the prediction had no columns.
    """
    tables(here / "my data")
    (here / "preds.csv").touch()
    dry = after(f"{FIT} --dry-run")
    assert dry == FIT
    step = after(dry)
    assert step.startswith("graphfm predict --out preds-2.csv")
    step = after(step)
    assert step.startswith("graphfm evaluate")
    again = after(step)
    assert again.startswith("graphfm predict --out preds-3.csv")
    steps = {again, after("graphfm inspect 'my model'")}
    steps.add(after("graphfm report 'my model' --max-time 0"))
    assert len(steps) == 1
    works(again)
    assert after(f"graphfm embed --model 'my model' {FILES} --out e.csv") == step
    step = after(f"graphfm embed --model 'my model' {FILES} --out e2.csv --undirected")
    assert step.endswith("--undirected")
    works(step)


@pytest.mark.parametrize("case", ["no labels", "other nodes", "no test nodes"])
def test_scores_are_suggested_where_there_are_labels(here: Path, case: str) -> None:
    """Seen to fail: ``evaluate`` on a graph without labels, and on one without test nodes."""
    tables(here / "my data")
    after(FIT + (" --split 0.7/0.3/0" if case == "no test nodes" else ""))
    tables(here / "my data", labelled=0 if case == "no labels" else 60)
    if case == "other nodes":
        for path in (here / "my data").iterdir():
            path.write_text(path.read_text().replace("n", "m"))
    step = after(f"graphfm predict --model 'my model' {FILES} --out p.csv --target label")
    assert step.startswith("graphfm inspect" if case == "no labels" else "graphfm evaluate")
    assert ("--on all" in step) == (case != "no labels")
    works(step)


def test_a_report_without_its_graph(here: Path) -> None:
    """Seen to fail: ``predict`` with the graph that was not found."""
    tables(here / "my data")
    after(FIT)
    shutil.rmtree(here / "my data")
    works(after("graphfm report 'my model'"))


def test_a_number_as_target(here: Path) -> None:
    tables(here / "my data")
    step = after(f"graphfm finetune {FILES} --target x --task regress --from random --tune probe "
                 "--out m")  # fmt: skip
    works(after(after(step)))


def test_files_and_the_catalog(here: Path) -> None:
    """Seen to fail: the first graph of the catalog is not here, and there is no network."""
    tables(here / "my data")
    for text in (
        f"graphfm datasets stats {FILES.replace('--graph ', '')} --target label",
        "graphfm inspect digits",
    ):
        step = after(text)
        assert step.startswith("graphfm finetune")
        works(f"{step} --dry-run")
    (here / "runs" / "digits").mkdir(parents=True)
    assert after("graphfm inspect digits").endswith("--out runs/digits-2")
    (here / "ring.csv").write_text("a,b\nx,y\ny,z\nz,x\n")
    for text in ("graphfm datasets stats ring.csv", "graphfm inspect ring.csv"):
        works(after(text))  # no labels: nothing to fit
    works(after("graphfm datasets list"))
    works(after("graphfm datasets list --domain no-such-domain"))
    works(after("graphfm datasets prepare digits"))
    works(after("graphfm datasets landscape --mixture demo --out l.png"))
    works(after("graphfm datasets audit digits wine"))


def test_recipes_and_errors(here: Path) -> None:
    """Seen to fail: a dry run of the first recipe, whose graphs are not here; ``explain CODE``."""
    works(after("graphfm explain"))
    works(after("graphfm recipes list"))
    works(after("graphfm recipes validate demo"))
    assert after("graphfm recipes validate").endswith(" demo")
    assert after(f"graphfm recipes show demo {SMALL}").endswith(SMALL)
    assert after("graphfm doctor") == "graphfm demo"  # run by test_transcript.py


def test_runs(here: Path) -> None:
    """A plan, a run that its limit stops, the rest of it, and a fit from it."""
    step = after(f"graphfm pretrain demo {SMALL} --dry-run --out 'my run'")
    assert step == f"graphfm pretrain demo {SMALL} --out 'my run'"
    step = after(f"{step} --max-time 0.001s", 75)
    step = after(step.replace("0.001s", "1h"))
    assert step == "graphfm finetune --graph digits --out runs/digits --from 'my run'"
    works(f"{step} --dry-run")
    works(after("graphfm inspect 'my run'") + " --dry-run")
