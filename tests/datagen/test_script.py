"""Scripts: balanced, seeded, no two alike; lines from a grammar, a table or a text model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen import script
from datagen.job import DatagenJob
from datagen.lines import TextModel, _parsed, open_lines
from datagen.prompt import Line
from datagen.script import Half, Script
from justdub import jobs
from justdub.dubbing.prompt import Timeline
from justdub.errors import BadInputError, MissingError, UsageError


def build(tree: dict[str, Any], **script_settings: Any) -> DatagenJob:
    return jobs.build(DatagenJob, tree | {"script": {"people": "world"} | script_settings, "clips": 40})


def test_every_ordered_pair_of_languages_gets_equally_many_and_none_is_said_twice(tree: dict[str, Any]) -> None:
    scripts = list(script.write(build(tree)))
    ways = Counter(tuple(half.line.language for half in one.halves) for one in scripts)
    assert len(ways) == 20 and set(ways.values()) == {2}
    assert len({tuple(half.line for half in one.halves) for one in scripts}) == 40
    assert list(script.write(build(tree))) == scripts
    for one in scripts:
        first, second = one.halves
        assert (first.other.language, second.other.language) == (second.line.language, first.line.language)


def test_the_prompt_says_both_lines_and_one_half_in_the_other_language_when_asked() -> None:
    one = Script(
        0, "The man", "Soft rain.",
        (Half(Line("en", "Yes."), Line("fr", "Oui.")), Half(Line("fr", "Non."), Line("en", "No."))),
    )  # fmt: skip
    assert one.prompt() == (
        'The man is speaking English, saying: "Yes." Then the same person is speaking French, saying: "Non." Soft rain.'
    )
    assert one.prompt(0).startswith('The man is speaking French, saying: "Oui." Then')
    assert 'speaking English, saying: "No."' in one.prompt(1)
    assert "speaking French loudly, saying" in one.prompt(0, manner="loudly")
    assert one.half_prompt(1) == 'The man is speaking French, saying: "Non." Soft rain.'
    apart = one.prompt(0, manner="loudly", switch=2.5)
    assert apart == Timeline(
        (
            'The man is speaking French loudly, saying: "Oui." Soft rain.',
            'The man is speaking French, saying: "Non." Soft rain.',
        ),
        (2.5,),
    )
    assert Script.of({"number": 0} | json.loads(json.dumps(one.plain()))) == one


def test_lines_come_from_a_table(tree: dict[str, Any], tmp_path: Path) -> None:
    table = tmp_path / "lines.csv"
    table.write_text("en,French,note\nYes.,Oui.,a\nNo.,Non.,b\nPlease.,S'il vous plaît.,c\n", encoding="utf-8")
    job = jobs.build(DatagenJob, tree | {"script": {"languages": ["en", "fr"], "lines": str(table)}, "clips": 8})
    said = {half.line.text for one in script.write(job) for half in one.halves}
    assert said <= {"Yes.", "Oui.", "No.", "Non.", "Please.", "S'il vous plaît."} and len(said) > 3
    more = jobs.build(DatagenJob, tree | {"script": {"languages": ["en", "fr"], "lines": str(table)}, "clips": 500})
    with pytest.raises(BadInputError, match="different scripts could be made"):
        list(script.write(more))


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("none.csv", None, MissingError, "no lines at"),
        ("empty.csv", "", BadInputError, "holds no lines"),
        ("one.csv", "en,fr\nYes.,Oui.\n", BadInputError, "fewer than two lines in English"),
        ("other.csv", "en,de\nYes.,Ja.\nNo.,Nein.\n", BadInputError, "fewer than two lines in French"),
        ("bad.jsonl", "{", BadInputError, "cannot be read"),
        ("list.jsonl", "[1]\n", BadInputError, "row 1 has no columns"),
        ("lines.txt", "Yes.", BadInputError, "is no table of lines"),
        ("number.jsonl", '{"en": 1, "fr": "x"}\n', BadInputError, "expected a text"),
    ],
)
def test_bad_tables_get_one_line(tmp_path: Path, name: str, content: str | None, error: type, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(error, match=words) as found:
        open_lines(str(tmp_path / name), ("en", "fr"), "adapters")
    assert "\n" not in str(found.value)


def test_unknown_languages_and_few_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unknown language 'xx'"):
        build(tree, languages=["en", "xx"])
    with pytest.raises(UsageError, match="two languages"):
        build(tree, languages=["en", "English"])
    with pytest.raises(UsageError, match="the grammar has no Italian"):
        list(script.write(build(tree, languages=["en", "it"])))


def test_a_text_model_that_talks_nonsense_is_refused_and_answers_are_parsed(tmp_path: Path) -> None:
    assert _parsed('Sure: {"en": "Yes.", "fr": "Oui."} bye', "en", "fr") == (Line("en", "Yes."), Line("fr", "Oui."))
    assert _parsed('{"en": "Yes."}', "en", "fr") is None and _parsed("no", "en", "fr") is None
    with pytest.raises(BadInputError, match="is no text model"):
        TextModel(tmp_path)
    import numpy as np
    from transformers import LlamaConfig, LlamaForCausalLM

    from justdub.backbone.untrained import byte_tokenizer

    config = LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer(512).save_pretrained(tmp_path)
    with pytest.raises(BadInputError, match="something else than lines"):
        open_lines(str(tmp_path), ("en", "fr"), "adapters").draw(np.random.default_rng(0), "en", "fr", "man")
