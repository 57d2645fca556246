"""``python -m mlflow_project <command>``: what the entry points of MLproject call."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import re
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

_COMMANDS = {
    "run": "audit the data, train every strategy x seed, analyse, compare",
    "audit": "audit the data only",
    "train": "train one strategy with one seed",
    "analyze": "error analysis of a run or of a predictions table",
    "evaluate": "a trained model on new data: the error analysis, and what changed",
    "interpret": "interpretation of a trained run",
    "compare": "compare runs that carry predictions",
    "promote": "register the chosen model",
    "strategies": "list the strategies, one line each",
}
_OF_THE_LIBRARY = {"strategies": "imbalance_lab.strategies.language.listing"}  # commands that need no MLflow


class _Parser(argparse.ArgumentParser):
    """Errors in one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def own_library_first(package: Path) -> None:
    """Let ``imbalance_lab`` come from the checkout that ``package`` lies in, here and in processes that are started.

    MLflow names an environment by its requirements, so that two clones share one, in which the library is installed
    from the first: another clone would run with its code, or with none once that folder is gone. An installed package
    has no ``src`` beside it.
    """
    source = package.parent / "src"
    if not (source / "imbalance_lab" / "__init__.py").is_file() or str(source) in sys.path[:1]:
        return
    sys.path.insert(0, str(source))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))


def module_of(command: str) -> str:
    """The module that holds the flags and the work of a command."""
    return _OF_THE_LIBRARY.get(command, f"mlflow_project.commands.{command}")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 bad input, 3 failed audit, 1 anything else that failed)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _Parser(prog="python -m mlflow_project", description="Imbalanced classification with MLflow.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    modules = {}
    for name, about in _COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about.capitalize() + ".")
        if argv[:1] == [name]:  # only the command that is used is imported: --help stays fast
            modules[name] = importlib.import_module(module_of(name))
            modules[name].add_arguments(sub)
    arguments = parser.parse_args(argv)
    from imbalance_lab.addresses import without_secrets
    from imbalance_lab.errors import AuditFailure, InputError, Stopped
    from imbalance_lab.processes import stoppable
    from imbalance_lab.run.launched import beside_store

    try:
        with stoppable(), beside_store():
            code = int(modules[arguments.command].main(arguments))
        sys.stdout.flush()  # a reader that has left is noticed here, not when Python ends
        return code
    except InputError as error:
        print(without_secrets(f"imbalance-lab: {error}"), file=sys.stderr)
        return 2
    except AuditFailure as error:
        print(without_secrets(f"imbalance-lab: {error}"), file=sys.stderr)
        return 3
    except KeyboardInterrupt as error:
        what = str(error) or "interrupted"
        print(without_secrets(f"imbalance-lab: {what}{_notes(error)}"), file=sys.stderr)
        return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _unread():
            notes = _notes(error)
            sys.stderr.write(without_secrets(f"imbalance-lab: nobody reads the output{notes}\n") if notes else "")
            return 128 + signal.SIGPIPE
        said = trouble(error)
        text = f"imbalance-lab: {said}{_notes(error)}\n" if said else traceback.format_exc()
        sys.stderr.write(without_secrets(text))
        return 1


def trouble(error: BaseException) -> str:
    """One sentence where a disk or the tracking store is at fault, "" where the program is."""
    from mlflow.exceptions import INVALID_PARAMETER_VALUE, ErrorCode, MlflowException
    from requests import RequestException
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as NoConnection

    refused = ErrorCode.Name(INVALID_PARAMETER_VALUE)  # what the store was told is wrong, not the store
    at: BaseException | None = error
    store, reason = False, str(error)
    while at is not None:
        if isinstance(at, OSError) and (said := _of_disk(at)):
            return said
        store |= isinstance(at, (DBAPIError, NoConnection, RequestException))
        if isinstance(at, DBAPIError):  # its own text begins with what SQLAlchemy was about to do
            reason = str(at.orig)
        store |= isinstance(at, MlflowException) and at.error_code != refused
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    if not store:
        return ""
    from mlflow_project.tracking import tracking_uri

    return f"the tracking store {tracking_uri()} failed ({reason.splitlines()[0] if reason else repr(error)})"


_DISK = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "no space is left",
    errno.EFBIG: "no file may be so large",
    errno.EROFS: "cannot be written to",
    errno.EACCES: "cannot be opened",
    errno.EPERM: "cannot be opened",
    errno.EIO: "cannot be read or written",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}
_SHORT = re.compile(r"\d+ requested and \d+ written")  # what NumPy says of a full disk, without a number of the system


def _of_disk(error: OSError) -> str:
    """One sentence on what a disk refused, "" where it is none of that."""
    if error.errno in _DISK:
        return f"{_DISK[error.errno]}: {error.filename or 'the disk'} ({error.strerror})"
    return f"no space is left: the disk ({error})" if _SHORT.search(str(error)) else ""


def _unread() -> bool:
    """Whether the reader of our output has left, as ``head`` does; from then on it goes nowhere."""
    try:
        watch, output = select.poll(), sys.stdout.fileno()
        watch.register(output, 0)
        if not any(state & select.POLLERR for _, state in watch.poll(0)):
            return False
    except (OSError, ValueError, AttributeError):  # no file, or a system without poll
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # Python flushes once more when it ends
    return True


def _notes(error: BaseException) -> str:
    """What the error was told on its way, such as the command that goes on."""
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


if __name__ == "__main__":
    own_library_first(Path(__file__).resolve().parent)
    sys.exit(main())
