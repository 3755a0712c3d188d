"""The weights of a checkpoint folder's transformer, one tensor at a time: nothing is built, nothing is loaded whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from safetensors import SafetensorError, safe_open
from torch import Tensor

from justdub.errors import BadInputError, MissingError

FOLDER = "transformer"


class TransformerWeights:
    """What lies in the safetensors files of ``FOLDER/transformer``.

    Attributes:
        files: the weight files, sorted.
        config: of the transformer, by attribute.
    """

    def __init__(self, folder: Path) -> None:
        """Raises:
        MissingError: no transformer, or one without safetensors.
        BadInputError: a damaged file.
        """
        self.files = sorted((folder / FOLDER).glob("*.safetensors"))
        config = folder / FOLDER / "config.json"
        if not self.files or not config.is_file():
            raise MissingError(f"{folder} has no transformer in safetensors", expected="a checkpoint folder")
        self.config = SimpleNamespace(**json.loads(config.read_text(encoding="utf-8")))
        self._places: dict[str, tuple[Path, tuple[int, ...]]] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    for key in file.keys():  # noqa: SIM118
                        self._places[key] = (path, tuple(file.get_slice(key).get_shape()))
            except SafetensorError as error:
                raise BadInputError(f"{path} is damaged: {error}", remedy="download it again") from error

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """(input, output) widths of every module with a matrix as its weight."""
        return {
            key.removesuffix(".weight"): (shape[1], shape[0])
            for key, (_, shape) in self._places.items()
            if key.endswith(".weight") and len(shape) == 2
        }

    def weight(self, module: str) -> Tensor:
        """(O, I), as stored."""
        key = f"{module}.weight"
        with safe_open(self._places[key][0], framework="pt") as file:
            return file.get_tensor(key)

    def shard(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        """Key and tensor of everything in one weight file."""
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                yield key, file.get_tensor(key)
