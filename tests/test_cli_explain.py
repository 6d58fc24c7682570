"""`graphfm explain` has a text for every error code in use; commands in documents exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from graphfm.cli.explain import as_text, explain, explanations
from graphfm.cli.main import app
from graphfm.cli.terminal import report
from graphfm.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"GFM\d{3}")
PAGES = ("audit.md", "catalog.md", "running.md", "weights.md")
KEYS = {"title", "means", "causes", "fix", "example"}

own = typer.Typer()
own.command()(explain)


def run(*args: str):
    return CliRunner().invoke(own, list(args))


def codes_in_use(package: Path) -> dict[str, str]:
    """Return each code and a file that uses it."""
    return {
        code: path.name
        for path in sorted(package.rglob("*.py"))
        for code in CODE.findall(path.read_text(encoding="utf-8"))
    }


def test_every_code_in_use_is_explained_and_no_other() -> None:
    """Seen to fail without the entry GFM112, and with an additional entry GFM999."""
    used, known = codes_in_use(ROOT / "graphfm"), explanations()
    assert len(used) > 50
    missing = {code: used[code] for code in sorted(used.keys() - known.keys())}
    unused = sorted(known.keys() - used.keys())
    assert not missing, f"write graphfm/cli/explanations.yaml for {missing}"
    assert not unused, f"no file of graphfm uses {unused}: remove them"


@pytest.mark.parametrize("code", list(explanations()))
def test_an_explanation_is_complete_and_fits_one_screen(code: str) -> None:
    """Seen to fail without the example of GFM112, and with ten more causes."""
    entry = explanations()[code]
    assert entry.keys() == KEYS
    assert all(isinstance(line, str) and line for key in ("causes", "fix") for line in entry[key])
    assert entry["causes"] and entry["fix"] and entry["example"].strip()
    assert not entry["title"].endswith(".") and len(entry["title"]) <= 76
    lines = as_text(code, entry).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100


def test_codes_are_sorted() -> None:
    """Seen to fail with GFM101 at the end."""
    assert list(explanations()) == sorted(explanations())


def faults_of(line: str) -> list[str] | None:
    """Return unknown commands and options of a line; None if it does not call graphfm."""
    words = shlex.split(line, comments=True)
    if "graphfm" not in words:
        return None
    faults, node = [], typer.main.get_command(app)
    for word in words[words.index("graphfm") + 1 :]:
        if word in ("|", "..."):
            break
        if word.startswith("--"):
            known = {o for p in node.params for o in (*p.opts, *p.secondary_opts)}
            if word.partition("=")[0] not in known:
                faults.append(f"{node.name} has no {word}: {line}")
        elif hasattr(node, "commands"):
            if word not in node.commands:
                return [*faults, f"no command {word}: {line}"]
            node = node.commands[word]
    return faults


def test_the_examples_use_commands_and_options_that_exist() -> None:
    """Seen to fail on `graphfm recipes ls`, and on `--sources` in GFM127."""
    lines = [s for e in explanations().values() for s in e["example"].splitlines()]
    found = [faults_of(line) for line in lines if line.startswith("$ ")]
    checked = [faults for faults in found if faults is not None]
    assert len(checked) > 20
    assert [fault for faults in checked for fault in faults] == []


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_the_commands_of_the_pages_exist(page: str) -> None:
    """Seen to fail on `graphfm recipes ls`, and on `graphfm evaluate --split`."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [s for b in blocks for s in b.splitlines() if s.startswith(("graphfm ", "torchrun "))]
    assert lines
    assert [fault for line in lines for fault in faults_of(line) or []] == []


def test_the_readme_is_short() -> None:
    """It has at most 120 lines, and activates the environment before it calls graphfm."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    first = next(i for i, line in enumerate(lines) if line.startswith("graphfm "))
    assert lines.index(". .venv/bin/activate") < first


@pytest.mark.parametrize("written", ["GFM112", "gfm112", "112", " 112 "])
def test_a_code_may_be_written_in_several_ways(written: str) -> None:
    """Seen to fail without upper(), and without the bare number."""
    done = run(written)
    assert done.exit_code == 0 and done.stdout.startswith("GFM112  ")
    assert explanations()["GFM112"]["fix"][0] in done.stdout


def test_an_unknown_code_gets_a_hint() -> None:
    """Seen to fail without did_you_mean."""
    done = run("GFN801")
    assert done.exit_code == 2
    assert "Did you mean 'GFM801'" in " ".join(done.stderr.split())


def test_without_a_code_all_codes_are_listed() -> None:
    """Seen to fail without the last entry in the table."""
    done = run()
    assert done.exit_code == 0
    assert set(CODE.findall(done.stdout)) == explanations().keys()
    assert json.loads(run("--json").stdout) == explanations()
    assert json.loads(run("112", "--json").stdout)["code"] == "GFM112"


def test_an_error_names_the_command_that_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Seen to fail with the old line, `docs/errors.md`."""
    report(DataError("GFM112", "the edge list names 3 nodes that nodes.csv does not have"))
    assert capsys.readouterr().err.splitlines()[-1] == "  docs    graphfm explain GFM112"


def test_the_page_of_errors_lists_the_same_codes() -> None:
    """Seen to fail with a title changed in explanations.yaml."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = [f"| {code} | {entry['title']} |" for code, entry in explanations().items()]
    found = re.findall(r"^\| GFM\d{3} \| [^|]+ \|$", page, flags=re.MULTILINE)
    assert found == rows, "run tools/write_error_table.py"
