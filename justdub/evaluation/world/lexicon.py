"""The likeliest words of one language that a recogniser's letters can be: Viterbi over a loop of known words.

All languages run side by side; the best path of the best language wins, so words and language are chosen together.

Legend: U steps, A letters of the recogniser (0 = blank), N letters of all words one after another, W words,
L languages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

_NEVER = np.float32(-1e9)


class Lexicon:
    """Words by language, laid out for decoding.

    Args:
        words: of each language. spell: a word as places in the recogniser's alphabet. space: the place of the space.
    """

    def __init__(self, words: Mapping[str, Sequence[str]], spell: Callable[[str], list[int]], space: int) -> None:
        self.languages = tuple(words)
        self.words = [word for language in words for word in words[language]]
        spelled = [spell(word) for word in self.words]
        lengths_W = np.array([len(letters) for letters in spelled])
        self.letter_N = np.array([letter for letters in spelled for letter in letters])
        self.last_W = np.cumsum(lengths_W) - 1
        self.first_W = self.last_W - lengths_W + 1
        self.language_W = np.repeat(np.arange(len(words)), [len(words[language]) for language in words])
        self.from_L = np.searchsorted(self.language_W, np.arange(len(words)))
        self.double_N = np.r_[False, self.letter_N[1:] == self.letter_N[:-1]]  # a blank must part equal letters
        self.space = space

    def decode(self, likely_UA: np.ndarray) -> tuple[tuple[str, ...], str]:
        """Words and language.

        Args:
            likely_UA: natural logarithms of the shares of blank and letters at each step.
        """
        likely_UA = np.asarray(likely_UA, np.float32)
        count, languages = len(self.letter_N), len(self.languages)
        said: list[tuple[int, int]] = [(-1, -1)]  # (word, what was said before it); 0 is nothing at all
        letter, pause = np.full((2, count), _NEVER)  # best score in a letter, in the blank after it
        letter_past, pause_past = np.zeros((2, count), int)  # what was said before the word
        space, gap = np.full(languages, _NEVER), np.zeros(languages, np.float32)  # in a space, in the blank after it
        space_past, gap_past = np.zeros((2, languages), int)
        for shares_A in likely_UA:
            ended, ended_past = self._ended(letter, pause, letter_past, pause_past, said)
            open_L, open_past = _better(space, space_past, gap, gap_past)
            before, before_past = np.r_[_NEVER, pause[:-1]], np.r_[0, pause_past[:-1]]
            straight = np.where(self.double_N, _NEVER, np.r_[_NEVER, letter[:-1]])
            before, before_past = _better(before, before_past, straight, np.r_[0, letter_past[:-1]])
            before[self.first_W], before_past[self.first_W] = open_L[self.language_W], open_past[self.language_W]
            pause, pause_past = _better(pause, pause_past, letter, letter_past)
            letter, letter_past = _better(letter, letter_past, before, before_past)
            space, space_past = _better(space, space_past, ended, ended_past)
            gap, gap_past = open_L + shares_A[0], open_past
            letter, pause, space = letter + shares_A[self.letter_N], pause + shares_A[0], space + shares_A[self.space]
        final, final_past = self._ended(letter, pause, letter_past, pause_past, said)
        for score, past in ((space, space_past), (gap, gap_past)):
            final, final_past = _better(final, final_past, score, past)
        language = int(final.argmax())
        words, node = [], int(final_past[language])
        while node > 0:
            word, node = said[node]
            words.append(self.words[word])
        return tuple(reversed(words)), self.languages[language]

    def _ended(self, letter, pause, letter_past, pause_past, said) -> tuple[np.ndarray, np.ndarray]:
        """(L,) the best score of a word that is over, in each language, and its entry in `said`, which is added."""
        score_W, past_W = _better(
            letter[self.last_W], letter_past[self.last_W], pause[self.last_W], pause_past[self.last_W]
        )
        bounds = [*self.from_L, len(score_W)]
        best_L = [start + int(score_W[start:end].argmax()) for start, end in pairwise(bounds)]
        entries = np.arange(len(said), len(said) + len(best_L))
        said.extend((word, int(past_W[word])) for word in best_L)
        return score_W[best_L], entries


def _better(one: np.ndarray, one_past: np.ndarray, other: np.ndarray, other_past: np.ndarray):
    """The better score at each place with what was said before."""
    wins = other > one
    return np.where(wins, other, one), np.where(wins, other_past, one_past)
