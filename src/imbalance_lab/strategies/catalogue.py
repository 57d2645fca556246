"""Strategies by one name: what `-P strategies=` takes beside the experiment's own, and what recommendations propose."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import yaml

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.registry import REGISTRY, Entry
from imbalance_lab.strategies.slots import KEYS

COMPOSED: Mapping[str, Mapping[str, Any]] = {
    "curriculum": {"schedule": [{"for": 0.5, "sampler": "class-balanced"}, {"for": 0.5, "sampler": "natural"}]},
    "deferred": {"schedule": {"deferred": {"weights": {"effective-number": {"beta": 0.9999}}}}},
    "ldam-drw": {"loss": "ldam", "schedule": {"deferred": {"weights": {"effective-number": {"beta": 0.9999}}}}},
}
"""Strategies that need more than one entry of the registry."""


def _entries() -> dict[str, Entry]:
    """The registry by name; where two slots share one, the first has it."""
    found: dict[str, Entry] = {}
    for entry in REGISTRY:
        found.setdefault(entry.name, entry)
    return found


def catalogue() -> dict[str, Mapping[str, Any]]:
    """Strategies by name, as an experiment file writes them: every entry of the registry that needs no option."""
    plain: dict[str, Mapping[str, Any]] = {"cross-entropy": {}}
    for name, entry in _entries().items():
        if not any(field.is_required() for field in entry.options.model_fields.values()):
            plain.setdefault(name, {entry.slot: name})
    return {**plain, **COMPOSED}


def read_choice(text: str, flag: str = "--strategies") -> dict[str, Any]:
    """``a,b: {gamma: 1},c`` to names and what was given for each (None for a bare name), in order.

    Raises
    ------
    InputError
        If the text is no list of names, or names one twice.
    """
    expected = "expected names separated by commas, each with options if wanted: focal: {gamma: 1}"
    try:
        node = yaml.compose(f"{{{text}}}", Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{flag}: found {text!r} ({getattr(error, 'problem', None) or error}); {expected}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{flag}: found {text!r}; {expected}")
    loader = yaml.SafeLoader("")
    chosen: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.value.strip():
            raise InputError(f"{flag}: found {text!r}; {expected}")
        name = key.value.strip()
        if name in chosen:
            raise InputError(f"{flag}: found {name!r} twice; each may stand once")
        chosen[name] = loader.construct_object(value, deep=True)  # type: ignore[no-untyped-call]
    return chosen


def chosen_strategies(chosen: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The strategies of a choice: the experiment's ``own``, of the catalogue, or as given.

    Options given with a name are those of the registry's entry, or a whole strategy (``{loss: focal}``).

    Raises
    ------
    InputError
        If a name is neither the experiment's nor the catalogue's.
    """
    known, entries, found = catalogue(), _entries(), {}
    for name, given in chosen.items():
        if given is None:
            if name not in own and name not in known:
                allowed = [*map(str, own), *(n for n in known if n not in own)]
                near = difflib.get_close_matches(name, allowed, n=1)
                raise InputError(
                    f"{where}: unknown strategy {name!r}{f' (did you mean {near[0]!r}?)' if near else ''}; allowed are "
                    f"the experiment's {', '.join(map(str, own))}, the catalogue's "
                    f"{', '.join(n for n in known if n not in own)}, and any of them with options: name: {{...}}"
                )
            found[name] = own[name] if name in own else known[name]
        elif isinstance(given, Mapping) and given and all(k in KEYS for k in given):
            found[name] = given
        elif name in entries:
            found[name] = {entries[name].slot: {name: given}}
        else:
            raise InputError(
                f"{where}: strategy {name!r}: found {given!r}; allowed are options of a name of the catalogue, or a "
                f"strategy of {', '.join(KEYS)}"
            )
    return found
