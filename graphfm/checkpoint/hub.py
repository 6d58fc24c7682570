"""Pretrained weights by name: those in the package, a folder's, or a repository's of the hub.

``GraphFM.from_pretrained("graphfm-small")`` reads the weights in the wheel,
``from_pretrained("runs/mine")`` a run or checkpoint folder, and
``from_pretrained("owner/name", revision="v1")`` a repository of the Hugging Face Hub, through
``huggingface_hub`` (``pip install graphfm[hub]``). Each of them is a checkpoint folder of
safetensors and JSON files, verified against its manifest.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from graphfm.checkpoint.card import model_card
from graphfm.checkpoint.folder import Checkpoint, find_checkpoint, save_checkpoint
from graphfm.errors import CheckpointError, GraphFMError, OfflineError
from graphfm.graphs.spec import GraphSpec
from graphfm.storage import is_offline, replace_text

log = logging.getLogger(__name__)

SHIPPED = "graphfm-small"
RANDOM = "random"
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Where the wheel keeps weights: those of ``graphfm-small`` in ``small``."""
NOVELTY = "novelty"
CARD = "README.md"
# Of a checkpoint: all that is ever read of one, and none of it can run code.
PATTERNS = ["*.json", "*.safetensors", CARD]
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Pretrained:
    """Loading and saving of a model by name: a base class of ``GraphFM``.

    A subclass has ``from_config``, ``config``, ``specs``, ``num_params``, and the methods of
    ``torch.nn.Module``.
    """

    about: dict[str, Any]
    """Facts from the checkpoint: corpus, audit, run."""
    extra: dict[str, dict[str, Tensor]]
    """Further tensors of the checkpoint, by file stem."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = SHIPPED,
        *,
        revision: str | None = None,
        seed: int = 0,
    ) -> Self:
        """Load pretrained weights, verified.

        Args:
            name: ``graphfm-small``, a run or checkpoint folder, ``owner/name`` on the Hugging Face
                Hub, or ``random``. None = the shipped weights; if the installation has none, a
                random trunk and a warning.
            revision: Branch, tag or commit on the hub. Default: its main branch.
            seed: Seed of a random trunk.

        Raises:
            CheckpointError: GFM301 to GFM304 for a folder without a sound checkpoint, GFM311 for a
                repository that cannot be read.
            OfflineError: GFM401 if a download is needed but the network must not be used.
        """
        folder = find_weights(name, revision=revision)
        if folder is None:
            return cls.from_config({}, seed=seed)
        return cls.from_checkpoint(Checkpoint.open(folder))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint | Path | str) -> Self:
        """Build the model of a checkpoint, in evaluation mode.

        Args:
            checkpoint: An open checkpoint, or the path of a run or checkpoint folder.

        Raises:
            CheckpointError: GFM301 to GFM304.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint.open(checkpoint)
        model: Any = cls.from_config(checkpoint.model_config, specs=checkpoint.specs())
        model.load_state_dict(checkpoint.weights(model.state_dict()))
        model.about = checkpoint.about
        novelty = checkpoint.tensors(NOVELTY)
        model.extra = {} if novelty is None else {NOVELTY: novelty}
        loaded: Self = model.eval()
        return loaded

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *, seed: int = 0, specs: Sequence[GraphSpec] = ()
    ) -> Self:
        """Build a model with fresh weights; the subclass does it."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a checkpoint folder and its model card, replacing what is there.

        Args:
            folder: Path of the checkpoint folder.

        Raises:
            OutputError: GFM801 if it cannot be written.
        """
        save_pretrained(self, folder)

    def push_to_hub(self, repository: str, **how: Any) -> str:
        """Write the model to ``owner/name`` on the Hugging Face Hub.

        Args:
            repository: ``owner/name``; created if it does not exist.
            **how: Options of :func:`push_to_hub`.

        Returns:
            The address of the commit.
        """
        return push_to_hub(self, repository, **how)


def find_weights(given: str | Path | None = None, *, revision: str | None = None) -> Path | None:
    """Return the checkpoint folder that a name means; None = random weights.

    See :meth:`Pretrained.from_pretrained` for what a name may be.
    """
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


def save_pretrained(model: Any, folder: str | Path, **how: Any) -> None:
    """Write a checkpoint folder and its model card, replacing what is there.

    Args:
        model: What to save.
        folder: Where.
        **how: ``weights`` of :func:`graphfm.checkpoint.folder.save_checkpoint`, where they differ.

    Raises:
        OutputError: GFM801 if it cannot be written.
    """
    path = Path(folder)
    save_checkpoint(path, model, meta=model.about, extra=model.extra, **how)
    # After the manifest and not in it: people edit a card, on the hub too, and nothing reads it.
    replace_text(path / CARD, model_card(model.about, model.config(), model.num_params()))


def push_to_hub(
    model: Any,
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
