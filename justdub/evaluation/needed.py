"""All that a metric lacks, said at once: the line that enables it, not the first of three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from justdub.errors import MissingError


def need(*checks: Callable[[], Any]) -> list[Any]:
    """What the checks return; raises one MissingError of all that raised one."""
    found, lacking = [], []
    for check in checks:
        try:
            found.append(check())
        except MissingError as error:
            lacking.append(error)
    if lacking:
        reasons = dict.fromkeys(error.found for error in lacking)
        remedies = dict.fromkeys(error.remedy for error in lacking if error.remedy)
        raise MissingError("; ".join(reasons), remedy=" and ".join(remedies))
    return found
