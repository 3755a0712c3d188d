"""Scores on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from justdub.evaluation.world import scores
from justdub.evaluation.world.lexicon import Lexicon
from justdub.evaluation.world.sound import envelope
from justdub.evaluation.world.sync import REACH, curve
from justdub.evaluation.world.table import COLUMNS, Clip, Scores, markdown, shuffled, summary
from justdub.evaluation.world.words import ALPHABET, distance, greedy, indices, words_of

LEXICON = {"en": ["the", "cat", "sleeps"], "fr": ["le", "chat", "dort", "j'ai"]}


@pytest.mark.parametrize(
    ("said", "wanted", "accuracy"),
    [("a b c", "a b c", 1), ("a c", "a b c", 2 / 3), ("a x c d", "a b c", 1 / 3), ("x y z u", "a", 0), ("", "a", 0)],
)
def test_word_accuracy_counts_errors_and_stays_above_zero(said, wanted, accuracy):
    assert scores.word_accuracy(said.split(), wanted.split()) == pytest.approx(accuracy)


def test_distance_of_letters():
    assert [distance("kitten", "sitting"), distance("", "ab"), distance("ab", "ab")] == [3, 2, 0]


def test_words_of_a_sentence_have_no_capitals_and_no_punctuation():
    assert words_of("¿Dónde está, «Ёж»? J’ai donne-moi.") == ("dónde", "está", "ёж", "j'ai", "donne-moi")


def test_greedy_decoding_drops_blanks_and_repetitions():
    places = [0, *indices("aa")[:1], *indices("a"), 0, *indices("a"), *indices("b")]
    assert greedy(np.eye(len(ALPHABET) + 1)[places]) == "aab"


def likely(letters: str, sure: float = 0.9) -> np.ndarray:
    """What a recogniser might give for these letters, a blank after each."""
    shares = np.full((2 * len(letters), len(ALPHABET) + 1), (1 - sure) / len(ALPHABET))
    for place, letter in enumerate(letters):
        shares[2 * place, 1 + ALPHABET.index(letter)] = shares[2 * place + 1, 0] = sure
    return np.log(shares)


@pytest.mark.parametrize(
    ("letters", "words", "language"),
    [
        ("le chat dort", "le chat dort", "fr"),
        ("le chxt dor", "le chat dort", "fr"),
        ("the kat sleps", "the cat sleeps", "en"),
        ("thecat sleeps", "the cat sleeps", "en"),
        ("j'ai", "j'ai", "fr"),
    ],
)
def test_letters_are_read_as_words_of_one_language(letters, words, language):
    assert Lexicon(LEXICON, indices, 1).decode(likely(letters)) == (tuple(words.split()), language)


def test_silence_is_no_word():
    shares = np.full((20, len(ALPHABET) + 1), 1e-4)
    shares[:, 0] = 0.99
    assert Lexicon(LEXICON, indices, 1).decode(np.log(shares))[0] == ()


def test_correlation_of_something_constant_is_zero():
    assert scores.correlation(np.arange(5), 3 - 2 * np.arange(5)) == pytest.approx(-1)
    assert scores.correlation(np.ones(5), np.arange(5)) == 0


def test_only_speech_counts():
    level = np.array([0, 0, 1, 3, 2, 3, 1, 0, 0.0])
    opening = np.array([9, 9, 1, 3, 2, 3, 1, 9, 9.0])
    assert scores.speech(level) == slice(2, 7)
    assert scores.lips_and_sound(opening, level) == pytest.approx(1)
    assert scores.lips_and_articulation(opening, -opening, level) == pytest.approx(-1)


def test_envelope_follows_a_tone_switched_on():
    samples = np.zeros(16000)
    samples[8000:] = np.sin(np.arange(8000))
    level = envelope(samples, 25)
    assert level[:11].max() == 0
    assert level[15:23] == pytest.approx(np.sqrt(0.5), abs=0.01)


@pytest.mark.parametrize("late", [-7, -2, 0, 3, 7])
def test_the_curve_peaks_where_the_sound_is_moved_to(late):
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((49, 16))
    heard = np.roll(seen, late, axis=0)
    assert curve(seen, heard, np.ones(49)).argmax() - REACH == late


def test_shuffling_pairs_each_picture_with_another_sentence():
    clips = [Clip(np.zeros(1), np.full(1, n), text, "en") for n, text in enumerate("aab")]
    assert [clip.samples[0] for clip in shuffled(clips)] == [2, 2, 0]
    assert shuffled(clips[:2]) == []


def test_a_table_leaves_cells_empty_where_nothing_applies():
    found = [
        Scores(("a",), accuracy, True, 0.5, 0.6, offset, 0.1, None, None) for accuracy, offset in ((1, 0), (0, -4))
    ]
    row = summary(found)
    assert list(row) == list(COLUMNS)
    assert (row["word_accuracy"], row["sync_within_1"], row["offset"]) == (0.5, 0.5, 2.0)
    assert np.isnan(row["voice"])
    assert (
        markdown({"truth": row}).splitlines()[2]
        == "| truth | 2 | 50.0 % | 100.0 % | 0.50 | 0.60 | 50.0 % | 2 | 0.10 |  |  |"
    )
