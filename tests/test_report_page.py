"""The page of `graphfm report`: read by a parser, and opened in a real Chromium."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from graphfm.fitting.answers import Answers
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.report.build import build_page
from graphfm.report.fit_record import FitRecord
from graphfm.report.page import render
from graphfm.report.subject import ModelOnGraph
from graphfm.report.text import plain
from tests.pages import faults_of, read

EVIL = (
    "<script>alert(1)</script>",
    '"onmouseover="alert(2)" x="',
    "'><img src=http://127.0.0.1:9/x onerror=alert(3)>",
    "{{ 7 * 7 }}</title></style><!--",
    "right‮-to-left\x00\x1b[31m\ud800",
)
SECTIONS = (
    "fit warnings scores curves confusion classes calibration map uncertain importances reproduce"
).split()


def hostile_graph() -> Graph:
    """Two columns, five classes with names that try to become markup."""
    rng = np.random.default_rng(0)
    n = 400
    y = rng.integers(0, 5, n)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 0] += y
    edges = rng.integers(0, n - 5, (2, 900))
    y[:20] = -1
    ids = [f"{EVIL[i % 5]} {i}" for i in range(n)]
    graph = Graph.from_edges(
        edges,
        num_nodes=n,
        directed=False,
        name="hostile",
        x=torch.from_numpy(x),
        y=torch.from_numpy(y),
        class_names=EVIL,
        node_ids=tuple(ids),
    )
    return with_split(graph, (0.4, 0.3, 0.3), seed=0)


def hostile_record(graph: Graph) -> FitRecord:
    ids = graph.ids()
    nodes = {p: [ids[i] for i in getattr(graph, f"{p}_mask").nonzero().flatten()]
             for p in ("train", "val", "test")}  # fmt: skip
    row = {"accuracy": 0.5, "interval": [0.4, 0.6], "macro_f1": 0.4, "num_nodes": 120}
    history = [{"step": 0, "val_loss": 0.9, "accuracy": 0.4}, {"step": 1, "loss": float("nan")}]
    history += [{"step": 2, "loss": 0.7}, {"step": 2, "val_loss": 0.8, "accuracy": 0.5}]
    estimator = {
        "graph": EVIL[0],
        "classes": list(EVIL),
        "history": history,
        "best_step": 2,
        "val_score": 0.5,
        "fit_seconds": 1.5,
        "params": {"checkpoint": EVIL[1], "tune": "decoder", "seed": 0},
        "calibration": {"temperature": 1.2, "num_nodes": 60},
    }
    column = {"kind": "number", "indicator": False, "levels": []}
    return FitRecord(
        config={"estimator": estimator, "environment": {"versions": {"torch": EVIL[2]}}},
        fit={
            "graph": EVIL[3],
            "target": EVIL[4],
            "test": {"graphfm": row, EVIL[2]: row},
            "nodes": nodes,
        },  # fmt: skip
        commands={"The fit": f"graphfm finetune --graph {EVIL[0]}"},
        columns=[{**column, "name": name} for name in EVIL[:4]],
    )


class FirstColumn:
    """A model that reads the first column, and nothing of graphfm's own."""

    def answer(self, g: Graph, mask: torch.Tensor, *, coverage: float | None = None) -> Answers:
        size = g.num_classes
        logits = -((g.x[mask, 0].numpy()[:, None] - np.arange(size)) ** 2)
        proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        sets = proba >= 0.2
        return Answers(
            proba=proba,
            uncalibrated=proba**0.8,
            novelty=proba[:, 0],
            sets=sets | ~sets.any(1)[:, None],
        )

    def embed(self, g: Graph, mask: torch.Tensor) -> np.ndarray:
        return g.x[mask].numpy()


def subject_of(graph: Graph) -> ModelOnGraph:
    return ModelOnGraph(model=FirstColumn(), graph=graph, log_lines=[f"imputed in {EVIL[0]}: 3"])


@pytest.fixture(scope="module")
def hostile() -> str:
    graph = hostile_graph()
    return render(build_page(hostile_record(graph), subject_of(graph), max_seconds=5))


def test_every_tag_is_closed_and_nothing_is_loaded_or_run(hostile: str) -> None:
    """Seen to fail with autoescape=False, and without escape in the texts of pictures."""
    assert faults_of(hostile) == []


@pytest.mark.parametrize(
    "planted",
    [
        "<p>",
        "</section>",
        '<img src="data:,">',
        '<a href="http://127.0.0.1/">x</a>',
        '<p style="color:red">x</p>',
        '<p onclick="x()">x</p>',
        "<script></script>",
        '<a href="#nowhere">x</a>',
        "<!-- x -->",
        '<p id="fit">x</p>',
    ],
)
def test_a_planted_fault_is_seen(hostile: str, planted: str) -> None:
    assert faults_of(hostile.replace("</main>", f"{planted}</main>", 1)) != []


def test_hostile_names_are_shown_as_they_are(hostile: str) -> None:
    """All five, in titles, tables, pictures and commands. Seen to fail with `|striptags`."""
    text = " ".join(read(hostile).text)
    for name in EVIL:
        assert plain(name) in text
    assert text.count(EVIL[0]) >= 8
    assert "49" not in re.findall(r"\{\{[^}]*\}\}|\b49\b", text), "a template in a name was run"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\u202a-\u202e]", hostile)
    hostile.encode("utf-8")


def test_the_content_policy_allows_its_own_style_sheet_and_nothing_else(hostile: str) -> None:
    """Seen to fail with the hash of another text, and with 'unsafe-inline'."""
    metas = [a for tag, a in read(hostile).tags if tag == "meta" and "http-equiv" in a]
    assert [m["http-equiv"] for m in metas] == ["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in (metas[0]["content"] or "").split(";"))
    style = re.search(r"<style>(.*?)</style>", hostile, flags=re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "url(" not in style[1] and "@import" not in style[1]
    assert hostile.index("Content-Security-Policy") < hostile.index("<style>")


def test_all_sections_are_there_and_in_the_table_of_contents(hostile: str) -> None:
    """Seen to fail with the map left out."""
    reader = read(hostile)
    headings = [a["id"] for tag, a in reader.tags if tag == "h2"]
    links = [(a["href"] or "")[1:] for tag, a in reader.tags if tag == "a"]
    assert headings == links == SECTIONS


def test_the_page_can_be_read_aloud(hostile: str) -> None:
    """Pictures have words, tables captions and heads. Seen to fail without aria-label."""
    reader = read(hostile)
    pictures = [a for tag, a in reader.tags if tag == "svg"]
    assert sum(a.get("role") == "img" for a in pictures) == 5
    for attrs in pictures:
        assert attrs.get("aria-hidden") == "true" or len(attrs.get("aria-label") or "") > 20
    names = [tag for tag, _ in reader.tags]
    assert names.count("table") == names.count("caption") > 8
    assert all("scope" in a for tag, a in reader.tags if tag == "th")
    assert names.count("h1") == 1 and dict(reader.tags)["html"]["lang"] == "en"


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_marks_have_contrast_in_both_themes(hostile: str) -> None:
    """4.5 for text, 2.2 for marks beside a legend. Seen to fail with --muted: #8a939c."""
    themes = re.findall(r":root \{(.*?)\}", hostile, flags=re.DOTALL)[:2]
    for theme in themes:
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", theme))
        for ground in ("bg", "panel"):
            for ink in ("ink", "muted", "link"):
                assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
            for i in range(9):
                assert contrast(colors[f"c{i}"], colors[ground]) >= 2.2, (i, ground)
        assert contrast(colors["ink"], colors["warn-bg"]) >= 4.5


def test_without_the_graph_the_page_says_what_is_missing() -> None:
    """Seen to fail with sections about evaluated nodes built from nothing."""
    html = render(build_page(hostile_record(hostile_graph()), None, missing=[f"no {EVIL[0]}"]))
    assert faults_of(html) == []
    headings = [a["id"] for tag, a in read(html).tags if tag == "h2"]
    assert headings == ["fit", "scores", "curves", "reproduce"]
    assert f"no {EVIL[0]}" in " ".join(read(html).text)


def test_a_graph_of_other_nodes_or_classes_is_remarked() -> None:
    """Seen to fail without the count of lost ids, and with unknown classes evaluated as wrong."""
    graph = hostile_graph()
    record = hostile_record(graph)
    other = graph.replace(
        node_ids=tuple(f"new {i}" if i < 100 else name for i, name in enumerate(graph.ids())),
        class_names=("strange", *EVIL[1:]),
        train_mask=None, val_mask=None, test_mask=None,
    )  # fmt: skip
    page = build_page(record, subject_of(other), max_seconds=0)
    lost = sum(
        f"{EVIL[i % 5]} {i}" in record.fit["nodes"][p]
        for p in record.fit["nodes"]
        for i in range(100)
    )
    text = "\n".join(page.warnings)
    assert f"{lost} of the 380 nodes of the fit are not in this graph" in text
    assert "was not fitted to the classes strange" in text
    assert page.importances is None
    assert EVIL[0] not in [row["name"] for row in page.classes if row["num_true"] != "0"]


def chromium(page: Path, folder: Path) -> tuple[list[str], set[str]]:
    """Lines of the console, and places that were asked for, as Chromium logs them."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    folder.mkdir()
    done = subprocess.run(
        [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-extensions", f"--user-data-dir={folder / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever is asked for, nothing goes out
            f"--log-net-log={folder / 'net.json'}", "--enable-logging=stderr", "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "<html" in done.stdout, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    log = (folder / "net.json").read_text(encoding="utf-8")
    urls = re.findall(r'"url":"([^"]+)"', log)
    return console, {f"{p.scheme}://{p.netloc}{p.path}" for p in map(urlsplit, urls)}


def test_a_real_browser_shows_it_without_an_error_or_a_request(
    hostile: str, tmp_path: Path
) -> None:
    """Chromium asks for a few places of its own; those of an empty page do not count.

    A page with a picture from elsewhere is seen in the log of requests, and one with a script in
    the console: both are planted here. Seen to fail with a style attribute in the template.
    """
    pages = {
        "empty": "<!DOCTYPE html><title>x</title>",
        "page": hostile,
        "loads": '<!DOCTYPE html><title>x</title><img src="http://127.0.0.1:9/x.png">',
        "runs": hostile.replace("</main>", "<script>1</script></main>", 1),
    }
    seen = {}
    for name, html in pages.items():
        (tmp_path / f"{name}.html").write_text(html, encoding="utf-8")
        seen[name] = chromium(tmp_path / f"{name}.html", tmp_path / name)
    own_requests = seen["empty"][1]
    assert seen["page"][0] == []
    assert seen["page"][1] <= own_requests
    assert "http://127.0.0.1:9/x.png" in seen["loads"][1] - own_requests
    assert "Content Security Policy" in "".join(seen["runs"][0])
