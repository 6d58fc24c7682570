"""Shards of a checkpoint: no index from elsewhere runs code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from graphfm.checkpoint.folder import Checkpoint, save_checkpoint
from graphfm.errors import CheckpointError
from graphfm.graphs.catalog.rawfiles import foreign_names
from graphfm.training.run_folder import checkpoint_path, choose_start
from graphfm.training.sharded import INDEX, INDEX_NAMES, check_index, load_sharded, save_sharded
from tests.graphs import small_model, three_graphs
from tests.test_checkpoint_folder import relist

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Evil:
    """Object that runs a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with shards that one process wrote."""
    model = small_model(three_graphs())
    shards = tmp_path / "shards"
    save_sharded(shards, model, torch.optim.SGD(model.parameters(), lr=0.1))
    folder = checkpoint_path(tmp_path / "run", 1)
    folder.parent.mkdir(parents=True)
    save_checkpoint(folder, model, meta={}, trainer={"step": 1}, shards=shards)
    return folder


def test_own_shards_are_read(folder: Path) -> None:
    """The allow-list holds every name that torch writes."""
    other = small_model(three_graphs())
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    shards = Checkpoint.open(folder).shards()
    assert shards is not None
    load_sharded(shards, other, torch.optim.SGD(other.parameters(), lr=0.1))
    wanted = small_model(three_graphs()).state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in other.state_dict().items())


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("listed", [True, False])
def test_a_foreign_index_never_runs(protocol: int, listed: bool, folder: Path) -> None:
    """A pickle as the index is refused, listed in the manifest or not. Failed: the command ran."""
    mark = folder.parent / "mark"
    (folder / "sharded" / INDEX).write_bytes(pickle.dumps(Evil(mark), protocol))
    if listed:
        relist(folder, f"sharded/{INDEX}")
    model = small_model(three_graphs())
    with pytest.raises(CheckpointError, match="GFM30[25]"):
        shards = Checkpoint.open(folder).shards()
        assert shards is not None
        load_sharded(shards, model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert not mark.exists()


def test_an_unlisted_folder_of_shards_is_refused(folder: Path, tmp_path: Path) -> None:
    """A checkpoint without shards, and ``sharded/.metadata`` put beside it. Failed: it was opened.

    This is the attack: ``pretrain demo --resume FOLDER``.
    """
    plain, mark = tmp_path / "plain", tmp_path / "mark"
    save_checkpoint(plain, small_model(three_graphs()), meta={}, trainer={"step": 1})
    (plain / "sharded").mkdir()
    (plain / "sharded" / INDEX).write_bytes(pickle.dumps(Evil(mark)))
    for trust in (False, True):
        with pytest.raises(CheckpointError, match="GFM302.*not in its manifest"):
            choose_start(tmp_path / "new", str(plain), trust_shards=trust)
    assert not mark.exists()


def test_shards_from_elsewhere_need_trust(folder: Path, tmp_path: Path) -> None:
    """``--resume PATH`` of a folder outside --out; the own folder needs no flag."""
    with pytest.raises(CheckpointError, match=r"GFM305[\s\S]*--trust-shards"):
        choose_start(tmp_path / "new", str(folder))
    given = choose_start(tmp_path / "new", str(folder), trust_shards=True)
    own = choose_start(folder.parents[1], "auto")
    assert given is not None and own is not None and given.path == own.path == folder


@pytest.mark.parametrize(
    "code",
    [
        # the texts are swapped on the stack after they were pushed: dup, pop, a second memo entry
        b"\x80\x04\x8c\x05torch\x8c\x02os\x8c\x06system\x94\x8c\x04Size00\x8c\x06system\x93.",
        b"\x80\x04\x8c\x02os\x94\x8c\x05torch\x94\x8c\x04Size\x94h\x00h\x02\x93.",
        b"\x80\x04\x8c\x05torch2\x93.",
        b"\x80\x04\x8c\x02os\x94\x8c\x06systemq\x00\x8c\x05torch\x940h\x00\x93.",
        b"\x80\x04\x8c\x05torch\x8c\x0bSize.system\x93.",
        b"\x80\x04\x8c\x05torch\x8c\x04Size\x93\x82\x01.",
        b"cos\nsystem\n.",
        b"(S'x'\nios\nsystem\n.",
    ],
)
def test_a_name_that_is_not_plain_to_see_is_refused(code: bytes, tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(code)
    assert foreign_names(tmp_path / "index", INDEX_NAMES)
    with pytest.raises(CheckpointError, match="GFM305"):
        check_index(tmp_path / "index")


def test_an_index_with_objects_is_refused(tmp_path: Path) -> None:
    """Torch opens them without a check: an entry that is no tensor never gets that far."""
    from torch.distributed.checkpoint import save

    save({"weights": {"a": torch.ones(2)}, "extra": object}, checkpoint_id=tmp_path / "shards")
    with pytest.raises(CheckpointError, match=r"GFM305.*BytesStorageMetadata"):
        check_index(tmp_path / "shards" / INDEX)
