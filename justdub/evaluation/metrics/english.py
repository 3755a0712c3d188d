"""English word errors by pocketsphinx, whose wheel carries a model (extra `asr-lite`).

A small recogniser of clear studio speech: good for comparing systems, not for stating how well one is understood.

Legend: S samples.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import MissingError
from justdub.evaluation.metric import Better, Metric, NotComputed
from justdub.evaluation.metrics.words import error_rate, normalise, wanted_text
from justdub.evaluation.needed import need
from justdub.evaluation.sample import RATE, Sample
from justdub.evaluation.tools import Tools


def _decoder(tools: Tools):
    def load():
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise MissingError("needs pocketsphinx", remedy="pip install 'justdub[asr-lite]'") from error
        return Decoder(samprate=RATE, loglevel="FATAL")

    return tools.model("pocketsphinx", load)


def hear(decoder, speech_S: np.ndarray) -> str:
    """What is said in 16 kHz English speech."""
    loud = speech_S / max(np.abs(speech_S).max(), 1e-6) * 0.7
    decoder.start_utt()
    decoder.process_raw((loud * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr if found else ""


def _of(sample: Sample) -> float | NotComputed:
    if sample.text and sample.language and sample.language != "en":
        return NotComputed(f"the line is in {sample.language!r}, pocketsphinx hears English only")
    (text, _), decoder = need(lambda: wanted_text(sample), lambda: _decoder(sample.tools))

    def make() -> dict[str, np.ndarray]:
        return {"text": np.array(hear(decoder, sample.dub.speech))}

    said = str(sample.dub.sound_feature("pocketsphinx", make)["text"])
    return error_rate(normalise(said, "en").split(), normalise(text, "en").split())


METRICS = (
    Metric("wer_en", "WER, small English recogniser", "%", Better.LOWER, "pocketsphinx (extra `asr-lite`), texts",
           "Word errors of pocketsphinx's transcript over the words of the text, both normalised as for WER.", _of),
)  # fmt: skip
