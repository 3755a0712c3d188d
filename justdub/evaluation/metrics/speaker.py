"""V-SIM / SPK-SIM: whether the dub sounds like the wanted voice.

Wan, Wang, Papir, Moreno 2018 (generalised end-to-end loss): three LSTM layers over mel spectrograms of 1.6 s, mean of
overlapping parts, unit length. The tensors are those that the package resemblyzer carries, read from its file with
`weights_only`; the package itself is not imported.

Legend: S samples, T frames, M mel bands (40), P parts, E embedding (256).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.needed import need
from justdub.evaluation.sample import RATE, Clip
from justdub.evaluation.spectrum import framed
from justdub.evaluation.tools import Tools

_BANDS, _WINDOW, _STEP = 40, 400, 160
_PART, _HOP = 160, 77  # frames: 1.6 s, about 1.3 parts a second
_LEVEL = -30.0  # dB of full scale that quieter sounds are raised to


class SpeakerNet(nn.Module):
    """Mel spectrograms (P, T, 40) -> (P, 256) of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel_PTM: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mel_PTM)
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


@lru_cache(maxsize=1)
def _slaney_filters() -> np.ndarray:
    """(M, B) triangles of equal area on Slaney's mel scale: linear to 1 kHz, logarithmic above, 0 to 8 kHz."""
    top = 15 + np.log(RATE / 2 / 1000) / (np.log(6.4) / 27)
    mels = np.linspace(0, top, _BANDS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    bins = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rise, fall), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]


def mel(speech_S: np.ndarray) -> np.ndarray:
    """(T, 40) power in mel bands, 25 ms every 10 ms."""
    spectrum = np.fft.rfft(framed(speech_S, _WINDOW, _STEP) * np.hanning(_WINDOW + 1)[:-1])
    return (np.abs(spectrum) ** 2 @ _slaney_filters().T).astype(np.float32)


def parts(mel_TM: np.ndarray) -> np.ndarray:
    """(P, 160, 40): overlapping parts, the last one only where three quarters of it are sound."""
    count = len(mel_TM)
    starts = list(range(0, max(1, count - _PART + _HOP + 1), _HOP))
    if len(starts) > 1 and (count - starts[-1]) / _PART < 0.75:
        starts.pop()
    padded = np.pad(mel_TM, ((0, max(0, starts[-1] + _PART - count)), (0, 0)))
    return np.stack([padded[start : start + _PART] for start in starts])


def _net(tools: Tools) -> SpeakerNet:
    def load() -> SpeakerNet:
        found = find_spec("resemblyzer")  # finds the folder without running anything in it
        path = Path(found.submodule_search_locations[0]) / "pretrained.pt" if found else None
        if path is None or not path.is_file():
            raise MissingError("needs resemblyzer's weights", remedy="pip install --no-deps resemblyzer")
        return load_speaker_net(path)

    return tools.model("speaker", load)


def load_speaker_net(path: Path) -> SpeakerNet:
    """From resemblyzer's file, as tensors only; raises BadInputError where it is another's."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        net = SpeakerNet().eval()
        net.load_state_dict({name: value for name, value in state.items() if not name.startswith("similarity")})
    except Exception as error:  # unpickling fails in many ways
        first = str(error).splitlines()[0]
        raise BadInputError(f"{path}: not the speaker weights of resemblyzer 0.1: {first}") from error
    return net


@torch.inference_mode()
def embed(net: SpeakerNet, speech_S: np.ndarray) -> np.ndarray:
    """(256,) of unit length, of 16 kHz speech."""
    level = 10 * np.log10(np.mean(np.square(speech_S, dtype=np.float64)) + 1e-20)
    louder = 10 ** (max(0.0, _LEVEL - level) / 20)
    found_PE = net(torch.from_numpy(parts(mel(speech_S * louder)))).numpy()
    mean_E = found_PE.mean(0)
    return mean_E / np.linalg.norm(mean_E)


def voice(clip: Clip, tools: Tools) -> np.ndarray:
    """(256,) of a clip's speech, kept by content."""
    net = _net(tools)
    return clip.sound_feature("speaker", lambda: {"voice": embed(net, clip.speech)})["voice"]


def similarity(one: Clip, other: Clip, tools: Tools) -> float:
    """Percent: 100 times the cosine."""
    return 100 * float(voice(one, tools) @ voice(other, tools))


_NEEDS = "resemblyzer's weights"

METRICS = (
    Metric("v_sim", "V-SIM", "%", Better.HIGHER, _NEEDS,
           "Cosine of d-vectors (Wan et al. 2018) of the dub's and the source's sound, in percent.",
           lambda s: similarity(s.source, s.dub, s.tools)),
    Metric("spk_sim", "SPK-SIM", "%", Better.HIGHER, f"{_NEEDS}, and timbre prompts",
           "The same of the dub and the timbre prompt; where the true line is the prompt (Dub 1.0) it leaks.",
           lambda s: similarity(need(lambda: s.needed("voice"), lambda: _net(s.tools))[0], s.dub, s.tools)),
)  # fmt: skip
