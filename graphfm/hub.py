"""Pretrained weights by name: those in the package, a folder's, or a repository's of the hub.

``pretrained("graphfm-small")`` reads what the wheel brings, ``pretrained("runs/mine")`` a run or
checkpoint folder, ``pretrained("owner/name", revision="v1")`` a repository of the Hugging Face Hub,
through ``huggingface_hub``, which ``pip install graphfm[hub]`` brings. Whatever it is, it is a
checkpoint folder: safetensors and JSON, verified against its manifest before it is believed.
"""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import Any

from graphfm.card import model_card
from graphfm.checkpoint import (
    find_checkpoint,
    load_model,
    read_tensors,
    replace_text,
    save_checkpoint,
    verify_checkpoint,
)
from graphfm.config import ModelConfig
from graphfm.errors import CheckpointError, GraphFMError, OfflineError
from graphfm.graphs.fetch import is_offline
from graphfm.model import GraphFM

log = logging.getLogger(__name__)

SHIPPED = "graphfm-small"
RANDOM = "random"
WEIGHTS = Path(__file__).parent / "weights"
"""Where the wheel keeps weights: those of ``graphfm-small`` in ``small``."""
NOVELTY = "novelty"
CARD = "README.md"
# Of a checkpoint: all that is ever read of one, and none of it can run code.
PATTERNS = ["*.json", "*.safetensors", CARD]
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def pretrained(
    given: str | Path | None = None, *, revision: str | None = None, seed: int = 0
) -> GraphFM:
    """A model to begin with, ready to be fitted.

    What its checkpoint says of the corpus stays with it, in ``about`` and ``extra``.

    Args:
        given: :data:`SHIPPED`, a folder, ``owner/name`` on the hub, or :data:`RANDOM`. None = the
            shipped weights; where the installation has none, a random trunk, and a log line.
        revision: Branch, tag or commit of a repository on the hub; None = its main branch.
        seed: Of a random trunk.

    Raises:
        CheckpointError: GFM301 to GFM304 for a checkpoint that is none, GFM311 for a repository
            that cannot be had.
        OfflineError: GFM401 where it would have to be fetched and the network may not be used.
    """
    folder = find_weights(given, revision=revision)
    return GraphFM(ModelConfig(), seed=seed) if folder is None else read_pretrained(folder)


def find_weights(given: str | Path | None = None, *, revision: str | None = None) -> Path | None:
    """The checkpoint folder that a name means; None = random weights. See :func:`pretrained`."""
    on_hub = _is_repository(given)
    if revision is not None and not on_hub:
        raise CheckpointError(
            "GFM311",
            f"a revision belongs to a repository of the hub, and {given} is none here",
            fix="leave the revision out, or name owner/name",
        )
    if given == RANDOM:
        return None
    if given is None or given == SHIPPED:
        folder = shipped_weights()
        if folder is None:
            _say_none_shipped(asked=given is not None)
        return folder
    return _fetched(str(given), revision) if on_hub else find_checkpoint(Path(given))


def shipped_weights() -> Path | None:
    """The folder of :data:`SHIPPED` in this installation; None where there is none."""
    folder = WEIGHTS / SHIPPED.removeprefix("graphfm-")
    return folder if (folder / "manifest.json").is_file() else None


def read_pretrained(folder: Path) -> GraphFM:
    """The model of a checkpoint folder, with what the checkpoint says of it."""
    config = verify_checkpoint(folder)
    model = load_model(folder)
    model.about = {k: v for k, v in config.items() if k not in ("format", "model")}
    path = folder / f"{NOVELTY}.safetensors"
    model.extra = {NOVELTY: read_tensors(path)} if path.is_file() else {}
    return model


def save_pretrained(model: GraphFM, folder: str | Path, **how: Any) -> None:
    """Write a checkpoint folder and its model card, replacing what is there.

    Args:
        model: What to save.
        folder: Where.
        **how: ``weights`` of :func:`graphfm.checkpoint.save_checkpoint`, where they differ.

    Raises:
        OutputError: GFM801 if it cannot be written.
    """
    path = Path(folder)
    save_checkpoint(path, model, meta=model.about, extra=model.extra, **how)
    # After the manifest and not in it: people edit a card, on the hub too, and nothing reads it.
    replace_text(path / CARD, model_card(model.about, model.config(), model.num_params()))


def push_to_hub(
    model: GraphFM,
    repository: str,
    *,
    branch: str | None = None,
    private: bool | None = None,
    message: str = "",
) -> str:
    """Write a model to a repository of the hub, which is made if there is none.

    Args:
        model: What to save.
        repository: ``owner/name``.
        branch: Where to, None = main.
        private: Whether a new repository is; None = as the owner's settings say.
        message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: GFM311 without ``huggingface_hub``, or where the hub refuses.
        OfflineError: GFM401 where the network may not be used.
    """
    hub = _library(repository)
    errors = hub.errors
    online = "go online, without --offline (GRAPHFM_OFFLINE) and HF_HUB_OFFLINE"
    if is_offline():
        raise _offline(repository, online)

    class Pushed(hub.PyTorchModelHubMixin):  # type: ignore[name-defined]
        """How the mixin asks a model for its files."""

        def _save_pretrained(self, save_directory: Path) -> None:
            save_pretrained(model, save_directory)

    try:
        address = Pushed().push_to_hub(
            repository,
            branch=branch,
            private=private,
            commit_message=message or f"{model.about.get('name', 'GraphFM')} by graphfm",
        )
    except errors.OfflineModeIsEnabled:
        raise _offline(repository, online) from None
    except GraphFMError:
        raise
    except Exception as error:  # the hub's own, and those of its HTTP client, which releases change
        raise CheckpointError(
            "GFM311",
            f"the hub did not take {repository}: {_reason(error, errors)}",
            fix="hf auth login with a token that may write, or set HF_TOKEN",
        ) from None
    return str(address)


def _is_repository(given: str | Path | None) -> bool:
    """Whether text means the hub: owner/name, and neither that nor owner is a folder here."""
    if not isinstance(given, str) or not _REPOSITORY.fullmatch(given):
        return False
    return not Path(given).parent.exists()  # runs/mien is a slip of the pen, not an owner's


def _say_none_shipped(*, asked: bool) -> None:
    """Say so; an error where they were asked for by name."""
    if asked:
        raise CheckpointError(
            "GFM301",
            f"{SHIPPED} is not in this installation",
            where=str(WEIGHTS),
            fix="pip install -U graphfm; or name a folder that `graphfm pretrain` wrote, or random",
        )
    log.warning("this installation holds no pretrained weights: the trunk is random")


def _fetched(repository: str, revision: str | None) -> Path:
    """The snapshot of a repository in the hub's own cache."""
    hub = _library(repository)
    errors = hub.errors
    try:
        folder = Path(
            hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=PATTERNS,
                local_files_only=is_offline(),
            )
        )
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise _offline(
            repository, "go online once, then it is in the cache; or give a folder"
        ) from None
    except Exception as error:  # as above
        at = f" at {revision}" if revision else ""
        raise CheckpointError(
            "GFM311",
            f"{repository}{at} could not be had from the hub: {_reason(error, errors)}",
            why="there is no folder of that name here either",
            fix="check owner/name and revision; for a private one: hf auth login",
        ) from None
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            "GFM311",
            f"{repository} is no model of graphfm: it holds no manifest.json",
            where=str(folder),
            fix="push one with GraphFM.push_to_hub",
        )
    return folder


def _library(repository: str) -> Any:
    try:
        library = importlib.import_module("huggingface_hub")
        importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise CheckpointError(
            "GFM311",
            f"{repository} is no folder here, and the hub needs the package huggingface_hub",
            fix="pip install graphfm[hub], or give the folder of a checkpoint",
        ) from None
    return library


def _offline(repository: str, fix: str) -> OfflineError:
    return OfflineError(
        "GFM401", f"{repository} is not here, and the hub cannot be reached", fix=fix
    )


def _reason(error: Exception, errors: Any) -> str:
    """In a line, why the hub refused."""
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such branch, tag or commit"
    if isinstance(error, errors.GatedRepoError):
        return "its owner has to let you in first"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is private"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
