"""Adapter files: read one safely, know what it says about itself, write one, put it on a transformer.

A file is safetensors (or a peft folder), with the keys of any of the worlds in `formats.py`. Every key must land on a
module of the right width, or loading fails: an adapter that does nothing never loads quietly.

Letters: r rank, I input width, O output width.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from justdub.errors import BadInputError, MissingError, UsageError
from justdub.lora import formats
from justdub.lora.config import group
from justdub.lora.factors import Factors
from justdub.lora.formats import DIFFUSERS_HEADER, World
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.reference import Strength
from justdub.lora.shelf import PEFT_CONFIG, PEFT_WEIGHTS
from justdub.sequence import SequenceRules

__all__ = ["AdapterFile", "Factors", "apply", "check_base", "generation_of", "read", "set_strengths", "write"]

DOWNSCALE_KEY = "reference_downscale_factor"  # the one property of an IC-LoRA that other tools read from a header
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that has been read but not yet applied.

    Attributes:
        path: of the file that holds the factors.
        modules: diffusers module name -> factors.
        metadata: what the file says about itself.
        header: all strings of its header, other tools' included.
        world: whose naming it follows, empty for names without a prefix.
    """

    path: Path
    modules: dict[str, Factors]
    metadata: AdapterMetadata
    header: dict[str, str]
    world: World | Literal[""] = ""

    @property
    def rules(self) -> SequenceRules | None:
        return self.metadata.rules

    @property
    def languages(self) -> tuple[str, ...]:
        return self.metadata.languages

    @property
    def rank(self) -> int:
        return max(f.rank for f in self.modules.values())


def read(path: str | Path) -> AdapterFile:
    """Read an adapter, a file or a peft folder, without trusting it.

    Raises:
        MissingError: no such file.
        BadInputError: a pickle, not safetensors, another method than LoRA, or factors that do not pair up.
    """
    path = Path(path)
    if (path / PEFT_CONFIG).is_file():
        path = path / PEFT_WEIGHTS
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise MissingError(f"adapter {path} {what}", expected="a .safetensors file, or a peft folder")
    header, tensors = _read_tensors(path)
    config = None
    if DIFFUSERS_HEADER in header:
        config = formats.read_config(path, header[DIFFUSERS_HEADER])
    elif path.name == PEFT_WEIGHTS and (beside := path.with_name(PEFT_CONFIG)).is_file():
        config = formats.read_config(beside, beside.read_text(encoding="utf-8"))
    modules = formats.parse(path, tensors, config)
    return AdapterFile(path, modules, AdapterMetadata.from_strings(path, header), header, formats.world_of(tensors))


def _read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with path.open("rb") as file:
        magic = file.read(9)
    # The first eight bytes of safetensors are a length, which may look like a pickle's beginning; then "{" follows.
    if magic.startswith(_PICKLE_MAGIC) and magic[8:] != b"{":
        raise BadInputError(
            f"adapter {path} is a pickle, which could run code when opened",
            expected="safetensors",
            remedy="ask its maker for a .safetensors file, or convert it with torch.load(..., weights_only=True)",
        )
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"adapter {path} cannot be read: {error}", expected="a safetensors file") from error


def write(
    path: str | Path,
    modules: Mapping[str, Factors],
    metadata: AdapterMetadata,
    *,
    dtype: torch.dtype | None = torch.bfloat16,
    world: World = "comfyui",
    header: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter with what this program needs to run it. Atomic.

    Args:
        path: a file, or for the world `peft` a folder that does not exist yet.
        modules: diffusers module name -> factors with their alpha folded in.
        dtype: of the stored factors; None keeps each factor's own.
        world: whose names and whose place for alpha (`formats.py`).
        header: further strings for the file's header.
    """
    from safetensors.torch import save_file

    path = Path(path)
    strings = dict(header or {}) | metadata.to_strings() | formats.world_header(modules, world)
    if metadata.rules is not None:
        strings[DOWNSCALE_KEY] = str(metadata.rules.reference_downscale)
    tensors = formats.encode(modules, world, dtype)
    temporary = path.with_name(f".{path.name}.part")
    if world == "peft" and path.exists():
        raise UsageError(f"{path} exists already", expected="the name of a new folder for the peft adapter")
    try:
        if world == "peft":
            formats.peft_config(modules, metadata.base).save_pretrained(temporary)
            save_file(tensors, temporary / PEFT_WEIGHTS, metadata={"format": "pt"} | strings)
        else:
            save_file(tensors, temporary, metadata=strings)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


# -- on a transformer --------------------------------------------------------------------------------------------------


def generation_of(config: Any) -> str:
    """Of a transformer's config: "2.3" with text modulation (LTX-2.3 and later), else "2.0"."""
    return "2.3" if config.cross_attn_mod or config.audio_cross_attn_mod else "2.0"


def check_base(adapter: AdapterFile, *, fingerprint: str, base: str, any_base: bool = False) -> str:
    """Whether the adapter was trained on these very weights, as far as its file says.

    Args:
        fingerprint, base: of the loaded backbone (`checkpoint.fingerprint`, the name in its card).
        any_base: let it pass.

    Returns:
        A notice for the user when another base was let through, else "".

    Raises:
        BadInputError: it was trained on another base.
    """
    said = adapter.metadata
    if not said.fingerprint or said.fingerprint == fingerprint:
        return ""
    theirs = f"{said.base or 'a backbone'} ({said.fingerprint})"
    if any_base:
        return (
            f"adapter {adapter.path.name} was trained on {theirs}, not on {base}: do not expect what its card promises"
        )
    raise BadInputError(
        f"adapter {adapter.path} was trained on {theirs}, not on {base} ({fingerprint})",
        expected="the backbone that it was trained on",
        remedy=f"--backbone with {said.base or 'that backbone'}, or --any-base if the weights only differ in a little",
    )


def apply(transformer: Any, adapter: AdapterFile, name: str) -> None:
    """Inject an adapter into an `LTX2VideoTransformer3DModel` under `name`, frozen, in the base's dtype, at strength 1.

    It becomes the only active adapter (`set_strengths` for several). Every module must exist and have the adapter's
    widths, and the generation must be the adapter's; nothing is injected otherwise.

    Raises:
        BadInputError: no module matches, some do not, a width differs, or the adapter is of another generation.
    """
    from peft import set_peft_model_state_dict

    check_fit(transformer, adapter)
    transformer.add_adapter(formats.peft_config(adapter.modules), adapter_name=name)
    state, dtype = {}, transformer.dtype  # the property goes through all parameters
    for module, factors in adapter.modules.items():
        # Copies: injected parameters would otherwise alias the caller's tensors, and a later swap writes in place.
        state[f"{module}.lora_A.weight"] = factors.down_rI.to(dtype, copy=True)
        state[f"{module}.lora_B.weight"] = factors.up_Or.to(dtype, copy=True)
    outcome = set_peft_model_state_dict(transformer, state, adapter_name=name)
    if outcome is not None and outcome.unexpected_keys:
        raise BadInputError(f"adapter {adapter.path}: {len(outcome.unexpected_keys)} keys were not used")
    set_strengths(transformer, {name: 1.0})


def set_strengths(transformer: Any, strengths: Mapping[str, float | Strength]) -> None:
    """Make exactly these adapters active, each at its strength per stream, frozen."""
    from peft.tuners.lora import LoraLayer

    loaded = getattr(transformer, "peft_config", {})
    if unknown := [name for name in strengths if name not in loaded]:
        raise UsageError(f"no adapter {unknown[0]!r} is loaded", expected=", ".join(loaded) or "an adapter")
    for module_name, layer in transformer.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        layer.set_adapter(list(strengths), inference_mode=True)
        # By exact names: diffusers compares substrings, and "video_to_audio_attn" ends in another module's name.
        stream = group(module_name)
        for name, strength in strengths.items():
            _set_scale(layer, name, Strength.of(strength).at(stream))
        for half in (layer.lora_A, layer.lora_B):
            half.to(layer.weight.device)


def _set_scale(layer: Any, name: str, strength: float) -> None:
    scale = layer.scaling.get(name)
    if isinstance(scale, Tensor):  # prepared for swaps: written in place, so that compiled code stays valid
        scale.fill_(strength)
    elif scale is not None:
        layer.set_scale(name, strength)


def check_fit(transformer: Any, adapter: AdapterFile) -> None:
    """Raise `BadInputError` unless every module of the adapter is in the transformer, as wide as it should be."""
    linear = {}
    for name, module in transformer.named_modules():
        base = getattr(module, "base_layer", module)
        if isinstance(base, torch.nn.Linear):
            linear[name.removesuffix(".base_layer")] = (base.in_features, base.out_features)
    check_widths(adapter, linear, generation_of(transformer.config))


def check_widths(adapter: AdapterFile, linear: Mapping[str, tuple[int, int]], generation: str) -> None:
    """`check_fit` for a table: name -> (input, output) widths of every linear module of the backbone."""
    remedy = "the --backbone that it was trained on"
    said = adapter.metadata.generation
    if said and said != generation:
        raise BadInputError(
            f"adapter {adapter.path} was trained on LTX-{said}, the backbone is of generation {generation}",
            expected="one generation: adapters do not carry over",
            remedy=remedy,
        )
    absent = [module for module in adapter.modules if module not in linear]
    if absent:
        raise BadInputError(
            f"adapter {adapter.path}: {len(absent)} of {len(adapter.modules)} modules are not in this backbone "
            f"({absent[0]})",
            expected="an adapter of the same model family and depth",
            remedy=remedy,
        )
    for module, factors in adapter.modules.items():
        if factors.widths != linear[module]:
            raise BadInputError(
                f"adapter {adapter.path} was made for another width: {module} is {factors.widths[0]} to "
                f"{factors.widths[1]}",
                expected="{} to {}".format(*linear[module]),
                remedy=remedy,
            )
