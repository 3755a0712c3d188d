"""The audio VAE and the vocoder of an official file."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio
from diffusers.loaders.single_file_utils import convert_ltx2_audio_vae_to_diffusers
from diffusers.pipelines.ltx2 import LTX2Vocoder
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE

from justdub.backbone.codecs import N_FFT
from justdub.backbone.official.file import OfficialFile, empty, fill
from justdub.backbone.official.video_vae import drop_unused_statistics
from justdub.errors import BadInputError

# Official config name -> diffusers' argument.
VAE_NAMES = {
    "ch": "base_channels",
    "out_ch": "output_channels",
    "z_channels": "latent_channels",
    "attn_resolutions": "attn_resolutions",
    "ch_mult": "ch_mult",
    "num_res_blocks": "num_res_blocks",
    "in_channels": "in_channels",
    "resolution": "resolution",
    "norm_type": "norm_type",
    "causality_axis": "causality_axis",
    "dropout": "dropout",
    "mid_block_add_attention": "mid_block_add_attention",
    "mel_bins": "mel_bins",
    "double_z": "double_z",
}
VOCODER_NAMES = {
    "upsample_initial_channel": "hidden_channels",
    "upsample_kernel_sizes": "upsample_kernel_sizes",
    "upsample_rates": "upsample_factors",
    "resblock_kernel_sizes": "resnet_kernel_sizes",
    "resblock_dilation_sizes": "resnet_dilations",
}
EXTENSION_NAMES = {
    "n_fft": "filter_length",
    "hop_length": "hop_length",
    "win_size": "window_length",
    "num_mels": "num_mel_channels",
    "input_sampling_rate": "input_sampling_rate",
    "output_sampling_rate": "output_sampling_rate",
}
# Official name -> diffusers' name of a part of a vocoder's key; a key begins with a dot here.
KEYS = {
    ".ups.": ".upsamplers.",
    ".resblocks.": ".resnets.",
    ".conv_pre.": ".conv_in.",
    ".conv_post.": ".conv_out.",
    ".act_post.": ".act_out.",
    ".downsample.lowpass.": ".downsample.",
}


def audio_vae_arguments(file: OfficialFile) -> dict[str, Any]:
    """Arguments of `AutoencoderKLLTX2Audio` for a file.

    Raises:
        BadInputError: no config, or another spectrogram than the one that `codecs.AudioCodec` computes.
    """
    section = file.section("audio_vae")
    try:
        parameters = section["model"]["params"]
        config = parameters["ddconfig"]
    except (KeyError, TypeError) as error:
        raise BadInputError(f"{file.path}: its audio_vae config has no model.params.ddconfig") from error
    spectrogram = section.get("preprocessing", {}).get("stft", {})
    if spectrogram.get("filter_length", N_FFT) != N_FFT:
        raise BadInputError(
            f"{file.path}: its audio VAE reads spectrograms of {spectrogram['filter_length']} samples a window",
            expected=str(N_FFT),
        )
    arguments = {ours: config[theirs] for theirs, ours in VAE_NAMES.items() if theirs in config}
    arguments["attn_resolutions"] = arguments.get("attn_resolutions") or None
    return arguments | {
        "sample_rate": parameters.get("sampling_rate", 16000),
        "mel_hop_length": spectrogram.get("hop_length", 160),
        "is_causal": spectrogram.get("causal", True),
    }


def read_audio_vae(file: OfficialFile, dtype: torch.dtype) -> AutoencoderKLLTX2Audio:
    """The audio VAE of an open file."""
    model = empty(AutoencoderKLLTX2Audio, **audio_vae_arguments(file))
    state = convert_ltx2_audio_vae_to_diffusers(drop_unused_statistics(file.tensors("audio_vae", dtype)))
    return fill(model, state, "audio VAE", file.path)


def vocoder_arguments(file: OfficialFile) -> dict[str, Any]:
    """Arguments of `LTX2Vocoder` (LTX-2.0) or of `LTX2VocoderWithBWE` (with bandwidth extension, from 2.3 on)."""
    config = file.section("vocoder")
    if "bwe" not in config:
        vae = audio_vae_arguments(file)
        found = _generator(file, config, "vocoder.")
        # One sample of sound for each sample that the factors make of a mel frame.
        rate = vae["sample_rate"] // vae["mel_hop_length"] * math.prod(found["upsample_factors"])
        return found | {"output_sampling_rate": rate}
    extension = config["bwe"]
    found = _generator(file, config["vocoder"], "vocoder.vocoder.")
    found |= {f"bwe_{k}": v for k, v in _generator(file, extension, "vocoder.bwe_generator.").items()}
    return found | {ours: extension[theirs] for theirs, ours in EXTENSION_NAMES.items() if theirs in extension}


def read_vocoder(file: OfficialFile, dtype: torch.dtype) -> LTX2Vocoder | LTX2VocoderWithBWE:
    """The vocoder of an open file."""
    arguments = vocoder_arguments(file)
    model = empty(LTX2VocoderWithBWE if "bwe_in_channels" in arguments else LTX2Vocoder, **arguments)
    state = {_diffusers_name(key): tensor for key, tensor in file.tensors("vocoder", dtype).items()}
    return fill(model, state, "vocoder", file.path)


def _generator(file: OfficialFile, config: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Arguments of one generator: HiFi-GAN, or with periodic activations ("AMP1")."""
    periodic = str(config.get("resblock", "1")).startswith("AMP")
    last = "tanh" if config.get("use_tanh_at_final", True) else "clamp"
    return {ours: config[theirs] for theirs, ours in VOCODER_NAMES.items()} | {
        "in_channels": file.shape(f"{prefix}conv_pre.weight")[1],
        "out_channels": file.shape(f"{prefix}conv_post.weight")[0],
        "act_fn": config.get("activation", "snake") if periodic else "leaky_relu",
        "antialias": periodic,
        "final_act_fn": last if config.get("apply_final_activation", True) else None,
        "final_bias": config.get("use_bias_at_final", True),
    }


def _diffusers_name(key: str) -> str:
    key = "." + key.removeprefix("vocoder.")
    for theirs, ours in KEYS.items():
        key = key.replace(theirs, ours)
    return key[1:]
