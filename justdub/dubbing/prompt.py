"""The standard dubbing prompt (JUST-DUB-IT, section "Prompt"): ``The woman is speaking French, saying: "..."``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from justdub.errors import UsageError
from justdub.media.language import language_tag

# ISO 639-1 codes and the English names that prompts use; the first five are those that the published adapters were
# validated on.
LANGUAGES: dict[str, str] = {
    "en": "English",
    "fr": "French",
    "es": "Spanish",
    "de": "German",
    "ru": "Russian",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "uk": "Ukrainian",
    "tr": "Turkish",
    "ar": "Arabic",
    "hi": "Hindi",
    "ja": "Japanese",
    "ko": "Korean",
    "zh": "Mandarin Chinese",
}
DEFAULT_SPEAKER = "The person"
_QUOTED = re.compile(
    r"\"[^\"]*\w[^\"]*\"|(?<!\w)'[^']*\w.*'(?!\w)|“[^”]*\w[^”]*”|«[^»]*\w[^»]*»|„[^“”]*\w[^“”]*[“”]", re.DOTALL
)
_SPEAKING = re.compile(r"\bspeaking\s+(\w+(?:\s\w+)?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """What the model is told.

    Attributes:
        text: the whole prompt.
        language: ISO 639-2/T tag of the dubbed sound, None when the prompt does not name a known language.
        has_dialogue: whether the prompt quotes what is to be said.
    """

    text: str
    language: str | None
    has_dialogue: bool


@dataclass(frozen=True)
class Timeline:
    """Prompts that follow each other within a clip; every one is read by its own part of it.

    Attributes:
        prompts: one or more. until: seconds at which each but the last one ends.
    """

    prompts: tuple[str, ...]
    until: tuple[float, ...] = ()

    @classmethod
    def of(cls, prompt: str | Timeline) -> Timeline:
        return prompt if isinstance(prompt, Timeline) else cls((prompt,))


def find_language(name: str) -> str:
    """The ISO 639-1 code of a language given by code (fr), tag (fra) or English name (French)."""
    wanted = name.strip().casefold()
    for code, english in LANGUAGES.items():
        if wanted in (code, language_tag(code), english.casefold(), *english.casefold().split()):
            return code
    raise UsageError(
        f"unknown language {name!r}",
        expected="one of " + ", ".join(LANGUAGES),
        remedy="--prompt, which takes the whole prompt as it is",
    )


def standard_prompt(text: str, language: str, speaker: str = DEFAULT_SPEAKER) -> Prompt:
    """Build the prompt from the translated dialogue.

    Args:
        text: what is to be said, already in the target language. Its own double quotes become single ones.
        language: code (fr), tag (fra) or English name (French).
        speaker: who speaks, as the caption of the clip would say it ("The woman", "The man on the left").
    """
    if not text.strip():
        raise UsageError("--text is empty", expected="the translated dialogue")
    if not speaker.strip():
        raise UsageError("--speaker is empty", expected="a description such as 'The woman'")
    code = find_language(language)
    dialogue = re.sub(r"[\"“”„]", "'", " ".join(text.split()))
    text = f'{speaker.strip()} is speaking {LANGUAGES[code]}, saying: "{dialogue}"'
    return Prompt(text, language_tag(code), True)


def free_prompt(prompt: str) -> Prompt:
    """Take a whole prompt as it is; find out its language and whether it quotes a dialogue."""
    text = prompt.strip()
    if not text:
        raise UsageError(
            "the prompt is empty",
            expected='a prompt such as: The woman is speaking French, saying: "Bonjour"',
            remedy="--text and --language, which build it",
        )
    tag = None
    if match := _SPEAKING.search(text):
        words = match.group(1).split()
        for candidate in (" ".join(words), words[0]):
            try:
                tag = language_tag(find_language(candidate))
                break
            except UsageError:
                continue
    return Prompt(text, tag, _QUOTED.search(text) is not None)


def choose_prompt(prompt: str | Prompt | None, text: str | None, language: str | None, speaker: str) -> Prompt:
    """The prompt of a run from what was given: a whole prompt, or dialogue and language."""
    if isinstance(prompt, Prompt):
        return prompt
    if (prompt is None) == (text is None):
        raise UsageError(
            "neither a prompt nor a text" if prompt is None else "both a prompt and a text",
            expected="--prompt PROMPT, or --text DIALOGUE --language LANGUAGE",
        )
    if prompt is not None:
        return free_prompt(prompt)
    if not language:
        raise UsageError("--text without --language", expected="the language of the text, such as --language fr")
    return standard_prompt(text or "", language, speaker)
