"""Word and character errors of what a Whisper of the user's hears in the dub, per language, after normalisation.

Radford et al. 2022: texts are compared without case, punctuation and fillers; English also with one spelling and
numbers as digits (their normaliser, as transformers has it; the spelling list comes with the Whisper folder).

Legend: S samples.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.needed import need
from justdub.evaluation.sample import RATE, Sample
from justdub.evaluation.tools import Tools

_LONGEST = 30  # seconds that Whisper hears at once
NO_SPACES = {"zh", "ja", "th", "lo", "my", "km"}  # written without spaces: every character is a word


def normalise(text: str, language: str, spelling: dict[str, str] | None = None) -> str:
    """Lower case, no punctuation, single spaces; English in Whisper's full normalisation."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    text = unicodedata.normalize("NFKC", text)
    if language == "en":
        return EnglishTextNormalizer(spelling or {})(text).strip()
    return " ".join(BasicTextNormalizer(split_letters=language in NO_SPACES)(text).split())


def error_rate(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Percent: insertions, deletions and substitutions over what is wanted; above 100 if much was added."""
    from justdub.evaluation.world.words import distance

    if not wanted:
        raise BadInputError("the reference text is empty after normalisation")
    return 100 * distance(said, wanted) / len(wanted)


class Whisper:
    """A Whisper folder of the user's in transformers' layout, safetensors only, never from a network.

    Raises:
        BadInputError: not such a folder. MissingError: a file of it is not there.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        if not folder.is_dir():
            raise BadInputError(f"{folder} is no folder", expected="a Whisper folder in transformers' layout")
        if not list(folder.glob("*.safetensors")):
            raise MissingError(f"{folder} has no .safetensors", remedy="save the model with save_pretrained")
        try:
            self.processor: Any = WhisperProcessor.from_pretrained(folder, local_files_only=True)
            self.net: Any = WhisperForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except Exception as error:  # transformers raises many kinds for a folder that is not one
            raise BadInputError(f"{folder}: no Whisper that can be loaded: {str(error).splitlines()[0]}") from error
        self.net = self.net.eval().to(device)
        self.spelling = getattr(self.processor.tokenizer, "english_spelling_normalizer", None) or {}

    def hear(self, speech_S: np.ndarray, language: str) -> str:
        """What is said in 16 kHz sound, in parts of 30 s."""
        import torch

        texts = []
        for start in range(0, len(speech_S), _LONGEST * RATE):
            part = speech_S[start : start + _LONGEST * RATE]
            features = self.processor(part, sampling_rate=RATE, return_tensors="pt").input_features
            told = {"language": language, "task": "transcribe"} if self._multilingual() and language else {}
            with torch.inference_mode():
                tokens = self.net.generate(features.to(self.net.device), do_sample=False, num_beams=1, **told)
            texts += self.processor.batch_decode(tokens, skip_special_tokens=True)
        return " ".join(text.strip() for text in texts)

    def _multilingual(self) -> bool:
        return bool(getattr(self.net.generation_config, "is_multilingual", False))


def _whisper(tools: Tools) -> Whisper:
    path = tools.path("whisper")
    return tools.model("whisper", lambda: Whisper(path, tools.device))


def wanted_text(sample: Sample) -> tuple[str, str]:
    """(text, language); raises MissingError where the run was not told."""
    if not sample.text:
        raise MissingError("no text was given for this clip", remedy="--texts FILE.csv (columns name, text, language)")
    if not sample.language:
        raise MissingError("no language was given for this clip", remedy="--language CODE, or a column `language`")
    return sample.text, sample.language


def heard(sample: Sample) -> str:
    """What Whisper hears in the dub, kept by content."""
    model = _whisper(sample.tools)
    config = Path(sample.tools.weights.whisper) / "model.safetensors"
    stamp = config.stat().st_size if config.exists() else 0

    def make() -> dict[str, np.ndarray]:
        return {"text": np.array(model.hear(sample.dub.speech, sample.language))}

    found = sample.dub.sound_feature("whisper", make, sample.tools.weights.whisper, stamp, sample.language)
    return str(found["text"])


def _rate(sample: Sample, letters: bool) -> float:
    (text, language), whisper = need(lambda: wanted_text(sample), lambda: _whisper(sample.tools))
    said, wanted = (normalise(words, language, whisper.spelling) for words in (heard(sample), text))
    if letters:
        return error_rate(said.replace(" ", ""), wanted.replace(" ", ""))
    return error_rate(said.split(), wanted.split())


_NEEDS = "Whisper weights, texts and languages"

METRICS = (
    Metric("wer", "WER", "%", Better.LOWER, _NEEDS,
           "Word errors of Whisper's transcript over the words of the text, both normalised; in languages without "
           "spaces every character is a word.", lambda s: _rate(s, letters=False)),
    Metric("cer", "CER", "%", Better.LOWER, _NEEDS, "The same of characters without spaces.",
           lambda s: _rate(s, letters=True)),
)  # fmt: skip
