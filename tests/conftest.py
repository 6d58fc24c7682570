"""What every test gets: one thread of torch, a cache of its own, real graphs where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = os.environ.get("GRAPHFM_DATA", "")
# Threads that wait sleep, as in the command line; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest test first: at the end one worker would wait three minutes for it.
    items.sort(key=lambda item: item.path.name != "test_transcript.py")
    if DATA and Path(DATA, "MANIFEST.csv").is_file():
        return
    reason = (
        f"GRAPHFM_DATA={DATA!r} is no folder with a MANIFEST.csv" if DATA else "no GRAPHFM_DATA"
    )
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared graphs of the tests: one folder for all, the user's own cache stays as it is."""
    folder = tmp_path_factory.getbasetemp()
    # A worker of xdist has a folder below the common one; sharing spares preparing a graph twice.
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "graphfm-cache"
    folder.mkdir(exist_ok=True)
    os.environ["GRAPHFM_HOME"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two workers of one thread each: torch with more threads than cores is slower."""
    import torch

    torch.set_num_threads(1)
