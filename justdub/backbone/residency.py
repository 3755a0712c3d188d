"""Where the parts of a backbone live while a clip is dubbed: on the device, beside it, or gone.

`memory.py` decides (`Use`), this file does it. Weights reach the device when they are first used, so that eight-bit
storage and streaming see the adapters that were put on before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from justdub.backbone import eight_bits
from justdub.backbone.checkpoint import Backbone
from justdub.backbone.memory import PARTS, Use


class Residency:
    """Puts the parts of a backbone where they are needed.

    Args:
        use: how memory is used; None: the backbone stays where it was loaded.
        device: where parts work.
    """

    def __init__(self, backbone: Backbone, use: Use | None, device: torch.device) -> None:
        self.backbone, self.use, self.device = backbone, use, device
        self._settled: set[str] = set()
        if use is not None:
            backbone.video_codec.tiles = use.tiles

    @contextmanager
    def using(self, part: str) -> Iterator[None]:
        """Have a part (of `memory.PARTS`) on the device while it works."""
        if self.use is None:
            yield
            return
        modules = self._modules(part)
        if part not in self._settled:
            self._settle(part, modules)
        streamed = (self.use.stream and part == "transformer") or (self.use.stream_text and part == "text")
        if not streamed:
            self._move(modules, self.device)
        try:
            yield
        finally:
            if part == "text" and self.use.free_text:
                self.backbone.text.release()
                modules.clear()
                self._clean()
            elif self.use.one_at_a_time and not streamed:
                self._move(modules, torch.device("cpu"))
                self._clean()

    @contextmanager
    def borrowing(self, module: torch.nn.Module) -> Iterator[None]:
        """Have a module that is not the backbone's on the device for a moment."""
        module.to(self.device)
        try:
            yield
        finally:
            if self.use is not None:
                module.to("cpu")
                self._clean()

    def _modules(self, part: str) -> list[Any]:
        return [one for name in PARTS[part] if (one := getattr(self.backbone.pipeline, name)) is not None]

    def _settle(self, part: str, modules: list[Any]) -> None:
        """Once, before a part is first used."""
        self._settled.add(part)
        use, transformer = self.use, self.backbone.transformer.module
        if part == "transformer" and use.fp8:
            eight_bits.store(transformer)
        if part == "transformer" and use.stream:
            stream(transformer, self.device, blocks=True)
        if part == "text" and use.stream_text:
            self.backbone.text.device = self.device
            for module in modules:
                stream(module, self.device, blocks=False)
        elif part == "text":
            self.backbone.text.device = self.device

    @staticmethod
    def _move(modules: list[Any], device: torch.device) -> None:
        for module in modules:
            module.to(device)

    def _clean(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def stream(module: torch.nn.Module, device: torch.device, *, blocks: bool) -> None:
    """Keep a module's weights beside the device and bring them when they are due, the next ones while these work.

    Args:
        blocks: whole transformer blocks at a time (fewer, larger copies), or single layers (any module).
    """
    from diffusers.hooks import apply_group_offloading

    unit: dict[str, Any] = {"offload_type": "leaf_level"}
    if blocks:
        unit = {"offload_type": "block_level", "num_blocks_per_group": 1}
    apply_group_offloading(
        module, onload_device=device, offload_device=torch.device("cpu"), use_stream=device.type == "cuda", **unit
    )
