"""The command ``graphfm doctor``: check this machine and the installation."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Any

import typer

from graphfm.cli.terminal import next_step, pairs, show, show_json
from graphfm.version import __version__

# Optional packages, by name on the package index and name of the module.
OPTIONAL = {
    "torch-scatter": "torch_scatter",
    "ogb": "ogb",
    "timm": "timm",
    "plotly": "plotly",
    "anndata": "anndata",
    "huggingface_hub": "huggingface_hub",
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this machine: versions, GPU, cache folder, data. Does not use the network."""
    facts = _facts()
    if as_json:
        show_json(facts)
        if facts["problems"]:
            raise typer.Exit(8)
        return
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    optional = ", ".join(
        f"{name} {version or 'not installed (optional)'}"
        for name, version in facts["optional"].items()
    )
    writable = "writable" if facts["cache_writable"] else "NOT writable"
    show(
        pairs(
            {
                "graphfm": f"{__version__}, Python {facts['python']}, {facts['platform']}",
                "packages": versions,
                "optional": optional,
                "compute": f"{facts['threads']} threads, GPU: {facts['gpu'] or 'none'}",
                "cache": f"{facts['cache']} {writable}, {facts['free_gb']:.0f} GB free",
                "weights": facts["weights"] or "none installed (fits begin with random weights)",
                "data": f"{facts['data']}"
                + ("" if facts["data_found"] else " (not there; optional)"),
            }
        )
    )
    for problem in facts["problems"]:
        show(f"  problem   {problem}")
    if facts["problems"]:
        raise typer.Exit(8)
    show("  All good.")
    next_step("graphfm demo")


def _facts() -> dict[str, Any]:
    """Return everything that ``graphfm doctor --json`` prints."""
    import torch

    from graphfm.checkpoint.pretrained import shipped_weights
    from graphfm.graphs.catalog.catalog import data_folder
    from graphfm.storage import cache_folder

    cache, data = cache_folder(), data_folder()
    existing = next(p for p in (cache, *cache.parents) if p.is_dir())
    writable = os.access(existing, os.W_OK)
    free_gb = shutil.disk_usage(existing).free / 1e9
    problems = []
    if not writable:
        problems.append(f"no permission to write to {existing}: set GRAPHFM_HOME to another folder")
    if free_gb < 1:
        problems.append(
            f"{free_gb:.1f} GB of disk space free for the cache: a run needs about 1 GB"
        )
    return {
        "graphfm": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {n: metadata.version(n) for n in ("torch", "torch-geometric", "numpy")},
        "optional": {n: _version(n) if util.find_spec(m) else None for n, m in OPTIONAL.items()},
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "weights": str(found) if (found := shipped_weights()) else None,
        "cache": str(cache),
        "cache_writable": writable,
        "free_gb": free_gb,
        "data": str(data),
        "data_found": Path(data).is_dir(),
        "problems": problems,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "installed"
