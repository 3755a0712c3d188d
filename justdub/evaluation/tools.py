"""What the metrics share in a run: the user's weight files, and models that are loaded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from justdub.errors import JustDubError, MissingError

Model = TypeVar("Model")


@dataclass(frozen=True)
class Weights:
    """Files and folders of the user's, by path; "" where there is none. Only safetensors, TorchScript and ONNX.

    Attributes:
        whisper: a Whisper folder in transformers' layout. arcface: aligned 112x112 faces -> a vector.
        syncnet: SyncNet's tensors in their published names (safetensors). inception: pictures -> features, for FID.
        i3d: clips -> features, for FVD. emotion: sound at 16 kHz -> a vector. emotion_classes: sound -> scores of
        `emotion_labels`. dnsmos: the P.835 network (sig_bak_ovr.onnx).
    """

    whisper: str = ""
    arcface: str = ""
    syncnet: str = ""
    inception: str = ""
    i3d: str = ""
    emotion: str = ""
    emotion_classes: str = ""
    dnsmos: str = ""


class Tools:
    """Weights, settings and loaded models of one run.

    Attributes:
        emotion_labels: names of the classes of `emotion_classes`. features: folders of the user's features of source
        and dub, or (). device: of torch.
    """

    def __init__(
        self,
        weights: Weights | None = None,
        *,
        emotion_labels: tuple[str, ...] = (),
        features: tuple[str, ...] = (),
        device: str = "cpu",
    ) -> None:
        self.weights, self.emotion_labels, self.features = weights or Weights(), emotion_labels, features
        self.device = device
        self._models: dict[str, Any] = {}

    def path(self, name: str) -> Path:
        """The user's weights called `name`; raises MissingError with the line that would give them."""
        given = getattr(self.weights, name)
        if not given:
            raise MissingError(f"needs {name} weights", remedy=f"--weights {name}=PATH")
        path = Path(given).expanduser()
        if not path.exists():
            raise MissingError(f"{name} weights: no file {path}", remedy="check the path")
        return path

    def model(self, key: str, load: Callable[[], Model]) -> Model:
        """What `load` returned the first time; an error that it raised is raised again without another try."""
        if key not in self._models:
            try:
                self._models[key] = load()
            except JustDubError as error:
                self._models[key] = error
        found = self._models[key]
        if isinstance(found, JustDubError):
            raise found
        return found
