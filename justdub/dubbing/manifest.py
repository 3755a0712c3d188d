"""The record of a dub: what went in, every setting and adjustment, what it cost. JSON beside the output."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FORMAT = 1
PACKAGES = ("justdub", "torch", "diffusers", "transformers", "peft", "av", "decord", "imageio-ffmpeg")


@dataclass
class Manifest:
    """Grows while a clip is dubbed; `as_dict` is what is written."""

    content: dict[str, Any]
    adjustments: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def start(
        cls, backbone: Any, adapters: Mapping[str, Any], info: Any, prompt: Any, settings: Any, rules: Any
    ) -> Manifest:
        """Everything that is known before the work begins. Hashes the input files."""
        video, audio = info.video, info.audio
        return cls(
            {
                "manifest": FORMAT,
                "made_by": "justdub: AI-generated dub",
                "input": {
                    "path": str(info.path),
                    "sha256": file_digest(info.path),
                    "frames": video.frames,
                    "frame_rate": str(video.frame_rate),
                    "size": [video.width, video.height],
                    "seconds": float(info.duration),
                    "codec": video.codec,
                    "audio": None if audio is None else f"{audio.codec} {audio.layout} {audio.rate} Hz",
                },
                "prompt": asdict(prompt),
                "backbone": {
                    "name": backbone.card.name,
                    "folder": backbone.folder.name,
                    "fingerprint": backbone.fingerprint,
                    "licence": backbone.card.licence,
                    "dtype": str(backbone.transformer.dtype).removeprefix("torch."),
                    "device": str(backbone.transformer.device),
                },
                "adapters": [
                    {
                        "name": name,
                        "path": str(one.file.path),
                        "sha256": file_digest(one.file.path),
                        "strength": one.strength.video if one.strength.uniform else asdict(one.strength),
                    }
                    for name, one in adapters.items()
                ],
                "settings": asdict(settings),
                "rules": asdict(rules),
                "versions": versions(),
            }
        )

    def adjust(self, what: str) -> None:
        """Note a change that was made to what the user gave or asked for."""
        if what not in self.adjustments:
            self.adjustments.append(what)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin

    def record_sampling(
        self, plan: Any, guidance: Any, sigmas: Sequence[float], negative: str, cost: dict[str, int]
    ) -> None:
        self.content["sampling"] = {
            "tokens": asdict(plan.layout),
            "guidance": asdict(guidance),
            "negative_prompt": negative,
            "sigmas": [round(s, 6) for s in sigmas],
            **cost,
        }

    def record_refinement(
        self, parts: dict[str, Any], plan: Any, variant: Any, keep_adapter: bool, cost: dict[str, int]
    ) -> None:
        """The second stage: what it ran with and what it cost."""
        self.content["refinement"] = {
            **parts,
            "upsampler_sha256": _path_digest(Path(parts["upsampler"])),
            "tokens": asdict(plan.layout),
            "sigmas": list(variant.sigmas),
            "audio_reference": variant.audio_reference,
            "adapters_kept": keep_adapter,
            **cost,
        }

    def record_output(self, path: Path, report: Any) -> None:
        self.content["output"] = {
            "path": str(path),
            "sha256": file_digest(path),
            "frames": report.frames,
            "frame_rate": str(report.frame_rate),
            "size": [report.width, report.height],
            "seconds": float(report.duration),
            "av_difference_s": report.av_difference,
            "streams": list(report.streams),
        }
        for note in report.notes:
            self.adjust(note)

    def as_dict(self) -> dict[str, Any]:
        seconds = {stage: round(value, 3) for stage, value in self.seconds.items()}
        return self.content | {
            "adjustments": self.adjustments,
            "seconds": seconds | {"total": round(sum(self.seconds.values()), 3)},
            "peak_memory_mib": peak_memory_mib(),
        }

    def dumps(self, indent: int | None = None) -> str:
        return json.dumps(self.as_dict(), indent=indent, ensure_ascii=False, default=_plain)

    def write(self, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.part")
        try:
            temporary.write_text(self.dumps(indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _path_digest(path: Path) -> str:
    """Of a file, or of the one weight file of a folder."""
    weights = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return file_digest(weights[0]) if len(weights) == 1 else ""


def _digest(file: Any) -> str:
    """`hashlib.file_digest` of Python 3.11 for 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mib() -> int | None:
    """Largest resident size of this process so far, None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction | Path):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a manifest")
