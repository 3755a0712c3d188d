"""The official LTX-2 single-file layout: its config and its keys, read into diffusers' transformer.

The file is one safetensors whose metadata holds a `config` JSON and whose transformer keys start with
``model.diffusion_model.``. The key table is diffusers' own converter; here the config is read too, so that no hub
lookup is needed, and every key must match.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ltx2_transformer_to_diffusers
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from safetensors import SafetensorError, safe_open

from justdub.errors import BadInputError

PREFIX = "model.diffusion_model."
# Official config name -> diffusers' argument; the same names are passed on as they are.
SAME = (
    "num_attention_heads",
    "attention_head_dim",
    "in_channels",
    "out_channels",
    "num_layers",
    "cross_attention_dim",
    "caption_channels",
    "audio_num_attention_heads",
    "audio_attention_head_dim",
    "audio_in_channels",
    "audio_out_channels",
    "audio_cross_attention_dim",
    "rope_type",
    "attention_bias",
    "norm_elementwise_affine",
    "timestep_scale_multiplier",
)
RENAMED = {"av_ca_timestep_scale_multiplier": "cross_attn_timestep_scale_multiplier"}


def transformer_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `LTX2VideoTransformer3DModel` for an official transformer config."""
    arguments = {name: config[name] for name in SAME if name in config}
    arguments |= {ours: config[theirs] for theirs, ours in RENAMED.items() if theirs in config}
    arguments["rope_double_precision"] = config.get("frequencies_precision", "float64") == "float64"
    # The released files leave these out and mean the values of the code that wrote them.
    arguments.setdefault("rope_type", "split")
    return arguments


def load_transformer(path: str | Path, *, dtype: torch.dtype = torch.float32) -> LTX2VideoTransformer3DModel:
    """Read the transformer of an official single file. Every key of the file's transformer must be used.

    Raises:
        BadInputError: not safetensors, no config, or keys that do not fit.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).to(dtype) for key in file.keys() if key.startswith(PREFIX)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"{path} cannot be read: {error}", expected="a safetensors file") from error
    if "config" not in metadata or "transformer" not in (config := json.loads(metadata["config"])):
        raise BadInputError(f"{path} has no transformer config in its metadata", expected="an official LTX-2 file")
    with torch.device("meta"):
        model = LTX2VideoTransformer3DModel(**transformer_arguments(config["transformer"]))
    converted = convert_ltx2_transformer_to_diffusers(state)
    missing, unexpected = model.load_state_dict(converted, strict=False, assign=True)
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:4])
        raise BadInputError(
            f"{path}: {len(missing)} keys missing and {len(unexpected)} unknown ({names}, ...)",
            expected="the keys of an LTX-2 transformer",
        )
    return model.requires_grad_(False).eval()
