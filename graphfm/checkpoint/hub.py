"""Checkpoint folders on the Hugging Face Hub, through the package ``huggingface_hub``.

Only safetensors, JSON and the model card are ever downloaded: no file that can run code.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphfm.checkpoint.card import CARD
from graphfm.errors import CheckpointError, GraphFMError, OfflineError
from graphfm.storage import is_offline

PATTERNS = ["*.json", "*.safetensors", CARD]
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_repository(name: str | Path | None) -> bool:
    """Return True if a name means the hub: ``owner/name``, and ``owner`` is no local folder."""
    if not isinstance(name, str) or not _REPOSITORY.fullmatch(name):
        return False
    return not Path(name).parent.exists()  # runs/mien is a misspelt folder, not an owner


def download(repository: str, revision: str | None = None) -> Path:
    """Return the folder of a repository in the cache of the hub; downloaded if needed.

    Args:
        repository: ``owner/name``.
        revision: Branch, tag or commit. Default: the main branch.

    Raises:
        CheckpointError: GFM311 without ``huggingface_hub``, for a repository that cannot be read
            or that holds no checkpoint.
        OfflineError: GFM401 if a download is needed but the network must not be used.
    """
    library = _library(repository)
    errors = library.errors
    try:
        folder = Path(
            library.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=PATTERNS,
                local_files_only=is_offline(),
            )
        )
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise _offline(
            repository, "go online once to download it; or give a folder of this machine"
        ) from None
    except Exception as error:  # errors of the hub and of its HTTP client, which change by release
        at = f" at {revision}" if revision else ""
        raise CheckpointError(
            "GFM311",
            f"{repository}{at} could not be downloaded from the hub: {_reason(error, errors)}",
            why="this machine has no folder of that name either",
            fix="check owner/name and revision; for a private repository: hf auth login",
        ) from None
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            "GFM311",
            f"{repository} is not a graphfm model: it holds no manifest.json",
            where=str(folder),
            fix="push a model with GraphFM.push_to_hub",
        )
    return folder


def upload(
    save: Callable[[Path], None],
    repository: str,
    *,
    branch: str | None,
    private: bool | None,
    message: str,
) -> str:
    """Write a checkpoint folder to a repository, which is created if it does not exist.

    Args:
        save: Function that writes the files into a folder.
        repository: ``owner/name``.
        branch: Branch to write to; None = main.
        private: True makes a new repository private; None = the setting of the owner.
        message: Message of the commit.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: GFM311 without ``huggingface_hub``, or if the hub refuses.
        OfflineError: GFM401 if the network must not be used.
    """
    library = _library(repository)
    errors = library.errors
    online = "go online, without --offline (GRAPHFM_OFFLINE) and HF_HUB_OFFLINE"
    if is_offline():
        raise _offline(repository, online)

    class Model(library.PyTorchModelHubMixin):  # type: ignore[name-defined]
        """The object that the library asks for its files."""

        def _save_pretrained(self, save_directory: Path) -> None:
            save(save_directory)

    try:
        address = Model().push_to_hub(
            repository, branch=branch, private=private, commit_message=message
        )
    except errors.OfflineModeIsEnabled:
        raise _offline(repository, online) from None
    except GraphFMError:
        raise
    except Exception as error:  # errors of the hub and of its HTTP client, which change by release
        raise CheckpointError(
            "GFM311",
            f"the hub refused {repository}: {_reason(error, errors)}",
            fix="hf auth login with a token that may write, or set HF_TOKEN",
        ) from None
    return str(address)


def _library(repository: str) -> Any:
    """Import ``huggingface_hub``.

    Raises:
        CheckpointError: GFM311 if it is not installed.
    """
    try:
        library = importlib.import_module("huggingface_hub")
        importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise CheckpointError(
            "GFM311",
            f"{repository} is not a folder of this machine, and the hub needs the package "
            "huggingface_hub",
            fix="pip install graphfm[hub], or give the folder of a checkpoint",
        ) from None
    return library


def _offline(repository: str, fix: str) -> OfflineError:
    return OfflineError(
        "GFM401",
        f"{repository} is not on this machine, and the hub cannot be reached",
        fix=fix,
    )


def _reason(error: Exception, errors: Any) -> str:
    """Return in one line why the hub refused."""
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such branch, tag or commit"
    if isinstance(error, errors.GatedRepoError):
        return "its owner must grant you access first"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the repository does not exist, or it is private"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
