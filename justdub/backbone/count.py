"""What a backbone would need, counted from its configs alone: no weight is read, nothing is computed.

The modules are built on torch's ``meta`` device, and a pass over meta tensors is watched: every storage that an
operator makes is added while it lives. So the peak is that of the real code (processors, cache, positions included),
not of a formula. Attention is taken to need no matrix of queries times keys, as every kernel in use does without.

Letters: B batch, C channels, F/H/W latent grid, T audio latents, M mel bins, L text tokens, D width.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from justdub.errors import BadInputError
from justdub.sequence import Geometry, SequencePlan, SequenceRules, plan_sequence

COUNTED_PARTS = ("transformer", "vae", "audio_vae", "vocoder", "connectors")  # classes of diffusers


class LivePeak(TorchDispatchMode):
    """Largest sum of bytes that were alive at once of all tensors made within, in `peak`.

    Args:
        known: modules whose weights exist already.
    """

    def __init__(self, *known: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {
            t.untyped_storage()._cdata for module in known for t in (*module.parameters(), *module.buffers())
        }
        self._live: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._add, result)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._live:
            return
        self._live.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._live.discard(key)
        self.now -= size


class _NoScores(TorchFunctionMode):
    """Attention whose only new tensor is its output."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            query = kwargs.get("query", args[0] if args else None)
            return torch.empty_like(query)
        return func(*args, **kwargs)


@torch.no_grad()
def peak_bytes(run: Callable[[], Any], *known: torch.nn.Module) -> int:
    """Peak of the tensors that `run` makes, its result included."""
    with LivePeak(*known) as watch, _NoScores():
        result = run()
        del result
    return watch.peak


@dataclass(frozen=True)
class Shape:
    """A clip as the model sees it: padded frames, pixels, frames a second."""

    frames: int
    width: int
    height: int
    frame_rate: Fraction = Fraction(25)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


class Blueprint:
    """The parts of a checkpoint folder on the meta device.

    Args:
        folder: in diffusers layout; its configs are enough.
        text_folder: of the text encoder, when it lies elsewhere.
        dtype: of transformer, text encoder and video VAE.

    Raises:
        BadInputError: a config is missing or is not of the LTX-2 classes.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, text_folder: Path | None = None) -> None:
        self.folder, self.dtype = folder, dtype
        self.text_folder = text_folder or folder / "text_encoder"

    def _config(self, part: str) -> dict[str, Any]:
        path = self.folder / part / "config.json"
        if not path.is_file():
            raise BadInputError(f"{self.folder} has no {part}/config.json", expected="a folder in diffusers layout")
        return json.loads(path.read_text(encoding="utf-8"))

    def _module(self, part: str, **changes: Any) -> torch.nn.Module:
        from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video
        from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
        from diffusers.pipelines import ltx2

        config = self._config(part) | changes
        kinds = {
            "transformer": LTX2VideoTransformer3DModel,
            "vae": AutoencoderKLLTX2Video,
            "audio_vae": AutoencoderKLLTX2Audio,
        }
        name = config.get("_class_name", "")
        kind = kinds.get(part) or getattr(ltx2, name, None)
        if kind is None:
            raise BadInputError(f"{self.folder}/{part} is of class {name!r}", expected="a class of LTX-2")
        with torch.device("meta"):
            module = kind.from_config(config)
        dtype = torch.float32 if part in ("audio_vae", "vocoder") else self.dtype
        # diffusers' own `to` warns about a list of modules that is empty here
        return torch.nn.Module.to(module, dtype).requires_grad_(False).eval()

    @cached_property
    def layers(self) -> int:
        return int(self._config("transformer").get("num_layers", 48))

    @cached_property
    def block(self) -> Any:
        """The transformer with a single block, its processors installed."""
        from justdub.backbone.transformer import JointTransformer

        return JointTransformer(self._module("transformer", num_layers=1))

    @cached_property
    def vae(self) -> torch.nn.Module:
        return self._module("vae")

    @property
    def geometry(self) -> Geometry:
        return self.block.geometry

    @property
    def mel_bins(self) -> int:
        """Latent ones."""
        config = self._config("audio_vae")
        return int(config["mel_bins"]) // self.block.module.config.audio_scale_factor

    # -- weights ------------------------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> dict[str, int]:
        """Bytes of each part as it is loaded: transformer, text, video, audio."""
        block = sum(p.nbytes for p in self.block.module.transformer_blocks[0].parameters())
        rest = sum(p.nbytes for p in self.block.module.parameters()) - block
        text = sum(p.nbytes for p in self._text_encoder().parameters()) + _bytes(self._module("connectors"))
        audio = _bytes(self._module("audio_vae")) + _bytes(self._module("vocoder"))
        return {"transformer": rest + self.layers * block, "text": text, "video": _bytes(self.vae), "audio": audio}

    def transformer_fp8(self, skip: tuple[str, ...]) -> int:
        """Bytes of the transformer with every linear layer in eight bits that no pattern of `skip` names."""
        total = self.weights["transformer"]
        width = torch.finfo(self.dtype).bits // 8
        for name, module in self.block.module.named_modules():
            if isinstance(module, torch.nn.Linear) and not any(re.search(pattern, name) for pattern in skip):
                saved = sum(p.numel() for p in module.parameters()) * (width - 1)
                total -= saved * (self.layers if name.startswith("transformer_blocks.") else 1)
        return total

    @cached_property
    def block_bytes(self) -> int:
        """Bytes of one transformer block."""
        return _bytes(self.block.module.transformer_blocks[0])

    def _text_encoder(self) -> torch.nn.Module:
        import transformers

        path = self.text_folder / "config.json"
        if not path.is_file():
            raise BadInputError(f"{self.text_folder} has no config.json", expected="the folder of a text encoder")
        config = transformers.AutoConfig.from_pretrained(self.text_folder, local_files_only=True)
        (kind,) = config.architectures or ("Gemma3ForConditionalGeneration",)
        with torch.device("meta"):
            return getattr(transformers, kind)(config).to(self.dtype)

    # -- passes -------------------------------------------------------------------------------------------------------

    def tokens(self, shape: Shape) -> tuple[int, int]:
        """Video and audio target tokens of a clip."""
        plan = self.plan(shape, SequenceRules())
        return plan.layout.video.target, plan.layout.audio.target

    def plan(self, shape: Shape, rules: SequenceRules) -> SequencePlan:
        """The clip's sequence, on the meta device."""
        geometry, config = self.geometry, self.block.module.config
        channels = config.in_channels // geometry.patch**2
        frames = geometry.latent_frames(shape.frames)
        height, width = shape.height // geometry.pixels_per_latent, shape.width // geometry.pixels_per_latent
        mels = 1 + round(shape.frames / shape.frame_rate * geometry.sample_rate) // geometry.hop_length
        steps = 1 + -(-(mels - 1) // geometry.mels_per_latent)
        small = rules.reference_downscale
        with torch.device("meta"):
            video = torch.zeros(1, channels, frames, height, width)
            reference = torch.zeros(1, channels, frames, max(1, height // small), max(1, width // small))
            audio = torch.zeros(1, config.audio_in_channels // self.mel_bins, steps, self.mel_bins)
            return plan_sequence(
                video_target_BCFHW=video,
                audio_target_BCTM=audio,
                video_reference_BCFHW=reference,
                audio_reference_BCTM=audio,
                frame_rate=shape.frame_rate,
                geometry=geometry,
                rules=rules,
            )

    def denoising(
        self, shape: Shape, rules: SequenceRules, *, cached: bool, text_tokens: int = 1024
    ) -> tuple[int, int]:
        """Peak of one forward pass beside the weights, and the bytes of one reference cache (0 without)."""
        from justdub.backbone.text import TextContext

        module, plan = self.block.module, self.plan(shape, rules)
        width, audio_width = module.config.caption_channels, module.config.caption_channels
        if not getattr(module.config, "use_prompt_embeddings", True):
            width, audio_width = (getattr(module.config, f"{stream}cross_attention_dim") for stream in ("", "audio_"))
        with torch.device("meta"):
            text = TextContext(
                torch.zeros(1, text_tokens, width, dtype=self.dtype),
                torch.zeros(1, text_tokens, audio_width, dtype=self.dtype),
            )
            sigma_B = torch.ones(1)
        if not cached:
            return peak_bytes(lambda: self._pass(plan, text, sigma_B, None), module), 0
        kept = []
        first = peak_bytes(lambda: kept.append(self.block.prefill(plan.reference_only(), text)), module)
        layer = kept[0].nbytes
        bare = plan.without_reference()
        step = peak_bytes(lambda: self._pass(bare, text, sigma_B, kept[0]), module)
        return max(first - layer, step), layer * self.layers

    def _pass(self, plan: SequencePlan, text: Any, sigma_B: torch.Tensor, cache: Any) -> Any:
        sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
        return self.block.velocity(sequence, text, cache=cache)

    def encoding(self, shape: Shape) -> int:
        """Peak of encoding a clip's frames, the frames included."""

        def run() -> Any:
            pixels = torch.empty(1, 3, shape.frames, shape.height, shape.width, device="meta", dtype=self.dtype)
            return self.vae.encode(pixels).latent_dist.mode()

        return peak_bytes(run, self.vae)

    def decoding(self, shape: Shape, *, tiles: bool) -> int:
        """Peak of decoding a clip."""
        from justdub.backbone.codecs import VideoCodec

        codec, geometry = VideoCodec(self.vae), self.geometry
        frames = geometry.latent_frames(shape.frames)
        height, width = shape.height // geometry.pixels_per_latent, shape.width // geometry.pixels_per_latent

        def run() -> Any:
            latents = torch.empty(1, codec.latent_channels, frames, height, width, device="meta", dtype=self.dtype)
            step = torch.zeros(1, device="meta", dtype=self.dtype) if self.vae.config.timestep_conditioning else None
            return self.vae.decode(latents, step, return_dict=False)[0]

        codec._tile(tiles)
        try:
            return peak_bytes(run, self.vae)
        finally:
            codec._tile(False)


def _bytes(module: torch.nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())
