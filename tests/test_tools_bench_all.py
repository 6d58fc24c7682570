"""The tool that runs all benches: its file, failed benches, the page it writes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

BENCHES = Path(__file__).parent.parent / "tools" / "bench"
GOOD = """import sys, json
out = sys.argv[sys.argv.index("--out") + 1]
print("case  ms")
print("ours   1")
facts = {"threads": 2, "load": 0.5}
with open(out, "w") as file:
    json.dump({"machine": facts, "settings": {"out": out, "device": "cpu"}, "seconds": {}}, file)
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Replace the real benches by short ones: one works, one fails, one hangs."""
    monkeypatch.syspath_prepend(str(BENCHES))
    found = importlib.import_module("all")
    monkeypatch.setattr(found, "TOOLS", tmp_path)
    (tmp_path / "step.py").write_text(GOOD)
    (tmp_path / "bank.py").write_text("raise SystemExit(3)")
    (tmp_path / "plan.py").write_text("import time; time.sleep(60)")
    return found


def test_each_bench_is_kept_or_its_failure(bench, tmp_path, capsys):
    """Seen to fail when the first failure ended the run, and when older figures were lost."""
    out = tmp_path / "machine.json"
    assert bench.main(["--out", str(out), "--only", "bank", "step"]) == 1
    assert bench.main(["--out", str(out), "--only", "plan", "--limit", "0.5"]) == 1
    found = json.loads(out.read_text())
    assert found["benches"]["bank"] == {"error": "exit code 3"}
    assert found["benches"]["plan"] == {"error": "not done in 0 s"}
    step = found["benches"]["step"]
    assert step["printed"] == "case  ms\nours   1" and step["settings"] == {"device": "cpu"}
    assert step["command"] == "python tools/bench/step.py --device cpu --threads 1"
    assert found["machine"]["cores"] > 0
    assert "failed: bank" in capsys.readouterr().out


def test_the_page_is_made_of_the_files(bench, tmp_path):
    """A second call changes nothing; the text around the marks stays."""
    folder, page = tmp_path / "benchmarks", tmp_path / "page.md"
    bench.main(["--out", str(folder / "a.json"), "--only", "bank", "step"])
    page.write_text(f"Before.\n\n{bench.MARKS[0]}\nold\n{bench.MARKS[1]}\nAfter.\n")
    arguments = ["--markdown", "--page", str(page), "--folder", str(folder)]
    assert bench.main(arguments) == 0
    text = page.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n") and "\nold\n" not in text
    assert "```text\ncase  ms\nours   1\n```" in text and "**bank**: exit code 3." in text
    assert "2 threads, load 0.5" in text
    bench.main(arguments)
    assert page.read_text() == text


def test_the_real_page_has_its_marks_and_names_every_bench(bench):
    """Each bench is described on the page."""
    text = bench.PAGE.read_text(encoding="utf-8")
    assert all(text.count(mark) == 1 for mark in bench.MARKS)
    for name in bench.BENCHES:
        assert f"`{name}.py`" in text


@pytest.mark.parametrize(
    ("device", "wanted"),
    [("cpu", "amd-epyc-9r14-r"), ("NVIDIA H200", "nvidia-h200")],
)
def test_a_file_is_named_by_what_ran(bench, device, wanted):
    assert bench.slug({"device": device, "cpu": "AMD EPYC 9R14 (R)"}) == wanted
