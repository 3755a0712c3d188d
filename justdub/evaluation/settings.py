"""Settings of one evaluation: a YAML file, or the options of the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from justdub.evaluation.tools import Weights

CONTROLS = ("source", "other dub", "other sound")


@dataclass(frozen=True)
class EvalSettings:
    """What is compared, with what, and where the results go.

    Attributes:
        source, dubbed: folders; clips belong together by their names without the ending.
        output: folder of results.json, clips.csv, summary.csv and page.html.
        name: of the system, in tables.
        texts: .csv or .tsv with a header: name, text, and if known language, difficulty, emotion.
        language: code of the dubs' language where `texts` has none.
        truth: folder of true recordings of the lines, in the dub's language (may be `source`). voices: of timbre
            prompts. stems: of clean speech of each dub. masks: of pictures or clips, white in the face.
        features: two folders of .npy, of source and dub.
        metrics: keys of those to compute, () for all.
        controls: rows beside the system: "source" (the source as its own dub), "other dub" (the dub of another clip),
            "other sound" (the dub's picture with another dub's sound).
        weights: files of the user's. emotion_labels: classes of `weights.emotion_classes`.
        longest: pixels of the longer side at which pictures are compared.
        clips: at most so many, drawn by `seed`; 0 for all. resamples: of the intervals.
        cache: folder of kept features, "" for OUTPUT/cache.
        protocol, timbre: labels of the setting; timbre is self (the true line is the prompt: leaks), other (another
            clip of the speaker), unseen (a speaker of another set) or none.
        literature: tables of published numbers to print beside ours.
        worst: clips with players on the page. device: of torch.
    """

    source: str
    dubbed: str
    output: str
    name: str = "dubbed"
    texts: str = ""
    language: str = ""
    truth: str = ""
    voices: str = ""
    stems: str = ""
    masks: str = ""
    features: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    controls: tuple[str, ...] = CONTROLS
    weights: Weights = field(default_factory=Weights)
    emotion_labels: tuple[str, ...] = ()
    longest: int = 640
    clips: int = 0
    seed: int = 0
    resamples: int = 2000
    cache: str = ""
    protocol: str = ""
    timbre: str = ""
    literature: tuple[str, ...] = ()
    worst: int = 10
    device: str = "cpu"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
