"""The four worlds of adapter files: how each names a module and its factors, and where it keeps alpha.

    world       key of one factor                                                   alpha
    comfyui     diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight      none: folded into B
    diffusers   transformer.transformer_blocks.0.attn1.to_q.lora_A.weight          header, lora_adapter_metadata
    peft        base_model.model.transformer_blocks.0.attn1.to_q.lora_A.weight     adapter_config.json in a folder
    kohya       lora_unet_transformer_blocks_0_attn1_to_q.lora_down.weight         a tensor KEY.alpha

comfyui and kohya use the official names of modules, diffusers and peft those of diffusers (they differ outside the
blocks). Readers of the first world ignore alpha, so what is written always has it folded in, and where a world has a
place for alpha it says "alpha = rank", i.e. scale 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from justdub.errors import BadInputError
from justdub.lora.factors import Factors, fold

World = Literal["comfyui", "diffusers", "peft", "kohya"]
WORLDS: tuple[World, ...] = ("comfyui", "diffusers", "peft", "kohya")
DIFFUSERS_HEADER = "lora_adapter_metadata"

# First part of a module's name: official -> diffusers. Everything else is the same in both.
_OFFICIAL_HEADS = {
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
}
_DIFFUSERS_HEADS = {ours: theirs for theirs, ours in _OFFICIAL_HEADS.items()}
_PREFIXES: dict[str, World] = {"base_model.model.": "peft", "diffusion_model.": "comfyui", "transformer.": "diffusers"}
_PREFIX = re.compile(r"^(?:base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.)+")
_FLAT_PREFIX = "lora_unet_"
_FACTOR = re.compile(r"\.(?:lora_(?P<new>[AB])(?:\.[^.]+)?|lora_(?P<old>down|up))\.weight$")
# Parts of keys of other methods, and their names: refused by name, since half of them would load as nonsense.
_OTHER_METHODS = {
    ".lora_magnitude_vector": "DoRA",
    ".dora_scale": "DoRA",
    ".hada_w": "LoHa",
    ".lokr_w": "LoKr",
    ".oft_": "OFT",
    ".boft_": "BOFT",
    ".vera_lambda": "VeRA",
    ".lora_mid.": "LoCon with a Tucker core",
    ".lora_embedding_": "LoRA of embeddings",
    ".lora_B.bias": "LoRA with biases",
    ".ia3_": "IA3",
    ".diff": "full differences of weights",
}
# Fields of a peft config that change what the factors mean, with the value that leaves them a plain LoRA.
_PLAIN = {
    "bias": "none",
    "use_dora": False,
    "lora_bias": False,
    "modules_to_save": None,
    "layer_replication": None,
    "use_qalora": False,
    "alora_invocation_tokens": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "arrow_config": None,
    "kasa_config": None,
    "velora_config": None,
    "monteclora_config": None,
}
# Initialisations that also change the base weights: their factors are wrong on the base as it was released.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


# -- names of modules --------------------------------------------------------------------------------------------------


def from_official(module: str) -> str:
    """``patchify_proj`` -> ``proj_in``; names that are the same in both worlds stay."""
    head, dot, tail = module.partition(".")
    return _OFFICIAL_HEADS.get(head, head) + dot + tail


def to_official(module: str) -> str:
    head, dot, tail = module.partition(".")
    return _DIFFUSERS_HEADS.get(head, head) + dot + tail


@cache
def _flat_names() -> dict[str, str]:
    """Flattened name (block number 0) -> diffusers name of every linear module of the family, official or not."""
    from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

    switches = ("gated_attn", "audio_gated_attn", "cross_attn_mod", "audio_cross_attn_mod")
    with torch.device("meta"):
        model = LTX2VideoTransformer3DModel(num_layers=1, **dict.fromkeys(switches, True))
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return {f(name).replace(".", "_"): name for name in names for f in (str, to_official)}


def _unflatten(path: Path, flat: str) -> str:
    block = re.match(r"transformer_blocks_(\d+)_", flat)
    key = re.sub(r"^transformer_blocks_\d+_", "transformer_blocks_0_", flat)
    if key not in _flat_names():
        raise BadInputError(
            f"adapter {path}: {_FLAT_PREFIX}{flat} names no linear module of LTX-2", expected="an adapter for LTX-2"
        )
    name = _flat_names()[key]
    return name.replace("transformer_blocks.0.", f"transformer_blocks.{block[1]}.", 1) if block else name


# -- reading -----------------------------------------------------------------------------------------------------------


def world_of(keys: Mapping[str, Any]) -> World | Literal[""]:
    """Whose naming the keys of a file follow; empty when they have no prefix at all."""
    key = next(iter(keys), "")
    if key.startswith(_FLAT_PREFIX) or ".lora_down." in key or ".lora_up." in key or key.endswith(".alpha"):
        return "kohya"
    return next((world for prefix, world in _PREFIXES.items() if key.startswith(prefix)), "")


def parse(path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> dict[str, Factors]:
    """Keys of any world -> diffusers module name -> factors with their alpha folded in.

    Args:
        config: fields of a peft LoraConfig, where the file came with one.

    Raises:
        BadInputError: another method than LoRA, no LoRA keys, factors that do not pair up, or an alpha for nothing.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    strangers = []
    for key, tensor in tensors.items():
        if key.endswith(".alpha") and tensor.numel() == 1:
            alphas[_module(path, key.removesuffix(".alpha"))] = tensor.item()
        elif (match := _FACTOR.search(key)) and tensor.ndim == 2:
            factor = match["new"] or {"down": "A", "up": "B"}[match["old"]]
            halves.setdefault(_module(path, key[: match.start()]), {})[factor] = tensor
        else:
            strangers.append(key)
    _refuse(path, strangers, bool(halves))
    for module, pair in halves.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1] or not pair["A"].shape[0]:
            raise BadInputError(f"adapter {path}: the factors of {module} do not pair up", remedy="get the file again")
    if lost := sorted(set(alphas) - set(halves)):
        raise BadInputError(f"adapter {path}: an alpha but no factors for {lost[0]}", remedy="get the file again")
    modules = {module: Factors(pair["A"], pair["B"]) for module, pair in halves.items()}
    scales = {module: alpha / modules[module].rank for module, alpha in alphas.items()}
    if config is not None and not alphas:
        scales = {module: _config_scale(path, config, module, factors.rank) for module, factors in modules.items()}
    if bad := [module for module, scale in scales.items() if not math.isfinite(scale)]:
        raise BadInputError(f"adapter {path}: the alpha of {bad[0]} is not a finite number")
    return {module: fold(factors, scales.get(module, 1.0)) for module, factors in modules.items()}


def _module(path: Path, stem: str) -> str:
    if stem.startswith(_FLAT_PREFIX):
        return _unflatten(path, stem.removeprefix(_FLAT_PREFIX))
    return from_official(_PREFIX.sub("", stem))


def _refuse(path: Path, strangers: list[str], some: bool) -> None:
    for key in strangers:
        for part, method in _OTHER_METHODS.items():
            if part in key:
                raise BadInputError(
                    f"adapter {path} is {method} ({key})",
                    expected="a plain LoRA",
                    remedy="extract a LoRA with the tool that trained it",
                )
    if strangers or not some:
        found = f"{len(strangers)} keys that are no LoRA factors ({strangers[0]})" if strangers else "no keys at all"
        raise BadInputError(
            f"adapter {path} has {found}", expected="keys that end in .lora_A.weight and .lora_B.weight"
        )


def read_config(path: Path, text: str) -> dict[str, Any]:
    """The fields of a peft config, of ``adapter_config.json`` or of diffusers' header (prefix ``transformer.``).

    Raises:
        BadInputError: not JSON, or of a method that is more than a plain LoRA.
    """
    try:
        raw = json.loads(text)
        config = {key.removeprefix("transformer."): value for key, value in raw.items()}
    except (ValueError, AttributeError) as error:
        raise BadInputError(f"adapter {path}: its config is not a JSON object ({error})") from error
    method = str(config.get("peft_type", "LORA"))
    if method != "LORA":
        raise BadInputError(f"adapter {path} is {method}", expected="LORA")
    for name, plain in _PLAIN.items():
        if config.get(name, plain) not in (plain, None, [], {}):
            raise BadInputError(
                f"adapter {path} is more than a plain LoRA: its config has {name} = {config[name]!r}",
                expected=f"{name} = {plain!r}",
            )
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGED_BASE):
        raise BadInputError(
            f"adapter {path} was started by {start}, which changes the base's weights too",
            expected="a plain LoRA",
            remedy="save it with peft's path_initial_model_for_weight_conversion",
        )
    return config


def _config_scale(path: Path, config: Mapping[str, Any], module: str, rank: int) -> float:
    from peft.utils.other import get_pattern_key

    try:
        ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
        said = int(ranks.get(get_pattern_key(ranks, module), config.get("r", rank)))
        alpha = float(alphas.get(get_pattern_key(alphas, module), config.get("lora_alpha", said)))
    except (re.error, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(f"adapter {path}: its config makes no sense ({error})") from error
    if said != rank:
        raise BadInputError(
            f"adapter {path}: {module} has rank {rank}, its config says {said}", remedy="the config that came with it"
        )
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


# -- writing -----------------------------------------------------------------------------------------------------------


def encode(modules: Mapping[str, Factors], world: World, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Tensors of a file of that world. `dtype` None keeps each factor's own."""
    tensors: dict[str, Tensor] = {}
    for module, factors in modules.items():
        down_rI, up_Or = (t.detach().to("cpu", dtype, copy=True).contiguous() for t in (factors.down_rI, factors.up_Or))
        if world == "kohya":
            stem = _FLAT_PREFIX + to_official(module).replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": down_rI, f"{stem}.lora_up.weight": up_Or}
            tensors[f"{stem}.alpha"] = torch.tensor(float(factors.rank))
            continue
        prefix = next(prefix for prefix, owner in _PREFIXES.items() if owner == world)
        stem = prefix + (to_official(module) if world == "comfyui" else module)
        tensors |= {f"{stem}.lora_A.weight": down_rI, f"{stem}.lora_B.weight": up_Or}
    return tensors


def peft_config(modules: Mapping[str, Factors], base: str = "") -> Any:
    """A `peft.LoraConfig` under which these factors have scale 1, whatever their ranks."""
    from peft import LoraConfig

    ranks = {module: factors.rank for module, factors in modules.items()}
    common = max(ranks.values())
    # Patterns are regular expressions that may match the end of a name: anchored and escaped, a name is itself alone.
    others = {f"^{re.escape(module)}": rank for module, rank in ranks.items() if rank != common}
    return LoraConfig(
        r=common,
        lora_alpha=common,
        target_modules=sorted(ranks),
        rank_pattern=others,
        alpha_pattern=dict(others),
        bias="none",
        base_model_name_or_path=base or None,
        inference_mode=True,
    )


def world_header(modules: Mapping[str, Factors], world: World) -> dict[str, str]:
    """Strings that readers of that world look for in a file's header."""
    if world == "diffusers":
        config = {
            key: sorted(value) if isinstance(value, set) else value
            for key, value in peft_config(modules).to_dict().items()
            if key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_dora", "lora_bias")
        }
        return {DIFFUSERS_HEADER: json.dumps({f"transformer.{key}": value for key, value in config.items()})}
    if world == "kohya":
        rank = str(max(factors.rank for factors in modules.values()))
        return {"ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank}
    return {}
