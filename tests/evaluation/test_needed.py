"""What a metric lacks is said whole: whoever follows the line has the number."""

from __future__ import annotations

from pathlib import Path

import pytest

from justdub.errors import BadInputError, MissingError
from justdub.evaluation import registry
from justdub.evaluation.cache import Cache
from justdub.evaluation.metric import NotComputed
from justdub.evaluation.needed import need
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools

EXAMPLE = Path(__file__).parents[2] / "justdub" / "examples" / "clip.mp4"


def lacking(found: str, remedy: str) -> None:
    raise MissingError(found, remedy=remedy)


def test_what_is_there_is_returned() -> None:
    assert need(lambda: 1, lambda: "two") == [1, "two"]


def test_everything_that_is_missing_is_one_line() -> None:
    checks = (
        lambda: lacking("no a", "get a"),
        lambda: 1,
        lambda: lacking("no b", "get b"),
        lambda: lacking("no a", "get a"),
    )
    with pytest.raises(MissingError) as caught:
        need(*checks)
    assert (caught.value.found, caught.value.remedy) == ("no a; no b", "get a and get b")


def test_a_wrong_file_is_not_a_missing_one() -> None:
    def wrong() -> None:
        raise BadInputError("a is damaged")

    with pytest.raises(BadInputError):
        need(lambda: lacking("no b", "get b"), wrong)


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("wer", ("--texts", "--weights whisper=PATH")),
        ("cer", ("--texts", "--weights whisper=PATH")),
        ("wer_en", ("--texts", "justdub[asr-lite]")),
        ("csim", ("--weights arcface=PATH", "justdub[face]")),
        ("lse_c", ("--weights syncnet=PATH", "justdub[face]")),
        ("spk_sim", ("--voices", "resemblyzer")),
        ("emo_acc", ("--weights emotion_classes=PATH", "emotion_labels")),
        ("dnsmos", ("--weights dnsmos=PATH", "onnxruntime")),
        ("lips_sound", ("justdub[face]",)),
        ("overlap_voice", ("justdub[speech]",)),
        ("v_sim", ("resemblyzer",)),
    ],
)
def test_every_need_of_a_metric_is_named(key: str, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without any optional package."""
    import sys

    from justdub.evaluation import faces, weights
    from justdub.evaluation.metrics import speaker

    monkeypatch.setattr(faces, "identity", lambda: "none")
    monkeypatch.setattr(speaker, "find_spec", lambda name: None)
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    for name in ("pocketsphinx", "silero_vad"):
        monkeypatch.setitem(sys.modules, name, None)
    clip = Clip(EXAMPLE, Cache(None))
    outcome = registry.chosen((key,))[0].measure(Sample("a", clip, clip, Tools()))
    assert isinstance(outcome, NotComputed)
    assert all(part in outcome.remedy for part in parts), outcome.remedy
