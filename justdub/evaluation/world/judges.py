"""The trained judges of the drawn world and where they lie: `load()`.

`weights` holds one safetensors file per net, `judges.json` with their shapes, and `lexicon.json` with the words of each
language. Matrices and kernels are kept as whole numbers -127..127 with a step per output, all else in half precision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from justdub.errors import BadInputError
from justdub.evaluation.world.articulation import Articulation, ArticulationNet, ArticulationSettings
from justdub.evaluation.world.face import FaceJudge, FaceNet, FaceSettings
from justdub.evaluation.world.lips import LipReader, LipsNet, LipsSettings
from justdub.evaluation.world.sync import SyncJudge, SyncNet, SyncSettings
from justdub.evaluation.world.voice import VoiceJudge, VoiceNet, VoiceSettings
from justdub.evaluation.world.words import WordJudge, WordsNet, WordsSettings

WEIGHTS = Path(__file__).parent / "weights"
_STEP = ":step"
NETS: dict[str, tuple[type[nn.Module], type]] = {
    "words": (WordsNet, WordsSettings),
    "lips": (LipsNet, LipsSettings),
    "articulation": (ArticulationNet, ArticulationSettings),
    "voice": (VoiceNet, VoiceSettings),
    "face": (FaceNet, FaceSettings),
    "sync": (SyncNet, SyncSettings),
}


@dataclass(frozen=True)
class Judges:
    """All six."""

    words: WordJudge
    lips: LipReader
    articulation: Articulation
    voice: VoiceJudge
    face: FaceJudge
    sync: SyncJudge


def load(folder: Path = WEIGHTS) -> Judges:
    """The judges of a folder, on the CPU in float32."""
    lexicon = json.loads((folder / "lexicon.json").read_text(encoding="utf-8"))
    return Judges(
        words=WordJudge(load_net(folder, "words"), lexicon),
        lips=LipReader(load_net(folder, "lips")),
        articulation=Articulation(load_net(folder, "articulation")),
        voice=VoiceJudge(load_net(folder, "voice")),
        face=FaceJudge(load_net(folder, "face")),
        sync=SyncJudge(load_net(folder, "sync")),
    )


def load_net(folder: Path, name: str) -> Any:
    """One net of `NETS`, ready for use."""
    from safetensors.torch import load_file

    described = folder / "judges.json"
    shapes = json.loads(described.read_text()) if described.exists() else {}
    if name not in shapes:
        raise BadInputError(f"no judge {name!r} in {folder}", expected="judges.json and its safetensors files")
    kind, settings = NETS[name]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in shapes[name].items()}
    net = kind(settings(**values))
    net.load_state_dict(_unpacked(load_file(folder / f"{name}.safetensors")))
    return net.eval()


def save_net(folder: Path, name: str, net: nn.Module, settings: Any) -> None:
    """Write one net of `NETS`, and its shape into `judges.json`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "judges.json"
    shapes = json.loads(described.read_text()) if described.exists() else {}
    save_file(_packed(net.state_dict()), folder / f"{name}.safetensors")
    described.write_text(json.dumps(dict(sorted((shapes | {name: asdict(settings)}).items())), indent=1) + "\n")


def _packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are kept."""
    kept = {}
    for key, value in state.items():
        if value.ndim >= 2:
            step = (value.flatten(1).abs().amax(1) / 127).clamp(min=1e-7).to(torch.float16)
            per_output = step.float().view(-1, *(1,) * (value.ndim - 1))
            kept[f"{key}{_STEP}"] = step
            kept[key] = (value / per_output).round().clamp(-127, 127).to(torch.int8).contiguous()
        else:
            kept[key] = value.to(torch.float16) if value.is_floating_point() else value
    return kept


def _unpacked(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for use."""
    state = {}
    for key, value in kept.items():
        if key.endswith(_STEP):
            continue
        if value.dtype == torch.int8:
            state[key] = value.float() * kept[f"{key}{_STEP}"].float().view(-1, *(1,) * (value.ndim - 1))
        else:
            state[key] = value.float() if value.is_floating_point() else value
    return state


def save_lexicon(folder: Path, lexicon: Mapping[str, list[str]]) -> None:
    """Write the words of each language."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(lexicon, ensure_ascii=False, indent=0)
    (folder / "lexicon.json").write_text(text + "\n", encoding="utf-8")
