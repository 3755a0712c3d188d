"""The command line: find the verb, run it, turn errors into one line and an exit code.

Nothing heavy is imported before a verb runs; `--help` of every verb answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from justdub.cli import adapter, data, doctor, dub, eval, show, train
from justdub.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_MISSING, JustDubError, UsageError

VERBS = {
    "dub": dub,
    "train": train,
    "data": data,
    "adapter": adapter,
    "eval": eval,
    "show": show,
    "doctor": doctor,
}

EPILOG = (
    "exit codes: 0 done, 2 wrong usage, 3 bad input, 4 something missing (model, dependency), 1 a bug, 130 interrupted"
)


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong call raises `UsageError` instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        remedy = f"{self.prog} --help"
        if "expected one argument" in message:
            remedy += " (a value that begins with '-' is written --option=VALUE)"
        raise UsageError(message[:1].lower() + message[1:], remedy=remedy)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"justdub {version('justdub')}")
        raise SystemExit(EXIT_DONE)


def build_parser(prog: str = "justdub", only: str | None = None) -> Parser:
    """The whole command line, or that of one verb (`infer.py` is `justdub dub`)."""
    if only is not None:
        parser = Parser(prog=prog, description=VERBS[only].DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
        VERBS[only].add_arguments(parser)
        parser.set_defaults(run=VERBS[only].run)
        return parser
    parser = Parser(prog=prog, description="Dub video with a joint audio-visual diffusion model.", epilog=EPILOG)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for name, module in VERBS.items():
        sub = verbs.add_parser(
            name, help=module.HELP, description=module.DESCRIPTION, epilog=EPILOG, allow_abbrev=False
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def run(argv: Sequence[str] | None = None, *, prog: str = "justdub", only: str | None = None) -> int:
    """Run the command line. Returns the exit code; prints at most one line about an error."""
    try:
        arguments = build_parser(prog, only).parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
        return EXIT_DONE
    except JustDubError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing half-written was left behind", EXIT_INTERRUPTED)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return EXIT_DONE
    except ModuleNotFoundError as error:
        return _fail(f"the package {error.name!r} is not installed; try: pip install -e .", EXIT_MISSING)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = f" for {error.filename}" if error.filename else ""
            return _fail(f"the disk is full{where}; try: free some space or another output folder", EXIT_BAD_INPUT)
        raise
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or _no_memory(error):
            return _fail("out of memory; try: --memory auto, a smaller --size or a shorter clip", EXIT_MISSING)
        raise


def _no_memory(error: RuntimeError) -> bool:
    """Whether torch says that memory ran out (only torch does, so it is not imported for this)."""
    if "torch" not in sys.modules:
        return False
    from justdub.backbone.memory import is_shortage

    return is_shortage(error)


def run_process(*, prog: str = "justdub", only: str | None = None) -> int:
    """`run` as the main program: a polite request to end (SIGTERM) cleans up like Ctrl-C."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    return run(prog=prog, only=only)


def _fail(message: str, code: int) -> int:
    print(f"justdub: error: {message}", file=sys.stderr)
    return code


def main() -> NoReturn:
    """Entry point of the installed command."""
    sys.exit(run_process())


if __name__ == "__main__":
    main()
