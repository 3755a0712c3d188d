"""The tree of errors that a user can cause, and the exit code of each.

Every error says what was found, what was expected and what to try, in one line. Anything else that escapes is a bug
(exit code 1) and keeps its traceback.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_BAD_INPUT = 3
EXIT_MISSING = 4
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


class JustDubError(Exception):
    """Base of all errors with a remedy.

    Args:
        found: what was found, naming the value or the file.
        expected: what would have been right.
        remedy: the next thing to try.
    """

    exit_code = EXIT_BUG

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(found)

    def __str__(self) -> str:
        parts = [self.found]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.remedy:
            parts.append(f"try: {self.remedy}")
        return " ".join("; ".join(parts).split())


class UsageError(JustDubError):
    """The command line or the arguments make no sense (exit code 2)."""

    exit_code = EXIT_USAGE


class BadInputError(JustDubError):
    """A file or a value of the user's cannot be used (exit code 3)."""

    exit_code = EXIT_BAD_INPUT


class MissingError(JustDubError):
    """A model, an adapter, a program or a package that the job needs is not there (exit code 4)."""

    exit_code = EXIT_MISSING
