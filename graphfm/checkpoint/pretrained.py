"""Pretrained models by name: the weights in the package, a folder, or a repository of the hub.

``GraphFM.from_pretrained("graphfm-small")`` reads the weights in the wheel,
``from_pretrained("runs/mine")`` a run or checkpoint folder, and
``from_pretrained("owner/name", revision="v1")`` a repository of the Hugging Face Hub
(``pip install graphfm[hub]``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from graphfm.checkpoint import hub
from graphfm.checkpoint.card import CARD, is_card, model_card
from graphfm.checkpoint.folder import Checkpoint, find_checkpoint, save_checkpoint
from graphfm.errors import CheckpointError
from graphfm.graphs.spec import GraphSpec
from graphfm.storage import replace_text

log = logging.getLogger(__name__)

SHIPPED = "graphfm-small"
RANDOM = "random"
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the weights in the wheel; those of ``graphfm-small`` are in ``small``."""
NOVELTY = "novelty"


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
        """Load pretrained weights and verify them.

        Args:
            name: ``graphfm-small``, a run or checkpoint folder, ``owner/name`` on the Hugging Face
                Hub, or ``random``. None = the weights in the wheel; if the installation has none,
                a random trunk and a warning.
            revision: Branch, tag or commit on the hub. Default: its main branch.
            seed: Seed of a random trunk.

        Raises:
            CheckpointError: GFM301 to GFM304 for a folder without an intact checkpoint, GFM311 for
                a repository that cannot be read.
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
            checkpoint: An open checkpoint, or the path of a run or checkpoint folder, which is
                verified first.

        Raises:
            CheckpointError: GFM301 to GFM304.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint.open(checkpoint)
        checkpoint.outline(cls.from_config)  # without memory: the shape may be anything
        model: Any = cls.from_config(checkpoint.model_config, specs=checkpoint.specs())
        model.load_state_dict(checkpoint.weights())
        model.about = checkpoint.about
        novelty = checkpoint.tensors(NOVELTY)
        model.extra = {} if novelty is None else {NOVELTY: novelty}
        loaded: Self = model.eval()
        return loaded

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *, seed: int = 0, specs: Sequence[GraphSpec] = ()
    ) -> Self:
        """Build a model with fresh weights; implemented by the subclass."""
        raise NotImplementedError

    def save_pretrained(
        self, folder: str | Path, *, weights: dict[str, Tensor] | None = None
    ) -> None:
        """Write a checkpoint folder with its model card, replacing a model that is there.

        Other files in the folder stay, also a README.md that is not a model card.

        Args:
            folder: Path of the checkpoint folder.
            weights: Weights to save, such as a copy in half precision. Default: the model's.

        Raises:
            OutputError: GFM801 if it cannot be written, GFM402 if the folder holds files that are
                not a model.
        """
        model: Any = self
        path = Path(folder)
        save_checkpoint(path, model, meta=self.about, extra=self.extra, weights=weights)
        # The card is not in the manifest: people edit it, also on the hub, and no code reads it.
        card = model_card(self.about, model.config(), model.num_params())
        if not is_card(path / CARD):
            log.warning("%s stays as it is: it is not a model card", path / CARD)
        else:
            replace_text(path / CARD, card)

    def push_to_hub(
        self,
        repository: str,
        *,
        branch: str | None = None,
        private: bool | None = None,
        message: str = "",
    ) -> str:
        """Write the model to a repository of the Hugging Face Hub.

        Args:
            repository: ``owner/name``; created if it does not exist.
            branch: Branch to write to. Default: main.
            private: True makes a new repository private. Default: the setting of the owner.
            message: Message of the commit. Default: the name of the model.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: GFM311 without ``huggingface_hub``, or if the hub refuses.
            OfflineError: GFM401 if the network must not be used.
        """
        message = message or f"{self.about.get('name', 'GraphFM')} by graphfm"
        return hub.upload(
            self.save_pretrained, repository, branch=branch, private=private, message=message
        )


def weights_name(model: Pretrained, given: object) -> str:
    """Return the name of the weights that a fit begins with; ``random`` for none.

    Args:
        model: The pretrained model.
        given: Argument of :meth:`Pretrained.from_pretrained`, or the model itself.
    """
    if "name" in model.about:
        return str(model.about["name"])
    if given is model:
        return "given"
    return RANDOM if given is None else str(given)


def find_weights(name: str | Path | None = None, *, revision: str | None = None) -> Path | None:
    """Return the checkpoint folder of a name; None = random weights.

    Args:
        name: See :meth:`Pretrained.from_pretrained`.
        revision: Branch, tag or commit on the hub. Default: its main branch.
    """
    on_hub = hub.is_repository(name)
    if revision is not None and not on_hub:
        raise CheckpointError(
            "GFM311",
            f"a revision was given, but {name} is not a repository of the hub",
            fix="leave the revision out, or give owner/name",
        )
    if name == RANDOM:
        return None
    if name is None or name == SHIPPED:
        return _shipped_or_warn(by_name=name is not None)
    return hub.download(str(name), revision) if on_hub else find_checkpoint(Path(name))


def shipped_weights() -> Path | None:
    """Return the folder of :data:`SHIPPED`; None if this installation has no weights."""
    folder = WEIGHTS / SHIPPED.removeprefix("graphfm-")
    return folder if (folder / "manifest.json").is_file() else None


def _shipped_or_warn(*, by_name: bool) -> Path | None:
    """Return the shipped weights. Without them, raise if the user gave the name, else warn."""
    folder = shipped_weights()
    if folder is None and by_name:
        raise CheckpointError(
            "GFM301",
            f"{SHIPPED} is not in this installation",
            where=str(WEIGHTS),
            fix="pip install -U graphfm; or give a folder that `graphfm pretrain` wrote, or random",
        )
    if folder is None:
        log.warning("this installation holds no pretrained weights: the trunk is random")
    return folder
