"""Torch and its friends, set up before they are imported."""

from __future__ import annotations

import os
import warnings


def prepare() -> None:
    """Set up what torch and its friends read when they are imported.

    Waiting OpenMP threads sleep instead of spinning: beside any other busy process a dub is then several times faster.
    Warnings of libraries are for developers; JUSTDUB_WARNINGS=1 shows them.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if os.environ.get("JUSTDUB_WARNINGS") != "1":
        warnings.filterwarnings("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
