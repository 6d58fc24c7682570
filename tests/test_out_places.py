"""The place of --out: links, pipes, mount points, full disks, and what an error leaves there."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from graphfm import places
from graphfm.cli.main import app
from graphfm.cli.output import check_file, new_folder
from graphfm.errors import OutputError
from graphfm.storage import from_cache, read_folder, whole_file, whole_folder, write_folder


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")


def tables(folder: Path) -> None:
    """Write a ring of 60 nodes in two classes."""
    rows = [f"n{i},{(i * 7) % 11},{'a' if i % 3 else 'b'}" for i in range(60)]
    (folder / "nodes.csv").write_text("\n".join(["id,x,label", *rows]) + "\n")
    edges = [f"n{i},n{(i + 1) % 60}" for i in range(60)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")


def finetune(data: Path, out: object, *more: object) -> Result:
    return run("finetune", "--graph", data, "--target", "label", "--out", out, "--from", "random",
               "--tune", "probe", *more)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tables(folder)
    return folder


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    out = data.parent / "model"
    assert finetune(data, out).exit_code == 0
    return out


@pytest.fixture(scope="module")
def writers(data: Path, model: Path) -> dict[str, list[object]]:
    """Commands that write one file, without --out."""
    graph = ["--model", model, "--graph", data]
    return {
        "predict": ["predict", *graph],
        "embed": ["embed", *graph],
        "report": ["report", model, "--max-time", "0"],
    }


SUFFIX = {"predict": ".csv", "embed": ".csv", "report": ".html"}


@pytest.mark.parametrize("command", SUFFIX)
def test_a_link_stays_and_its_file_is_replaced(
    writers: dict[str, list[object]], tmp_path: Path, command: str
) -> None:
    """Seen to fail: the link itself was replaced, and the file that it named stayed old."""
    (tmp_path / "elsewhere").mkdir()
    file, link = (
        tmp_path / "elsewhere" / f"old{SUFFIX[command]}",
        tmp_path / f"out{SUFFIX[command]}",
    )
    link.symlink_to(file)  # at first of a file that does not exist
    for more in ((), ("--overwrite",)):
        assert run(*writers[command], "--out", link, *more).exit_code == 0
        assert link.is_symlink() and file.stat().st_size > 100 and not file.is_symlink()
    assert run(*writers[command], "--out", link).exit_code == 8
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == [file.name]


@pytest.mark.parametrize("command", SUFFIX)
def test_what_is_no_regular_file_is_refused(
    writers: dict[str, list[object]], tmp_path: Path, command: str
) -> None:
    """Seen to fail: ``os.replace`` put a regular file in place of a pipe; so for a device."""
    pipe, link = tmp_path / f"pipe{SUFFIX[command]}", tmp_path / f"link{SUFFIX[command]}"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for out in (pipe, link):
        done = run(*writers[command], "--out", out, "--overwrite")
        assert done.exit_code == 8 and "no regular file" in done.stderr, done.stderr
        assert "--overwrite" not in done.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(OutputError, match="no regular file"):
        check_file(Path("/dev/null"), overwrite=True)


@pytest.mark.parametrize("command", SUFFIX)
def test_dev_stdout_works(
    writers: dict[str, list[object]], capfd: pytest.CaptureFixture[str], command: str
) -> None:
    """Seen to fail: GFM402 with the advice to replace /dev/stdout by --overwrite."""
    done = run(*writers[command], "--out", "/dev/stdout")
    assert done.exit_code == 0, done.stderr
    text = capfd.readouterr().out
    begins = {"predict": "id,label,", "embed": "id,e0,", "report": "<!doctype html>"}
    assert text.lower().startswith(begins[command])
    assert command == "report" or len(text.splitlines()) == 61


def test_a_stream_gets_the_whole_content_or_nothing(tmp_path: Path) -> None:
    """A file that fails half way reaches no stream. A named descriptor works too."""
    with (tmp_path / "sink").open("wb") as sink:
        stream = Path(f"/dev/fd/{sink.fileno()}")
        with pytest.raises(KeyError), whole_file(stream) as path:
            path.write_text("half")
            raise KeyError
        with whole_file(stream) as path:
            path.write_text("whole")
        check_file(stream)
    assert (tmp_path / "sink").read_text() == "whole"


@pytest.mark.parametrize("kind", ["link", "dot"])
def test_a_fit_into_a_link_or_the_current_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Seen to fail: refused after the whole fit, or a shell that sits in a removed folder."""
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    if kind == "dot":
        monkeypatch.chdir(real)
    out = tmp_path / "link" if kind == "link" else "."
    inode = real.stat().st_ino
    for more in (("--overwrite",), ("--overwrite", "--seed", 1)):
        done = finetune(data, out, *more)
        assert done.exit_code == 0, done.stderr
        assert (real / "manifest.json").is_file() and (real / "split.json").is_file()
        assert not [p for p in (*real.iterdir(), *tmp_path.iterdir()) if ".tmp-" in p.name]
    assert (tmp_path / "link").is_symlink()
    assert kind == "link" or real.stat().st_ino == inode
    assert (
        run("predict", "--model", out, "--graph", data, "--out", tmp_path / "p.csv").exit_code == 0
    )


def test_a_mount_point_is_filled_and_stays_on_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder cannot be renamed; an error half way puts everything back."""
    folder = tmp_path / "mount"
    folder.mkdir()
    (folder / "old").write_text("old")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == folder)
    with pytest.raises(KeyError), whole_folder(folder) as new:
        (new / "half").touch()
        raise KeyError
    assert [p.name for p in folder.iterdir()] == ["old"]
    replace = os.replace

    def broken(source: Path, target: Path) -> None:
        if target == folder / "b":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(places.os, "replace", broken)
    with pytest.raises(OSError, match="Input/output"), whole_folder(folder) as new:
        for name in "abc":
            (new / name).touch()
    assert [p.name for p in folder.iterdir()] == ["old"]
    monkeypatch.setattr(places.os, "replace", replace)
    inode = folder.stat().st_ino
    with whole_folder(folder) as new:
        assert new.parent == folder
        (new / "a").touch()
    assert [p.name for p in folder.iterdir()] == ["a"] and folder.stat().st_ino == inode
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("out", ["loop", "x" * 300, "file/below", "zero\0byte"])
def test_a_place_that_cannot_be_is_refused_before_the_work(tmp_path: Path, out: str) -> None:
    """Seen to fail: GFM400 after the fit for a circle of links and for a name that is too long."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    for check in (new_folder, check_file):
        with pytest.raises(OutputError, match="GFM40[23]"):
            check(tmp_path / out)


def test_overwrite_of_a_run_with_a_slip_keeps_the_run(tmp_path: Path) -> None:
    """Seen to fail: the folder was emptied before the recipe's graphs and the device were known."""
    out = tmp_path / "run"
    small = ("train.steps=2", "train.warmup_steps=1", "model.dim=32", "train.eval_every=100",
             "data.graph_share=0.2")  # fmt: skip
    first = run("pretrain", "demo", *small, "--out", out)
    assert first.exit_code == 0, first.stderr
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    slips: list[tuple[object, ...]] = [
        ("data.mixture=dmo",),
        ("model.dim=33",),
        ("--device", "cuda", "--nproc", 2),
        ("--resume", tmp_path / "nowhere"),
    ]
    for slip in slips:
        done = run("pretrain", "demo", *small, "--out", out, "--overwrite", *slip)
        assert done.exit_code not in (0, 1), (slip, done.stderr)
        assert sorted(p.relative_to(out) for p in out.rglob("*")) == before, slip
    again = run("pretrain", "demo", *small, "seed=1", "--out", out, "--overwrite")
    assert again.exit_code == 0, again.stderr
    assert "seed: 1" in (out / "config.resolved.yaml").read_text()


@pytest.mark.parametrize("slip", [("--graph", "no.csv"), ("--max-time", "soon")])
def test_overwrite_of_a_report_with_a_slip_keeps_the_report(
    model: Path, tmp_path: Path, slip: tuple[str, str]
) -> None:
    out = tmp_path / "r.html"
    out.write_text("old")
    assert run("report", model, "--out", out, "--overwrite", *slip).exit_code in (3, 4)
    assert out.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["r.html"]


@contextmanager
def full_disk(most: int = 2000) -> Iterator[None]:
    """Let every file end after so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def numpy_writer(path: Path) -> None:
    np.savez(path, np.zeros(10_000))


def safetensors_writer(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(10_000)}, path)


def arrow_writer(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    noise = np.random.default_rng(0).normal(size=10_000)
    parquet.write_table(pyarrow.table({"a": noise}), path)


@pytest.mark.parametrize("writer", [numpy_writer, safetensors_writer, arrow_writer])
def test_a_full_disk_is_named_whichever_library_writes(tmp_path: Path, writer: object) -> None:
    """Seen to fail: GFM400 for safetensors, whose error is no OSError."""
    assert callable(writer)
    out = tmp_path / "a.npz"
    out.write_text("old")
    with full_disk(), pytest.raises(OutputError, match="GFM403"), whole_file(out) as path:
        writer(path)
    assert out.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_full_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail: SafetensorError reached the user as a bug."""
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path))
    with full_disk(), pytest.raises(OutputError, match="GFM403.*cache cannot be written"):
        from_cache(
            tmp_path / "prepared",
            read=lambda folder: read_folder(folder, "a"),
            make=lambda: ({"a": torch.zeros(10_000)}, {}),
            write=lambda content, folder: write_folder(folder, "a", *content),
            name="a",
        )
    assert not (tmp_path / "prepared").exists()


def test_a_fit_on_a_full_disk_ends_with_8(data: Path, tmp_path: Path) -> None:
    """The files of a model are larger than the disk; the old model stays."""
    out = tmp_path / "model"
    assert finetune(data, out).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with full_disk(20_000):
        done = finetune(data, out, "--overwrite", "--seed", 1)
    assert done.exit_code == 8, done.stderr
    assert "GFM801" in done.stderr or "GFM403" in done.stderr
    assert {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    shutil.rmtree(out)
    assert not list(tmp_path.iterdir())
