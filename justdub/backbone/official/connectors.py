"""The text connectors of an official file: from the language model's states to the context of each stream.

Their width and depth are read from the shapes; the config adds what shapes do not show (heads, positions).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from diffusers.pipelines.ltx2 import LTX2TextConnectors

from justdub.backbone.official.file import TRANSFORMER, OfficialFile, empty, fill
from justdub.errors import BadInputError

PROJECTION = "text_embedding_projection."
STREAMS = ("video", "audio")
# Official name -> diffusers' name of a part of a key.
NAMES = {
    f"{PROJECTION}aggregate_embed.": "text_proj_in.",
    f"{PROJECTION}video_aggregate_embed.": "video_text_proj_in.",
    f"{PROJECTION}audio_aggregate_embed.": "audio_text_proj_in.",
    "video_embeddings_connector.": "video_connector.",
    "audio_embeddings_connector.": "audio_connector.",
    ".transformer_1d_blocks.": ".transformer_blocks.",
    ".q_norm.": ".norm_q.",
    ".k_norm.": ".norm_k.",
}


def connector_arguments(file: OfficialFile) -> dict[str, Any]:
    """Arguments of `LTX2TextConnectors` for a file.

    LTX-2.0 projects all states of the language model to its own width, the same for both streams; from 2.3 on each
    stream has its projection, to its own width.

    Raises:
        BadInputError: no projection, or one that does not fit the language model's width.
    """
    config, shapes = file.section("transformer"), _diffusers_shapes(file)
    width = int(config.get("caption_channels", 3840))
    split = "video_text_proj_in.weight" in shapes
    projection = "video_text_proj_in" if split else "text_proj_in"
    if f"{projection}.weight" not in shapes:
        raise BadInputError(f"{file.path} has no {PROJECTION}", expected="a complete official LTX-2 file")
    states = shapes[f"{projection}.weight"][1]
    if states % width:
        raise BadInputError(
            f"{file.path}: {PROJECTION} reads {states} values, which is no multiple of caption_channels {width}",
            expected="one state of the language model for each of its layers",
        )
    arguments: dict[str, Any] = {
        "caption_channels": width,
        "text_proj_in_factor": states // width,
        "connector_rope_base_seq_len": config.get("connector_positional_embedding_max_pos", [4096])[0],
        "rope_theta": config.get("positional_embedding_theta", 10000.0),
        "rope_double_precision": config.get("frequencies_precision", "float64") == "float64",
        "rope_type": config.get("rope_type", "split"),
        "per_modality_projections": split,
        "proj_bias": f"{projection}.bias" in shapes,
    }
    if split:
        arguments |= {f"{name}_hidden_dim": shapes[f"{name}_text_proj_in.weight"][0] for name in STREAMS}
    head_dims = {"video": config.get("connector_attention_head_dim", 128)}
    head_dims["audio"] = config.get("audio_connector_attention_head_dim", head_dims["video"])
    for name in STREAMS:
        arguments |= _stream(file, shapes, name, head_dims[name])
    return arguments


def read_connectors(file: OfficialFile, dtype: torch.dtype) -> LTX2TextConnectors:
    """The connectors of an open file."""
    model = empty(LTX2TextConnectors, **connector_arguments(file))
    state = {_diffusers_name(key): tensor for key, tensor in file.tensors("connectors", dtype).items()}
    return fill(model, state, "text connectors", file.path)


def _diffusers_name(key: str) -> str:
    key = key.removeprefix(TRANSFORMER).removeprefix("connectors.")
    for theirs, ours in NAMES.items():
        key = key.replace(theirs, ours)
    return key


def _diffusers_shapes(file: OfficialFile) -> dict[str, tuple[int, ...]]:
    return {_diffusers_name(key): file.shapes[key] for key in file.keys("connectors")}


def _stream(file: OfficialFile, shapes: dict[str, tuple[int, ...]], name: str, head_dim: int) -> dict[str, Any]:
    """Arguments of one stream's connector."""
    block = re.compile(rf"{name}_connector\.transformer_blocks\.(\d+)\.")
    layers = {int(found[1]) for found in map(block.match, shapes) if found}
    registers = shapes.get(f"{name}_connector.learnable_registers")
    query = shapes.get(f"{name}_connector.transformer_blocks.0.attn1.to_q.weight")
    if query is None:
        raise BadInputError(f"{file.path} has no {name} text connector", expected="a complete official LTX-2 file")
    found = {
        "num_attention_heads": query[0] // head_dim,
        "attention_head_dim": head_dim,
        "num_layers": len(layers),
        "num_learnable_registers": None if registers is None else registers[0],
    }
    gated = f"{name}_connector.transformer_blocks.0.attn1.to_gate_logits.weight" in shapes
    return {f"{name}_connector_{key}": value for key, value in found.items()} | {f"{name}_gated_attn": gated}
