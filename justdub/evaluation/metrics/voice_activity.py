"""Speech overlap by a voice activity detector: silero-vad, whose wheel carries its weights (extra `speech`).

Legend: S samples, T frames of 10 ms.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import MissingError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.metrics.overlap import overlap
from justdub.evaluation.sample import RATE, Clip, Sample
from justdub.evaluation.tools import Tools


def _detector(tools: Tools):
    def load():
        try:
            import torch

            threads = torch.get_num_threads()
            from silero_vad import get_speech_timestamps, load_silero_vad

            model = load_silero_vad()
            torch.set_num_threads(threads)  # importing it sets one thread for the whole program
        except ImportError as error:
            raise MissingError("needs silero-vad", remedy="pip install 'justdub[speech]'") from error
        return model, get_speech_timestamps

    return tools.model("silero", load)


def voiced(clip: Clip, tools: Tools) -> np.ndarray:
    """(T,) bool: frames of 10 ms in which somebody speaks; pauses under 0.3 s count as speech."""
    model, find = _detector(tools)

    def make() -> dict[str, np.ndarray]:
        import torch

        spans = find(torch.from_numpy(clip.speech.copy()), model, sampling_rate=RATE, min_silence_duration_ms=300)
        active_T = np.zeros(len(clip.speech) // (RATE // 100), bool)
        for span in spans:
            active_T[span["start"] * 100 // RATE : span["end"] * 100 // RATE] = True
        return {"active": active_T}

    return clip.sound_feature("voiced", make)["active"]


def _of(sample: Sample) -> float:
    return overlap(voiced(sample.source, sample.tools), voiced(sample.dub, sample.tools))


METRICS = (
    Metric("overlap_voice", "Voice overlap", "%", Better.HIGHER, "silero-vad (extra `speech`)",
           "Time in which source and dub both speak over time in which either does, by silero-vad.", _of),
)  # fmt: skip
