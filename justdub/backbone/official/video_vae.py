"""The video VAE of an official file. Its config lists the blocks of encoder and decoder.

diffusers groups a run of residual blocks with the resampling after it (encoder) or before it (decoder); the official
layout numbers them in one row::

    official    down_blocks.0   1      2   3      4 ...        up_blocks.0   1      2   3      4 ...
    diffusers   down_blocks.0   0.ds   1   1.ds   2 ...        mid_block     0.us   0   1.us   1 ...
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Video
from diffusers.loaders.single_file_utils import convert_ltx2_vae_to_diffusers
from torch import Tensor

from justdub.backbone.official.file import OfficialFile, empty, fill
from justdub.errors import BadInputError

CONVOLUTIONAL = "CausalVideoAutoencoder"
# Official name of a resampling block, less its "compress_" and "_res" -> diffusers' name.
RESAMPLING = {"space": "spatial", "time": "temporal", "all": "spatiotemporal"}
# The decoder of 2.3 has one stage more than diffusers' converter knows.
MORE_STAGES = {
    "decoder.up_blocks.7.": "decoder.up_blocks.3.upsamplers.0.",
    "decoder.up_blocks.8.": "decoder.up_blocks.3.",
}


def video_vae_arguments(file: OfficialFile) -> dict[str, Any]:
    """Arguments of `AutoencoderKLLTX2Video` for a file.

    Raises:
        BadInputError: a diffusion decoder, or blocks that the class does not have.
    """
    config = file.section("vae")
    kind = config.get("_class_name", CONVOLUTIONAL)
    if kind != CONVOLUTIONAL:
        raise BadInputError(
            f"{file.path} has a video VAE of class {kind}: the diffusion decoder is not supported here",
            expected=f"{CONVOLUTIONAL}, the convolutional one that is published beside it",
        )
    down_runs, down = _blocks(file, "encoder_blocks", config)
    up_runs, up = _blocks(file, "decoder_blocks", config)
    patch = int(config.get("patch_size", 4))
    padding = config.get("spatial_padding_mode")
    kinds = [RESAMPLING[name] for name, _ in down]
    return {
        "in_channels": config.get("in_channels", 3),
        "out_channels": config.get("out_channels", 3),
        "latent_channels": config["latent_channels"],
        "block_out_channels": _encoder_widths(config, down),
        "down_block_types": ("LTX2VideoDownBlock3D",) * len(down),
        "layers_per_block": tuple(layers for layers, _ in down_runs),
        "spatio_temporal_scaling": (True,) * len(down),
        "downsample_type": tuple(kinds),
        "decoder_block_out_channels": _decoder_widths(config, up),
        "decoder_layers_per_block": tuple(layers for layers, _ in up_runs),
        "decoder_spatio_temporal_scaling": (True,) * len(up),
        "decoder_inject_noise": tuple(noise for _, noise in up_runs),
        # The decoder runs its blocks from the last to the first; of its tuples diffusers reverses all but this one.
        "upsample_type": tuple(RESAMPLING[name] for name, _ in reversed(up)),
        "upsample_residual": tuple(bool(block.get("residual", False)) for _, block in up),
        "upsample_factor": tuple(int(block.get("multiplier", 1)) for _, block in up),
        "timestep_conditioning": bool(config.get("timestep_conditioning", False)),
        "patch_size": patch,
        "scaling_factor": config.get("scaling_factor", 1.0),
        "decoder_causal": bool(config.get("causal_decoder", False)),
        "encoder_spatial_padding_mode": config.get("encoder_spatial_padding_mode", padding or "zeros"),
        "decoder_spatial_padding_mode": config.get("decoder_spatial_padding_mode", padding or "reflect"),
        "spatial_compression_ratio": patch * 2 ** sum(kind != "temporal" for kind in kinds),
        "temporal_compression_ratio": 2 ** sum(kind != "spatial" for kind in kinds),
    }


def read_video_vae(file: OfficialFile, dtype: torch.dtype) -> AutoencoderKLLTX2Video:
    """The video VAE of an open file."""
    model = empty(AutoencoderKLLTX2Video, **video_vae_arguments(file))
    converted = convert_ltx2_vae_to_diffusers(drop_unused_statistics(file.tensors("vae", dtype)))
    return fill(model, {_more_stages(key): tensor for key, tensor in converted.items()}, "video VAE", file.path)


def drop_unused_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the statistics that both VAEs carry and nothing reads (all but the means of means and of deviations)."""
    used = (".mean-of-means", ".std-of-means")
    return {key: tensor for key, tensor in state.items() if "per_channel_statistics." not in key or key.endswith(used)}


def _more_stages(key: str) -> str:
    for theirs, ours in MORE_STAGES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _blocks(
    file: OfficialFile, name: str, config: dict[str, Any]
) -> tuple[list[tuple[int, bool]], list[tuple[str, dict[str, Any]]]]:
    """Runs of residual blocks, as (layers, with noise), and the resampling blocks between them, in the config's order.

    Raises:
        BadInputError: they do not alternate, or one is of a kind that the class does not have.
    """
    blocks = config.get(name)
    if not blocks:
        raise BadInputError(f"{file.path}: its vae config has no {name}", expected="an official LTX-2 file")
    runs, resampling = [], []
    for index, (kind, settings) in enumerate(blocks):
        settings = settings if isinstance(settings, dict) else {"num_layers": settings}
        middle = kind.removeprefix("compress_").removesuffix("_res")
        if index % 2 == 0 and kind == "res_x":
            runs.append((int(settings["num_layers"]), bool(settings.get("inject_noise", False))))
        elif index % 2 == 1 and kind.startswith("compress_") and middle in RESAMPLING:
            resampling.append((middle, settings))
        else:
            raise BadInputError(
                f"{file.path}: block {index} of {name} is {kind!r}, which diffusers' video VAE does not have there",
                expected="res_x and compress_space, _time or _all in turns",
            )
    return runs, resampling


def _encoder_widths(config: dict[str, Any], down: list[tuple[str, dict[str, Any]]]) -> tuple[int, ...]:
    """Channels after each resampling block."""
    width, widths = int(config.get("encoder_base_channels", 128)), []
    for _, block in down:
        width *= int(block.get("multiplier", 2))
        widths.append(width)
    return tuple(widths)


def _decoder_widths(config: dict[str, Any], up: list[tuple[str, dict[str, Any]]]) -> tuple[int, ...]:
    """Channels before each resampling block, in the config's order."""
    factors = [int(block.get("multiplier", 1)) for _, block in up]
    base = int(config.get("decoder_base_channels", 128))
    return tuple(base * math.prod(factors[: index + 1]) for index in range(len(factors)))
