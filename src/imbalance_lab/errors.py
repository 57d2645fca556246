"""The errors a user can cause, each one sentence that names what to change."""

import signal


class InputError(ValueError):
    """Something the user gave is wrong.

    The message names the file, row or key, what was found, and what is allowed.
    The command line prints it on stderr and exits with code 2, without a traceback.
    """


class AuditFailure(RuntimeError):
    """The audit found a fault that stops training (exit code 3)."""


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite; the message says where."""


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
