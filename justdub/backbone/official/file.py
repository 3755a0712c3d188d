"""One official checkpoint file: what its header says, its parts, and how a part gets into a module without a copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from justdub.errors import BadInputError

TRANSFORMER = "model.diffusion_model."
# Beginnings of the keys of each part; the first that fits counts (the connectors lie inside the transformer).
PARTS = {
    "connectors": (
        "text_embedding_projection.",
        "connectors.",
        *(f"{TRANSFORMER}{name}_embeddings_connector." for name in ("video", "audio")),
    ),
    "transformer": (TRANSFORMER,),
    "vae": ("vae.",),
    "audio_vae": ("audio_vae.",),
    "vocoder": ("vocoder.",),
}
PLAIN_TYPES = ("F64", "F32", "F16", "BF16")
SCALES = (".weight_scale", ".weight_scale_2", ".input_scale", ".scale_weight", ".scale_input", ".comfy_quant")
NAMED = 3  # keys that an error lists


@dataclass(frozen=True)
class OfficialFile:
    """A file whose header has been read.

    Attributes:
        config: the JSON in its metadata, one section for each part.
        version: of the model, e.g. "2.3.0"; empty when the file does not say.
        gemma: version of the language model that its connectors were trained with; empty when it does not say.
        shapes: of every tensor, by key.
    """

    path: Path
    config: dict[str, Any]
    version: str
    gemma: str
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def open(cls, path: str | Path) -> OfficialFile:
        """Read the header of a file.

        Raises:
            BadInputError: damaged, without a config, or with weights in a quantised form.
        """
        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
                types = {key: one.get_dtype() for key, one in slices.items()}
                shapes = {key: tuple(one.get_shape()) for key, one in slices.items()}
        except (SafetensorError, OSError) as error:
            raise BadInputError(
                f"{path} cannot be read: {error}", expected="a whole safetensors file", remedy="download it again"
            ) from error
        _refuse_quantised(path, types)
        config = _json(path, metadata, "config")
        gemma = _json(path, metadata, "gemma_source_checkpoint").get("gemma_version", "")
        if "transformer" not in config:
            raise BadInputError(
                f"{path} has no transformer config in its metadata",
                expected="an official LTX-2 file",
                remedy="the file as it was published (tools that save it again often drop its metadata)",
            )
        return cls(path, config, str(metadata.get("model_version", "")), str(gemma), shapes)

    def section(self, name: str) -> dict[str, Any]:
        """The config of one part.

        Raises:
            BadInputError: the file has none.
        """
        found = self.config.get(name)
        if not isinstance(found, dict):
            raise BadInputError(
                f"{self.path} has no {name} config in its metadata",
                expected="one official file with all parts, or a folder in diffusers layout",
            )
        return found

    def keys(self, part: str) -> tuple[str, ...]:
        """The keys of one of `PARTS`."""
        return tuple(key for key in self.shapes if _part_of(key) == part)

    def has(self, text: str) -> bool:
        """Whether `text` stands in any key."""
        return any(text in key for key in self.shapes)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of one tensor.

        Raises:
            BadInputError: there is no such tensor.
        """
        if key not in self.shapes:
            raise BadInputError(f"{self.path} has no {key}", expected="a complete official LTX-2 file")
        return self.shapes[key]

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """The tensors of one part; in the file's memory map where they have `dtype` already."""
        with safe_open(self.path, framework="pt") as file:
            return {key: file.get_tensor(key).to(dtype) for key in self.keys(part)}

    def check_complete(self) -> None:
        """Raise `BadInputError` unless every part is there and every key belongs to one."""
        absent = [part for part in PARTS if not self.keys(part)]
        if absent:
            raise BadInputError(
                f"{self.path} holds no {', no '.join(absent)}",
                expected=f"one official file with {', '.join(PARTS)}",
                remedy="the checkpoint file of the release, or its folder in diffusers layout (LTX-2.5's pack of "
                "several files is not read)",
            )
        strangers = [key for key in self.shapes if _part_of(key) is None]
        if strangers:
            raise BadInputError(
                f"{self.path}: {len(strangers)} keys belong to no part ({_some(strangers)})",
                expected="the keys of an official LTX-2 file",
            )


def empty(build: Callable[..., torch.nn.Module], **arguments: Any) -> Any:
    """A module whose parameters take no memory yet; buffers that no file holds have their values."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return build(**arguments)


def fill(module: torch.nn.Module, state: Mapping[str, Tensor], what: str, path: Path) -> Any:
    """Give a module its tensors, the very ones in `state`; frozen, in evaluation mode.

    Raises:
        BadInputError: a key too many, one missing, or another shape.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    missing, unknown = sorted(shapes.keys() - state.keys()), sorted(state.keys() - shapes.keys())
    other = sorted(key for key in shapes.keys() & state.keys() if shapes[key] != tuple(state[key].shape))
    if missing or unknown or other:
        raise BadInputError(
            f"{path}: the {what} has {len(missing)} keys missing, {len(unknown)} unknown and {len(other)} of another "
            f"shape ({_some([*missing, *unknown, *other])})",
            expected=f"the keys that its config describes, {len(shapes)} in all",
        )
    module.load_state_dict(state, assign=True)
    return module.requires_grad_(False).eval()


def _part_of(key: str) -> str | None:
    return next((part for part, prefixes in PARTS.items() if key.startswith(prefixes)), None)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _refuse_quantised(path: Path, types: Mapping[str, str]) -> None:
    quantised = [key for key, kind in types.items() if kind not in PLAIN_TYPES or key.endswith(SCALES)]
    if quantised:
        found = ", ".join(sorted({types[key] for key in quantised}))
        raise BadInputError(
            f"{path} holds quantised weights: {len(quantised)} tensors such as {quantised[0]} ({found})",
            expected="bfloat16 or float32 weights; their scales would be lost here",
            remedy="the bf16 file of the same release",
        )


def _json(path: Path, metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """A JSON object in the metadata, empty when there is none."""
    try:
        found = json.loads(metadata.get(name, "{}"))
    except ValueError as error:
        raise BadInputError(f"{path}: {name} in its metadata is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise BadInputError(f"{path}: {name} in its metadata is no JSON object", expected="an official LTX-2 file")
    return found
