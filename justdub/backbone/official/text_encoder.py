"""The language model that an official file does not hold: a Gemma folder with its tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from justdub.backbone.official.file import OfficialFile
from justdub.errors import BadInputError, MissingError

# model_type in the folder's config -> class of transformers.
CLASSES = {"gemma3": "Gemma3ForConditionalGeneration", "gemma4_unified": "Gemma4UnifiedForConditionalGeneration"}
WANTED = {"2.0": "Gemma 3 12B", "2.3": "Gemma 3 12B", "2.5": "the Gemma 4 12B that is published with LTX-2.5"}


@dataclass(frozen=True)
class GemmaFolder:
    """A language model that fits a file, not loaded yet.

    Attributes:
        weights, tokenizer: folders.
        kind: class of transformers.
    """

    weights: Path
    tokenizer: Path
    kind: str

    def load(self, dtype: torch.dtype) -> tuple[Any, Any]:
        """The model, frozen, and its tokenizer.

        Raises:
            MissingError, BadInputError: a file of the folder is not there, or damaged.
        """
        import transformers
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = getattr(transformers, self.kind).from_pretrained(
                self.weights, dtype=dtype, local_files_only=True, use_safetensors=True
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.tokenizer, local_files_only=True)
        except SafetensorError as error:
            found = f"a weight file in {self.weights} is damaged: {error}"
            raise BadInputError(found, remedy="download it again") from error
        except (OSError, ValueError, KeyError) as error:
            found = f"text encoder {self.weights} cannot be loaded: {error}"
            raise MissingError(found, expected="config, tokenizer and safetensors") from error
        return model.requires_grad_(False).eval(), tokenizer


def find_text_encoder(folder: Path | None, file: OfficialFile, generation: str, states: tuple[int, int]) -> GemmaFolder:
    """Check that a folder holds the language model of a file. Reads its config only.

    Args:
        folder: of the model, with its tokenizer beside it (or both in ``text_encoder`` and ``tokenizer`` within).
        states: (width, number) of the hidden states that the file's connectors read.

    Raises:
        MissingError: no folder, or no config in it.
        BadInputError: another model than the connectors were trained with.
    """
    wanted = WANTED[generation]
    if folder is None:
        raise MissingError(
            f"{file.path} holds no text encoder", expected=f"a folder of {wanted}", remedy="--text-encoder FOLDER"
        )
    inner = folder / "text_encoder"
    weights, words = (inner, folder / "tokenizer") if inner.is_dir() else (folder, folder)
    config = _config(weights, wanted)
    kind = _check_version(weights, config, file, generation)
    text = config.get("text_config", config)
    found = (text.get("hidden_size"), (text.get("num_hidden_layers") or 0) + 1)
    if found != states:
        raise BadInputError(
            f"text encoder {weights} gives {found[1]} states of width {found[0]}",
            expected=f"{states[1]} of width {states[0]}, which the connectors of {file.path.name} read ({wanted})",
        )
    return GemmaFolder(weights, words, kind)


def _config(folder: Path, wanted: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise MissingError(f"text encoder {folder} has no config.json", expected=f"a folder of {wanted}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON ({error})", expected="the config of a language model") from error


def _check_version(folder: Path, config: dict[str, Any], file: OfficialFile, generation: str) -> str:
    """The model's class, once it is of the family and the version that the file was made with."""
    kind, wanted = str(config.get("model_type", "")), WANTED[generation]
    family = "gemma4" if generation == "2.5" else "gemma3"
    if kind not in CLASSES or not kind.startswith(family):
        raise BadInputError(
            f"text encoder {folder} is {kind or 'of no named kind'}", expected=f"{wanted}, for LTX-{generation}"
        )
    said = config.get("gemma_version") or _version_in_weights(folder)
    # Stock Gemma 3 carries no version; the fine-tuned Gemma 4 of LTX-2.5 does, and no other will do.
    if file.gemma and said != file.gemma and (said or family == "gemma4"):
        raise BadInputError(
            f"text encoder {folder} says that it is {said or 'no version of its own'}",
            expected=f"{file.gemma}, which {file.path.name} was trained with",
            remedy="the text encoder that is published with this checkpoint",
        )
    return CLASSES[kind]


def _version_in_weights(folder: Path) -> str:
    """Official text encoders carry their version in the metadata of their weights."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {}).get("gemma_config", "{}"))
        except (SafetensorError, OSError, ValueError):
            continue
        if said.get("gemma_version"):
            return str(said["gemma_version"])
    return ""
