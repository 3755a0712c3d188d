"""Dub video with a joint audio-visual diffusion model.

The public names load on first use, so that importing the package is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "DubPipeline": "justdub.dubbing.pipeline",
    "Dub": "justdub.dubbing.pipeline",
    "DubSettings": "justdub.dubbing.settings",
    "SequenceRules": "justdub.sequence",
    "plan_sequence": "justdub.sequence",
    "JointTransformer": "justdub.backbone.transformer",
    "load_backbone": "justdub.backbone.checkpoint:load",
    "read_adapter": "justdub.lora.files:read",
    "write_adapter": "justdub.lora.files:write",
    "probe": "justdub.media",
    "JustDubError": "justdub.errors",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'justdub' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__() -> list[str]:
    return __all__
