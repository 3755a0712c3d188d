"""Look at a machine: what is installed, what works, what is free, and which use of memory a dub would get."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from justdub.backbone import checkpoint, kernels, memory
from justdub.dubbing import preflight
from justdub.dubbing.manifest import versions
from justdub.dubbing.preflight import gib
from justdub.dubbing.settings import DubSettings
from justdub.dubbing.size import parse_size
from justdub.errors import JustDubError, UsageError
from justdub.lora import shelf

# Module -> what it is for.
OPTIONAL = {
    "xformers": "attention kernel",
    "flash_attn": "attention kernel",
    "sageattention": "attention kernel",
    "mediapipe": "faces in training data and evaluation",
    "insightface": "identity in evaluation",
    "silero_vad": "speech in evaluation",
    "espeakng_loader": "the drawn world",
    "ctranslate2": "translation",
    "c2pa": "signed provenance",
}


@dataclass
class Findings:
    """What was found, section by section; `faults` are what a dub would fail on."""

    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**self.sections, "faults": self.faults}

    def text(self) -> str:
        lines = []
        for title, entries in self.sections.items():
            lines.append(title)
            width = max((len(name) for name in entries), default=0)
            lines += [f"  {name:{width}s}  {value}" for name, value in entries.items()]
        return "\n".join(lines)


def examine(
    backbone: str | Path,
    *,
    size: str | None = None,
    frames: int = 121,
    two_stage: bool = False,
    reference: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    text_encoder: str | None = None,
    adapters: Sequence[str] = (),
) -> Findings:
    """Look at the machine and plan a dub of so many frames at 25 a second.

    Raises:
        UsageError: a clip that cannot be.
    """
    if frames < 1:
        raise UsageError(f"--frames {frames}", expected="1 or more")
    found, where = Findings(), checkpoint.choose_device(device)
    kind = checkpoint.choose_dtype(dtype, where)
    found.sections["versions"] = versions()
    found.sections["machine"] = _machine(where)
    found.sections["optional packages"] = {
        name: f"{'installed' if importlib.util.find_spec(name) else 'not installed'} ({use})"
        for name, use in OPTIONAL.items()
    }
    found.sections[f"attention kernels on {where} in {str(kind).removeprefix('torch.')}"] = {
        name: (f"no: {reason}" if (reason := kernels.probe(name, where, kind)) else "works") for name in kernels.KERNELS
    }
    names = shelf.names()
    found.sections["adapters"] = {name: str(path) for name, path in names.items()} or {"none": "on no shelf"}
    settings = DubSettings(
        size=parse_size(size) if size else None, two_stage="justdubit" if two_stage else None, reference=reference
    )
    asked = {"device": device, "dtype": dtype, "text_encoder": text_encoder}
    _estimate(found, backbone, frames, settings, adapters, **asked)
    return found


def _machine(device: torch.device) -> dict[str, str]:
    import psutil

    here = shutil.disk_usage(Path.cwd())
    entries = {
        "processors": f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads",
        "memory": f"{gib(psutil.virtual_memory().available)} free of {gib(psutil.virtual_memory().total)}",
        "disk here": f"{gib(here.free)} free of {gib(here.total)}",
    }
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        entries[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, {gib(free)} free of {gib(total)}"
    if torch.backends.mps.is_available():
        entries["mps"] = "available"
    return entries | {"used by default": str(device)}


def _estimate(
    found: Findings,
    backbone: str | Path,
    frames: int,
    settings: DubSettings,
    adapters: Sequence[str],
    **asked: Any,
) -> None:
    """The backbone, and what a dub would need in every tier."""
    try:
        path = checkpoint.find(backbone)
        card = checkpoint.Card.read(path)
        width, height = settings.size or card.size
        clip = SimpleNamespace(
            video=SimpleNamespace(frames=frames, frame_rate=Fraction(25)), display_aspect=Fraction(width, height)
        )
        files = tuple(shelf.find(one) for one in adapters)
        planner = preflight.Planner(backbone, clip, settings, adapters=files, **asked)
        plain = planner.plan()
        found.sections["backbone"] = {card.name: str(path), "size": f"{card.size[0]}x{card.size[1]}"}
        entries = {"plain": f"{_phases(plain.estimate)} ({gib(plain.estimate.host)} beside it)"}
        fits = plain.estimate.peak <= plain.free
        for tier in ("auto", *map(str, memory.TIERS)):
            planned = planner.plan(tier, elsewhere=tier != "auto")
            small = tier != "auto" and planned.estimate.peak > memory.tier_budget(float(tier))
            told = "does not fit" if small else str(planned.estimate.use)
            entries[f"--memory {tier}"] = f"{_phases(planned.estimate)}: {told}"
            fits |= tier == "auto" and planned.estimate.peak <= planned.free
        found.sections[f"a dub of {plain.second or plain.first}, {gib(plain.free)} free on {plain.device}"] = entries
        if not fits:
            found.faults.append(f"a dub of {plain.second or plain.first} does not fit into {gib(plain.free)}")
            found.remedy = preflight.remedy(plain.estimate, plain.device)
    except JustDubError as error:
        found.sections["backbone"] = {str(backbone): str(error)}
        found.faults.append(error.found)
        found.remedy = error.remedy


def _phases(estimate: memory.Estimate) -> str:
    return f"{gib(estimate.peak)} to {estimate.worst}"
