"""What was said, and in which language: letters by CTC, read as words of the world's lexicon.

Legend: B batch, T mel frames, M mel bins, U output steps, A alphabet (0 = blank), S samples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from justdub.evaluation.world.lexicon import Lexicon
from justdub.evaluation.world.nets import TimeTower
from justdub.evaluation.world.sound import BINS, log_mel, scaled

ALPHABET = " abcdefghijklmnopqrstuvwxyzßàáâäçèéêíñóöùüœабвгдежзийклмнопрстуфхцчшщъыьэюяё'-"
_WORD = re.compile(r"[\w'-]+")


@dataclass(frozen=True)
class WordsSettings:
    """Shape of the net: 100 / `stride` steps per second."""

    width: int = 192
    dilations: tuple[int, ...] = (1, 2, 3, 1, 2, 4)
    stride: int = 2


@dataclass(frozen=True)
class Hearing:
    """letters: as recognised, whatever words there are. words: the likeliest ones of the lexicon, all of `language`."""

    letters: str
    words: tuple[str, ...]
    language: str


class WordsNet(nn.Module):
    """Log-mel (B, T, M), nat -> logits (B, U, A) of blank and letters."""

    def __init__(self, settings: WordsSettings) -> None:
        super().__init__()
        self.tower = TimeTower(BINS, settings.width, len(ALPHABET) + 1, settings.dilations, settings.stride)

    def forward(self, mel_BTM: Tensor) -> Tensor:
        return self.tower(scaled(mel_BTM))


def words_of(text: str) -> tuple[str, ...]:
    """The words of a sentence: lower case, no punctuation."""
    return tuple(_WORD.findall(text.lower().replace("’", "'")))


def indices(text: str) -> list[int]:
    """A sentence as places in the alphabet, words parted by one space."""
    return [1 + ALPHABET.index(letter) for letter in " ".join(words_of(text))]


def greedy(likely_UA: np.ndarray) -> str:
    """The best letter of each step, repetitions and blanks removed."""
    best_U = likely_UA.argmax(1)
    kept = [best for step, best in enumerate(best_U) if best and (step == 0 or best != best_U[step - 1])]
    return " ".join("".join(ALPHABET[place - 1] for place in kept).split())


def distance(one: Sequence, other: Sequence) -> int:
    """Levenshtein distance: insertions, deletions and substitutions that turn one sequence into the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


class WordJudge:
    """The trained recogniser with its lexicon: the words of each language."""

    def __init__(self, net: WordsNet, lexicon: Mapping[str, Sequence[str]]) -> None:
        self.net, self.lexicon = net.eval(), Lexicon(lexicon, indices, 1 + ALPHABET.index(" "))

    def hear(self, samples_S: np.ndarray) -> Hearing:
        """float32 (S,) at 16 kHz, full scale 1."""
        return self.read(log_mel(samples_S))

    @torch.inference_mode()
    def read(self, mel_TM: np.ndarray) -> Hearing:
        """As `hear`, of a spectrogram in nat."""
        likely_UA = self.net(torch.as_tensor(np.asarray(mel_TM, np.float32))[None])[0].log_softmax(-1).numpy()
        return Hearing(greedy(likely_UA), *self.lexicon.decode(likely_UA))
