"""Checkpoints: folders of verified files, a model card, and the Hugging Face Hub."""

from graphfm.checkpoint.folder import Checkpoint as Checkpoint
from graphfm.checkpoint.folder import find_checkpoint as find_checkpoint
from graphfm.checkpoint.folder import save_checkpoint as save_checkpoint
