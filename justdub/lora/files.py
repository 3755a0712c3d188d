"""Adapter files: read one safely, know what it says about itself, put it on a transformer.

A file is safetensors. Keys name a linear module of the transformer and one of its two factors, under the prefix of
whoever wrote it: ``diffusion_model.`` (ComfyUI, JUST-DUB-IT), ``transformer.`` (diffusers), ``base_model.model.``
(peft). Every key must land on a module of the right width, or loading fails: an adapter that does nothing never loads
quietly.

Letters: r rank, I input width, O output width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from justdub.errors import BadInputError, MissingError
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules

_PREFIX = re.compile(r"^(?:base_model\.model\.|diffusion_model\.|transformer\.)+")
_FACTOR = re.compile(r"\.lora_(?P<factor>[AB])(?:\.[^.]+)?\.weight$")
# Modules outside the blocks have other names in the official layout (diffusers' own key table).
_OFFICIAL_MODULES = {"patchify_proj": "proj_in", "audio_patchify_proj": "audio_proj_in"}
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Factors:
    """Low-rank update of one linear module: ``W += down^T up^T``, i.e. B @ A, alpha already folded in."""

    down_rI: Tensor
    up_Or: Tensor

    @property
    def rank(self) -> int:
        return self.down_rI.shape[0]


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that has been read but not yet applied.

    Attributes:
        modules: diffusers module name -> factors.
        metadata: what the file says about itself.
        header: all strings of its header, other tools' included.
    """

    path: Path
    modules: dict[str, Factors]
    metadata: AdapterMetadata
    header: dict[str, str]

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
    """Read an adapter without trusting it.

    Raises:
        MissingError: no such file.
        BadInputError: a pickle, not safetensors, no LoRA keys, or factors that do not pair up.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise MissingError(f"adapter {path} {what}", expected="a .safetensors file")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(_PICKLE_MAGIC):
        raise BadInputError(
            f"adapter {path} is a pickle, which could run code when opened",
            expected="safetensors",
            remedy="ask its maker for a .safetensors file, or convert it with torch.load(..., weights_only=True)",
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"adapter {path} cannot be read: {error}", expected="a safetensors file") from error
    return AdapterFile(path, _pair(path, tensors), AdapterMetadata.from_strings(path, header), header)


def _pair(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Factors]:
    halves: dict[str, dict[str, Tensor]] = {}
    strangers = []
    for key, tensor in tensors.items():
        match = _FACTOR.search(key)
        if match is None or tensor.ndim != 2:
            strangers.append(key)
            continue
        module = _PREFIX.sub("", key[: match.start()])
        halves.setdefault(_OFFICIAL_MODULES.get(module, module), {})[match["factor"]] = tensor
    if strangers or not halves:
        found = f"{len(strangers)} keys that are no LoRA factors ({strangers[0]})" if strangers else "no keys at all"
        raise BadInputError(
            f"adapter {path} has {found}", expected="keys that end in .lora_A.weight and .lora_B.weight"
        )
    for module, pair in halves.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise BadInputError(f"adapter {path}: the factors of {module} do not pair up", remedy="get the file again")
    return {module: Factors(pair["A"], pair["B"]) for module, pair in halves.items()}


def write(
    path: str | Path,
    modules: Mapping[str, Factors],
    metadata: AdapterMetadata,
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write an adapter with ComfyUI keys and what this program needs to run it. Atomic.

    Args:
        modules: diffusers module name -> factors with their alpha folded in.
        dtype: of the stored factors.
    """
    from safetensors.torch import save_file

    path = Path(path)
    tensors = {}
    for module, factors in modules.items():
        tensors[f"diffusion_model.{module}.lora_A.weight"] = factors.down_rI.to(dtype, copy=True).contiguous()
        tensors[f"diffusion_model.{module}.lora_B.weight"] = factors.up_Or.to(dtype, copy=True).contiguous()
    header = metadata.to_strings()
    if metadata.rules is not None:
        header["reference_downscale_factor"] = str(metadata.rules.reference_downscale)
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, temporary, metadata=header)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def apply(transformer: Any, adapter: AdapterFile, name: str) -> None:
    """Inject an adapter into an `LTX2VideoTransformer3DModel` under `name`, frozen, in the base's dtype.

    Every module must exist and have the adapter's widths; nothing is injected otherwise.

    Raises:
        BadInputError: no module matches, some do not, or a width differs (another base model).
    """
    from peft import LoraConfig, set_peft_model_state_dict

    _check_fit(transformer, adapter)
    ranks = {module: factors.rank for module, factors in adapter.modules.items()}
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.rank,  # factors carry their alpha: scale 1
        target_modules=sorted(ranks),
        rank_pattern={m: r for m, r in ranks.items() if r != adapter.rank},
        alpha_pattern={m: r for m, r in ranks.items() if r != adapter.rank},
        bias="none",
    )
    transformer.add_adapter(config, adapter_name=name)
    state = {}
    for module, factors in adapter.modules.items():
        # Copies: injected parameters would otherwise alias the caller's tensors, and a later swap writes in place.
        state[f"{module}.lora_A.weight"] = factors.down_rI.to(transformer.dtype, copy=True)
        state[f"{module}.lora_B.weight"] = factors.up_Or.to(transformer.dtype, copy=True)
    outcome = set_peft_model_state_dict(transformer, state, adapter_name=name)
    if outcome is not None and outcome.unexpected_keys:
        raise BadInputError(f"adapter {adapter.path}: {len(outcome.unexpected_keys)} keys were not used")
    set_strengths(transformer, {name: 1.0})


def set_strengths(transformer: Any, strengths: Mapping[str, float]) -> None:
    """Make exactly these adapters active, each at its strength, frozen (peft would set them to train)."""
    transformer.set_adapters(list(strengths), list(strengths.values()))
    for parameter_name, parameter in transformer.named_parameters():
        if ".lora_" in parameter_name:
            parameter.requires_grad_(False)
            parameter.data = parameter.data.to(transformer.device)


def _check_fit(transformer: Any, adapter: AdapterFile) -> None:
    linear = {}
    for name, module in transformer.named_modules():
        base = getattr(module, "base_layer", module)
        if isinstance(base, torch.nn.Linear):
            linear[name.removesuffix(".base_layer")] = base
    absent = [module for module in adapter.modules if module not in linear]
    if absent:
        raise BadInputError(
            f"adapter {adapter.path}: {len(absent)} of {len(adapter.modules)} modules are not in this backbone "
            f"({absent[0]})",
            expected="an adapter of the same model family and depth",
            remedy="the --backbone that it was trained on",
        )
    for module, factors in adapter.modules.items():
        base = linear[module]
        found = (factors.down_rI.shape[1], factors.up_Or.shape[0])
        if found != (base.in_features, base.out_features):
            raise BadInputError(
                f"adapter {adapter.path} was made for another width: {module} is {found[0]} to {found[1]}",
                expected=f"{base.in_features} to {base.out_features}",
                remedy="the --backbone that it was trained on",
            )
