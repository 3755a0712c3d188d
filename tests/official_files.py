"""Official LTX-2 files for tests: tiny modules of each generation, written under the published names and configs.

The configs here are written by hand in the official terms, the modules beside them in those of diffusers: that the two
describe the same thing is what the tests of `justdub.backbone.official` prove.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from safetensors.torch import save_file
from torch import Tensor

from justdub.backbone import untrained
from justdub.lora.formats import to_official

TEXT = untrained.Size(text_width=32, text_layers=2)
TRANSFORMER = "model.diffusion_model."
STRIDES = {"space": "spatial", "time": "temporal", "all": "spatiotemporal"}

TRANSFORMER_CONFIG = {
    "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "num_layers": 2,
    "cross_attention_dim": 32, "caption_channels": 32, "audio_num_attention_heads": 2, "audio_attention_head_dim": 8,
    "audio_out_channels": 32, "audio_cross_attention_dim": 16, "attention_bias": True, "qk_norm": "rms_norm",
    "norm_elementwise_affine": False, "norm_eps": 1e-6, "activation_fn": "gelu-approximate",
    "positional_embedding_theta": 10000.0, "positional_embedding_max_pos": [20, 2048, 2048],
    "audio_positional_embedding_max_pos": [20], "timestep_scale_multiplier": 1000,
    "av_ca_timestep_scale_multiplier": 1000.0, "rope_type": "split", "frequencies_precision": "float64",
    "use_embeddings_connector": True, "connector_attention_head_dim": 16, "connector_num_attention_heads": 2,
    "connector_positional_embedding_max_pos": [4096], "connector_num_learnable_registers": 16,
}  # fmt: skip
MODULATED = {
    "apply_gated_attention": True, "connector_apply_gated_attention": True, "cross_attention_adaln": True,
    "caption_proj_before_connector": True, "caption_projection_first_linear": False,
    "caption_projection_second_linear": False, "audio_connector_attention_head_dim": 8,
    "audio_connector_num_attention_heads": 2,
}  # fmt: skip
NEWEST = {"ff_bias": False, "audio_ff_bias": True, "use_prompt_adaln_single": True,
          "use_keyframes_abs_pos_embedding": True}  # fmt: skip
TRANSFORMER_CONFIGS = {
    "2.0": TRANSFORMER_CONFIG,
    "2.3": TRANSFORMER_CONFIG | MODULATED,
    "2.5": TRANSFORMER_CONFIG
    | MODULATED
    | {
        "ff_bias": False,
        "audio_ff_bias": True,
        "use_prompt_adaln_single": True,
        "use_keyframes_abs_pos_embedding": True,
    },
}
VERSIONS = {"2.0": "2.0.0", "2.3": "2.3.0", "2.5": "2.5.0"}


def blocks(*resampling: str, residual: bool | None = None) -> list:
    """`["res_x", ...]` between each of e.g. ``all_res:2``, as the official config lists them."""
    found: list = [["res_x", {"num_layers": 1}]]
    for one in resampling:
        kind, multiplier = one.split(":")
        settings = {"multiplier": int(multiplier)} | ({} if residual is None else {"residual": residual})
        found += [[f"compress_{kind}", settings], ["res_x", {"num_layers": 1}]]
    return found


ENCODERS = {"2.0": ("space_res:2", "time_res:2", "all_res:2", "all_res:2"),
            "2.3": ("space_res:2", "time_res:2", "all_res:2", "all_res:1")}  # fmt: skip
DECODERS = {"2.0": ("all:2", "all:2", "all:2"), "2.3": ("space:2", "time:2", "all:1", "all:2")}


def vae_config(generation: str) -> dict[str, Any]:
    old = generation == "2.0"
    shape = "2.0" if old else "2.3"
    return {
        "_class_name": "CausalVideoAutoencoder", "dims": 3, "in_channels": 3, "out_channels": 3, "latent_channels": 4,
        "encoder_blocks": blocks(*ENCODERS[shape]),
        "decoder_blocks": blocks(*DECODERS[shape], residual=True if old else None),
        "scaling_factor": 1.0, "norm_layer": "pixel_norm", "patch_size": 4, "latent_log_var": "uniform",
        "use_quant_conv": False, "causal_decoder": False, "timestep_conditioning": False,
        "encoder_base_channels": 4, "decoder_base_channels": 4,
    } | ({} if old else {"spatial_padding_mode": "zeros"})  # fmt: skip


AUDIO_CONFIG = {
    "model": {
        "params": {
            "ddconfig": {
                "double_z": True, "mel_bins": 64, "z_channels": 2, "resolution": 64, "in_channels": 2, "out_ch": 2,
                "ch": 32, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
                "mid_block_add_attention": False, "norm_type": "pixel", "causality_axis": "height",
            },
            "sampling_rate": 16000,
        }
    },
    "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": True}},
}  # fmt: skip
GENERATOR = {"upsample_initial_channel": 16, "upsample_rates": [10, 8, 2], "upsample_kernel_sizes": [20, 16, 4],
             "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]], "stereo": True}  # fmt: skip
PERIODIC = {"resblock": "AMP1", "activation": "snakebeta", "use_tanh_at_final": False, "use_bias_at_final": False}
EXTENSION = {"upsample_rates": [6, 5, 8], "upsample_kernel_sizes": [12, 11, 16], "apply_final_activation": False,
             "input_sampling_rate": 16000, "output_sampling_rate": 48000, "hop_length": 80, "n_fft": 512,
             "win_size": 512, "num_mels": 64}  # fmt: skip
VOCODER_CONFIGS = {
    "2.0": GENERATOR | {"resblock": "1"},
    "2.3": {"vocoder": GENERATOR | PERIODIC, "bwe": GENERATOR | PERIODIC | EXTENSION},
}


# -- the modules, in the terms of diffusers ----------------------------------------------------------------------------


def transformer(generation: str) -> LTX2VideoTransformer3DModel:
    modulated = generation != "2.0"
    newest = generation == "2.5"
    return LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32,
        audio_in_channels=32, audio_out_channels=32, audio_num_attention_heads=2, audio_attention_head_dim=8,
        audio_cross_attention_dim=16, num_layers=2, caption_channels=32, rope_type="split", gated_attn=modulated,
        audio_gated_attn=modulated, cross_attn_mod=modulated, audio_cross_attn_mod=modulated, perturbed_attn=modulated,
        use_prompt_embeddings=not modulated, ff_bias=not newest, use_keyframes_abs_pos_embedding=newest,
    )  # fmt: skip


def connectors(generation: str) -> LTX2TextConnectors:
    split = generation != "2.0"
    own = {"per_modality_projections": True, "video_hidden_dim": 32, "audio_hidden_dim": 16, "proj_bias": True}
    shape = {"num_attention_heads": 2, "num_layers": 3 if split else 2, "num_learnable_registers": 16}
    return LTX2TextConnectors(
        caption_channels=32, text_proj_in_factor=3, video_connector_attention_head_dim=16, rope_type="split",
        audio_connector_attention_head_dim=8 if split else 16, video_gated_attn=split, audio_gated_attn=split,
        **{f"{stream}_connector_{key}": value for stream in ("video", "audio") for key, value in shape.items()},
        **(own if split else {}),
    )  # fmt: skip


def video_vae(generation: str) -> AutoencoderKLLTX2Video:
    kwargs: dict[str, Any] = {
        "latent_channels": 4, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8, "decoder_causal": False,
        "layers_per_block": (1,) * 5,
    }  # fmt: skip
    if generation == "2.0":
        kwargs |= {"block_out_channels": (8, 16, 32, 64), "decoder_block_out_channels": (8, 16, 32),
                   "decoder_layers_per_block": (1,) * 4}  # fmt: skip
    else:
        kwargs |= {
            "block_out_channels": (8, 16, 32, 32), "decoder_block_out_channels": (8, 16, 16, 32),
            "decoder_layers_per_block": (1,) * 5, "decoder_spatio_temporal_scaling": (True,) * 4,
            "decoder_inject_noise": (False,) * 5, "upsample_residual": (False,) * 4, "upsample_factor": (2, 2, 1, 2),
            "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
            "decoder_spatial_padding_mode": "zeros",
        }  # fmt: skip
    return AutoencoderKLLTX2Video(**kwargs)


def audio_vae() -> AutoencoderKLLTX2Audio:
    return AutoencoderKLLTX2Audio(
        base_channels=32, ch_mult=(1, 1, 1), num_res_blocks=1, resolution=64, latent_channels=2, mel_bins=64
    )


def vocoder(generation: str) -> LTX2Vocoder | LTX2VocoderWithBWE:
    shape: dict[str, Any] = {
        "in_channels": 128, "hidden_channels": 16, "resnet_kernel_sizes": [3], "resnet_dilations": [[1]],
    }  # fmt: skip
    first = {"upsample_kernel_sizes": [20, 16, 4], "upsample_factors": [10, 8, 2]}
    if generation == "2.0":
        return LTX2Vocoder(**shape, **first, output_sampling_rate=16000)
    second = shape | {"upsample_kernel_sizes": [12, 11, 16], "upsample_factors": [6, 5, 8]}
    return LTX2VocoderWithBWE(
        **shape, **first, **{f"bwe_{key}": value for key, value in second.items()}, final_act_fn="clamp"
    )


# -- names and files ---------------------------------------------------------------------------------------------------


def official_name(part: str, key: str) -> str:
    """The published key of a parameter of one part."""
    if part == "transformer":
        key = re.sub(r"(video|audio)_a2v_cross_attn_scale_shift_table", r"scale_shift_table_a2v_ca_\1", key)
        return TRANSFORMER + _norms(to_official(key))
    if part == "connectors":
        if key.startswith(("text_proj_in", "video_text_proj_in", "audio_text_proj_in")):
            return "text_embedding_projection." + key.replace("text_proj_in", "aggregate_embed")
        key = key.replace("_connector.", "_embeddings_connector.").replace(
            "transformer_blocks", "transformer_1d_blocks"
        )
        return TRANSFORMER + _norms(key)
    key = re.sub(r"^latents_(mean|std)$", r"per_channel_statistics.\1-of-means", key)
    if part == "vae":
        return "vae." + _numbered(key).replace(".resnets.", ".res_blocks.")
    if part == "vocoder":
        for ours, theirs in (("conv_in", "conv_pre"), ("conv_out", "conv_post"), ("upsamplers", "ups"),
                             ("resnets", "resblocks"), ("act_out", "act_post"),
                             (".downsample.filter", ".downsample.lowpass.filter")):  # fmt: skip
            key = key.replace(ours, theirs)
    return f"{part}.{key}"


def _norms(key: str) -> str:
    return key.replace("norm_q", "q_norm").replace("norm_k", "k_norm")


def _numbered(key: str) -> str:
    """Blocks of the video VAE in one row."""
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", lambda m: f"down_blocks.{2 * int(m[1]) + 1}#.", key)
    key = re.sub(r"down_blocks\.(\d+)\.", lambda m: f"down_blocks.{2 * int(m[1])}.", key).replace("#", "")
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up_blocks.{2 * int(m[1]) + 1}#.", key)
    key = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up_blocks.{2 * int(m[1]) + 2}.", key).replace("#", "")
    return key.replace("encoder.mid_block", "encoder.down_blocks.8").replace("decoder.mid_block", "decoder.up_blocks.0")


@dataclass
class Written:
    """An official file and what is in it.

    Attributes:
        modules: by part, as they were written.
        text_encoder: folder of the Gemma.
    """

    path: Path
    text_encoder: Path
    modules: dict[str, torch.nn.Module]
    generation: str
    tensors: dict[str, Tensor] = field(repr=False)
    metadata: dict[str, str] = field(repr=False)

    def rewrite(self, path: Path, **changes: Any) -> Path:
        """The same file with other `tensors` or `metadata`."""
        save_file(changes.get("tensors", self.tensors), path, metadata=changes.get("metadata", self.metadata))
        return path


def config(generation: str) -> dict[str, Any]:
    """The `config` of a file's metadata."""
    return {
        "transformer": TRANSFORMER_CONFIGS[generation],
        "vae": vae_config(generation),
        "audio_vae": AUDIO_CONFIG,
        "vocoder": VOCODER_CONFIGS["2.0" if generation == "2.0" else "2.3"],
        "scheduler": {"_class_name": "RectifiedFlowScheduler"},
    }


def write(folder: Path, generation: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Written:
    """Write ``ltx-2.safetensors`` and the folder ``gemma`` of a generation, every parameter of it random."""
    torch.manual_seed(seed)
    modules = {
        "transformer": transformer(generation),
        "connectors": connectors(generation),
        "vae": video_vae(generation),
        "audio_vae": audio_vae(),
        "vocoder": vocoder(generation),
    }
    for module in modules.values():
        _randomise(module)
        module.to(dtype).requires_grad_(False).eval()
    tensors = {
        official_name(part, key): tensor.contiguous()
        for part, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    tensors["vae.per_channel_statistics.mean-of-stds"] = torch.ones(4)  # published, and read by nothing
    metadata = {"config": json.dumps(config(generation)), "model_version": VERSIONS[generation]}
    path, gemma = folder / "ltx-2.safetensors", folder / "gemma"
    save_file(tensors, path, metadata=metadata)
    write_gemma(gemma, TEXT)
    return Written(path, gemma, modules, generation, tensors, metadata)


def write_gemma(folder: Path, size: untrained.Size) -> Path:
    """A Gemma 3 folder as it is published: weights, config and tokenizer side by side, no limit of tokens."""
    untrained.text_encoder(size).to(torch.bfloat16).save_pretrained(folder)
    untrained.byte_tokenizer(10**30).save_pretrained(folder)
    return folder


@torch.no_grad()
def _randomise(module: torch.nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        if name.endswith(("latents_std", "_basis")):
            tensor.copy_(0.5 + torch.rand_like(tensor) if name.endswith("std") else 0.05 * torch.rand_like(tensor))
        else:
            tensor.add_(torch.randn_like(tensor) * 0.02)
