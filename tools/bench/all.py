"""Run all benches, keep their results as docs/benchmarks/MACHINE.json, write the page.

    python tools/bench/all.py                      # on this machine's CPU, one thread
    python tools/bench/all.py --device cuda        # the same on its GPU
    python tools/bench/all.py --only step bank
    python tools/bench/all.py --markdown           # docs/notebook/performance.md from those files

Each bench is a process of its own. If one fails, its error is recorded and the others run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timing

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent
FOLDER = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "notebook" / "performance.md"
BENCHES = ("sampler", "plan", "bank", "attention", "decoder", "step")
MARKS = ("<!-- figures: tools/bench/all.py --markdown -->", "<!-- end of figures -->")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benches and write their results; return 1 if a bench failed."""
    args = parse(argv)
    if args.markdown:
        args.page.write_text(page_with_figures(args.page, args.folder), encoding="utf-8")
        return 0
    facts = timing.machine(args.device, threads=args.threads)
    out = args.out or args.folder / f"{slug(facts)}.json"
    results: dict[str, Any] = {"machine": facts, "benches": {}}
    if out.exists():  # with --only, results of the other benches stay
        results["benches"] = json.loads(out.read_text(encoding="utf-8"))["benches"]
    for name in args.only:
        print(f"\n== {name}", flush=True)
        results["benches"][name] = run(name, args)
        timing.write_json(out, results)
    failed = [name for name in args.only if "error" in results["benches"][name]]
    print(f"\n{out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = timing.parser(__doc__)
    parser.set_defaults(repeats=None)  # each bench has a default of its own
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--markdown", action="store_true", help="run nothing, write the page")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that --markdown writes")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of MACHINE.json")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one bench")
    return parser.parse_args(argv)


def slug(facts: dict[str, Any]) -> str:
    """Return a file name for a machine: its GPU's name, or its processor's.

    >>> slug({"device": "cpu", "cpu": "AMD EPYC 9R14 (R) 96-Core"})
    'amd-epyc-9r14-r-96-core'
    """
    name = facts["cpu"] if facts["device"] == "cpu" else facts["device"]
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one bench; return what it printed and wrote, or ``error``."""
    options = ["--device", args.device, "--threads", str(args.threads)]
    if args.repeats:
        options += ["--repeats", str(args.repeats)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, str(TOOLS / f"{name}.py"), "--out", str(out), *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, env=environment, timeout=args.limit
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done in {args.limit:.0f} s"}
        print(done.stdout, end="", flush=True)
        if done.returncode or not out.exists():
            return {"error": f"exit code {done.returncode}"}
        results = json.loads(out.read_text(encoding="utf-8"))
    results["settings"].pop("out", None)  # a temporary file of this machine
    return {
        "command": " ".join(["python", f"tools/bench/{name}.py", *options]),
        "wall_s": round(time.monotonic() - began, 1),
        "printed": done.stdout.rstrip(),
        **results,
    }


def page_with_figures(page: Path, folder: Path) -> str:
    """Return the text of a page whose part between the marks is written from the files."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    files = sorted(folder.glob("*.json"))
    sections = [as_markdown(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    made = "\n\n".join(sections) or "No figures yet."
    return f"{before}{MARKS[0]}\n\n{made}\n\n{MARKS[1]}{after}"


def as_markdown(results: dict[str, Any]) -> str:
    """Return the printed output of each bench, below the name of its machine."""
    facts = results["machine"]
    where = facts["cpu"] if facts["device"] == "cpu" else f"{facts['device']}, {facts['cpu']}"
    lines = [f"### {where}", "", f"{facts['cores']} cores, torch {facts['torch']}."]
    for name in [n for n in BENCHES if n in results["benches"]]:
        found = results["benches"][name]
        if "error" in found:
            lines += ["", f"**{name}**: {found['error']}."]
            continue
        own = found["machine"]
        head = (
            f"**{name}**, {own['threads']} thread{'s' if own['threads'] > 1 else ''}, load "
            f"{own['load']} when it began, {found['wall_s']:.0f} s: `{found['command']}`"
        )
        lines += ["", head, "", "```text", found["printed"], "```"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
