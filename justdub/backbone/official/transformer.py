"""The transformer of an official file: its config and its keys, read into diffusers' class.

The key table is diffusers' own converter; here the config is read too, so that no hub lookup is needed, and every key
must match.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ltx2_transformer_to_diffusers
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel

from justdub.backbone.official.file import TRANSFORMER, OfficialFile, empty, fill

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
    "norm_eps",
    "activation_fn",
    "timestep_scale_multiplier",
    "ff_bias",
    "audio_ff_bias",
    "use_prompt_adaln_single",
    "use_keyframes_abs_pos_embedding",
)
RENAMED = {
    "av_ca_timestep_scale_multiplier": "cross_attn_timestep_scale_multiplier",
    "positional_embedding_theta": "rope_theta",
}
# One switch of the official config is two of diffusers'.
BOTH_STREAMS = {
    "apply_gated_attention": ("gated_attn", "audio_gated_attn"),
    "cross_attention_adaln": ("cross_attn_mod", "audio_cross_attn_mod"),
}


def transformer_arguments(file: OfficialFile) -> dict[str, Any]:
    """Arguments of `LTX2VideoTransformer3DModel` for a file."""
    config = file.section("transformer")
    arguments = {name: config[name] for name in SAME if name in config}
    arguments |= {ours: config[theirs] for theirs, ours in RENAMED.items() if theirs in config}
    for theirs, ours in BOTH_STREAMS.items():
        arguments |= dict.fromkeys(ours, bool(config.get(theirs, False)))
    # Guidance's perturbation, which diffusers knows from 2.3 on; it adds no parameter.
    arguments["perturbed_attn"] = arguments["gated_attn"]
    arguments["rope_double_precision"] = config.get("frequencies_precision", "float64") == "float64"
    if "positional_embedding_max_pos" in config:
        seconds, height, width = config["positional_embedding_max_pos"]
        arguments |= {"pos_embed_max_pos": seconds, "base_height": height, "base_width": width}
    if "audio_positional_embedding_max_pos" in config:
        (arguments["audio_pos_embed_max_pos"],) = config["audio_positional_embedding_max_pos"]
    # The released files leave these out and mean the values of the code that wrote them.
    arguments.setdefault("rope_type", "split")
    arguments.setdefault("audio_in_channels", file.shape(f"{TRANSFORMER}audio_patchify_proj.weight")[1])
    # From 2.3 on the projection of captions is part of the connectors.
    arguments["use_prompt_embeddings"] = f"{TRANSFORMER}caption_projection.linear_1.weight" in file.shapes
    return arguments


def read_transformer(file: OfficialFile, dtype: torch.dtype, **geometry: Any) -> LTX2VideoTransformer3DModel:
    """The transformer of an open file; `geometry` are arguments that other parts of the file determine."""
    model = empty(LTX2VideoTransformer3DModel, **transformer_arguments(file), **geometry)
    converted = convert_ltx2_transformer_to_diffusers(file.tensors("transformer", dtype))
    # Text modulation came with 2.3, after the converter.
    state = {key.replace("prompt_adaln_single.", "prompt_adaln."): tensor for key, tensor in converted.items()}
    return fill(model, state, "transformer", file.path)


def load_transformer(path: str | Path, *, dtype: torch.dtype = torch.float32) -> LTX2VideoTransformer3DModel:
    """Read the transformer of an official single file, which may hold nothing else. Every key of it must be used.

    Raises:
        BadInputError: not safetensors, no config, quantised, or keys that do not fit.
    """
    return read_transformer(OfficialFile.open(path), dtype)
