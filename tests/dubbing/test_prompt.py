from __future__ import annotations

import pytest

from justdub.dubbing.prompt import LANGUAGES, free_prompt, standard_prompt
from justdub.errors import UsageError
from justdub.media import language_tag


def test_the_standard_form() -> None:
    prompt = standard_prompt("Bonjour, ça va ?", "fr", "The woman")
    assert prompt.text == 'The woman is speaking French, saying: "Bonjour, ça va ?"'
    assert (prompt.language, prompt.has_dialogue) == ("fra", True)


@pytest.mark.parametrize("code", list(LANGUAGES))
def test_every_language_by_code_tag_and_name(code: str) -> None:
    english, tag = LANGUAGES[code], language_tag(code)
    for name in (code, tag, english, english.upper()):
        assert standard_prompt("x", name).language == tag
    assert free_prompt(f'The man is speaking {english}, saying: "x"').language == tag


def test_quotes_in_the_dialogue_cannot_end_it() -> None:
    assert standard_prompt('He said "no".', "en").text.endswith("saying: \"He said 'no'.\"")


@pytest.mark.parametrize(("text", "language"), [("", "fr"), ("  ", "fr"), ("x", "klingon"), ("x", "")])
def test_refusals(text: str, language: str) -> None:
    with pytest.raises(UsageError):
        standard_prompt(text, language)


def test_a_free_prompt_is_taken_as_it_is() -> None:
    text = "A man talks.  He is speaking German with an accent, saying: 'Guten Tag'"
    prompt = free_prompt(text)
    assert (prompt.text, prompt.language, prompt.has_dialogue) == (text, "deu", True)


@pytest.mark.parametrize("text", ["The woman sings", 'He says: ""', "It's fine, isn't"])
def test_no_dialogue_is_noticed(text: str) -> None:
    assert not free_prompt(text).has_dialogue


@pytest.mark.parametrize("quotes", ['"{}"', "'{}'", "“{}”", "«{}»", "„{}“"])
def test_dialogue_in_any_quotes(quotes: str) -> None:
    assert free_prompt("She says: " + quotes.format("Привет")).has_dialogue


def test_empty_prompt() -> None:
    with pytest.raises(UsageError, match="empty"):
        free_prompt("  \n")
