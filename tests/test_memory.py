"""Too little memory: exit code 7 with a known code, and folders that lie about their size."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from typer.testing import CliRunner, Result

from graphfm.cli import doctor
from graphfm.cli.main import app
from graphfm.model.graphfm import GraphFM
from tests.test_checkpoint_folder import relist


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")


@contextmanager
def little_memory(more: int) -> Iterator[None]:
    """Let the address space grow by so many bytes at most, as ``ulimit -v`` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def of_torch() -> object:
    return torch.ones(2**31)


def of_numpy() -> object:
    return np.ones(2**31)


def of_arrow() -> object:
    return pyarrow.allocate_buffer(2**33)


def of_python() -> object:
    return bytearray(2**33)


def of_threads() -> object:
    raise RuntimeError("can't start new thread")


def of_the_loader() -> object:
    raise ImportError("libtorch.so: failed to map segment from shared object")


def of_the_system() -> object:
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize(
    "allocate",
    [of_torch, of_numpy, of_arrow, of_python, of_threads, of_the_loader, of_the_system],
)
def test_every_allocator_that_fails_is_named(
    allocate: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail: GFM400 "a bug" for torch, whose error is a RuntimeError."""
    assert callable(allocate)
    monkeypatch.setattr(doctor, "_facts", allocate)
    with little_memory(256 << 20):
        done = run("doctor")
    assert done.exit_code == 7 and "GFM404" in done.stderr, done.stderr


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_fit_that_needs_more_than_is_free_ends_with_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    """By the estimate, before anything is written. Seen to fail: exit 3."""
    monkeypatch.setattr("graphfm.fitting.cost.memory_left", lambda device: 10 << 20)
    done = run("finetune", "--graph", "karate-club", "--out", tmp_path / "m", *more)
    assert done.exit_code == 7 and "GFM149" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value"), [("dim", 96_000), ("depth", 1_000_000), ("num_latents", 10**9)]
)
def test_a_folder_that_lies_about_its_size_takes_no_memory(
    tmp_path: Path, key: str, value: int
) -> None:
    """By every door that opens it. Seen to fail: ``inspect`` took 4.3 GB for a width of 96,000."""
    folder = tmp_path / "model"
    GraphFM.from_config({}, seed=0).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    part = config["model"] if key == "dim" else config["model"]["encoder"]
    assert key in part
    part[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    relist(folder, "config.json")
    fit = ("finetune", "--graph", "karate-club", "--out", tmp_path / "out", "--from", folder)
    for words in (("inspect", folder), fit):
        with little_memory(300 << 20):
            done = run(*words)
        assert done.exit_code == 5 and "GFM304" in done.stderr, done.stderr
