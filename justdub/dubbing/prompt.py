"""The standard dubbing prompt (JUST-DUB-IT, section "Prompt"): ``The woman is speaking French, saying: "..."``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from justdub.errors import UsageError

# English names, as the prompts of the paper spell them; codes are ISO 639-1, tags of the audio track ISO 639-2/T.
# The first five are the languages that the published adapters were validated on.
LANGUAGES: dict[str, tuple[str, str]] = {
    "en": ("English", "eng"),
    "fr": ("French", "fra"),
    "es": ("Spanish", "spa"),
    "de": ("German", "deu"),
    "ru": ("Russian", "rus"),
    "it": ("Italian", "ita"),
    "pt": ("Portuguese", "por"),
    "nl": ("Dutch", "nld"),
    "pl": ("Polish", "pol"),
    "uk": ("Ukrainian", "ukr"),
    "tr": ("Turkish", "tur"),
    "ar": ("Arabic", "ara"),
    "hi": ("Hindi", "hin"),
    "ja": ("Japanese", "jpn"),
    "ko": ("Korean", "kor"),
    "zh": ("Mandarin Chinese", "zho"),
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


def language_entry(name: str) -> tuple[str, str]:
    """(English name, ISO 639-2/T tag) of a language given by code, tag or English name."""
    wanted = name.strip().casefold()
    for code, (english, tag) in LANGUAGES.items():
        if wanted in (code, tag, english.casefold()) or (code == "zh" and wanted in ("chinese", "mandarin")):
            return english, tag
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
    english, tag = language_entry(language)
    dialogue = re.sub(r"[\"“”„]", "'", " ".join(text.split()))
    return Prompt(f'{speaker.strip()} is speaking {english}, saying: "{dialogue}"', tag, True)


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
                tag = language_entry(candidate)[1]
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
