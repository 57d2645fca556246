"""Options that are named in a file, checked against the signature of what takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from imbalance_lab.errors import InputError


def check_options(function: Callable[..., Any], options: Mapping[str, Any], key: str, given: int = 0) -> None:
    """Refuse options that ``function`` has no parameter for, and the lack of one that it needs.

    Parameters
    ----------
    given : leading parameters that are no options

    Raises
    ------
    InputError
        Naming the option and what is allowed.
    """
    parameters = list(inspect.signature(function).parameters.values())[given:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    allowed = ", ".join(known) or "no option"
    for name in options:
        if name not in known and not open_ended:
            raise InputError(f"{key}: found unknown option {name!r}; allowed: {allowed}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"{key}: found no {name!r}, which has no default; allowed: {allowed}")
