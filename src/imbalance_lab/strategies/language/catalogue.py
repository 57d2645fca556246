"""Strategies by one name: what `-P strategies=` takes beside the experiment's own, and what recommendations propose."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import yaml

from imbalance_lab.errors import InputError
from imbalance_lab.plain_yaml import plain_nodes
from imbalance_lab.strategies.language.registry import REGISTRY, Entry
from imbalance_lab.strategies.language.slots import HEAD_SLOTS, KEYS, SLOTS, StrategySpec

_FLAG = "--strategies"

COMPOSED: Mapping[str, Mapping[str, Any]] = {
    "curriculum": {"schedule": [{"for": 0.5, "sampler": "class-balanced"}, {"for": 0.5, "sampler": "natural"}]},
    "deferred": {"schedule": {"deferred": {"weights": {"effective-number": {"beta": 0.9999}}}}},
    "gradient-boosting": {"table": {"plain": {"classifier": "gradient-boosting"}}},
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


def read_choice(text: str) -> dict[str, Any]:
    """``a,b: {gamma: 1},c`` to names and what was given for each (None for a bare name), in order.

    Raises
    ------
    InputError
        If the text is no list of names, or names one twice.
    """
    expected = "expected names separated by commas, each with options if wanted: focal: {gamma: 1}"
    try:
        node = plain_nodes(f"{{{text}}}", _FLAG)
    except InputError as error:
        raise InputError(
            f"{_FLAG}: found {text[:200]!r} ({str(error).removeprefix(_FLAG).lstrip(', :')}); {expected}"
        ) from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{_FLAG}: found {text!r}; {expected}")
    loader = yaml.SafeLoader("")
    chosen: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.value.strip():
            raise InputError(f"{_FLAG}: found {text!r}; {expected}")
        name = key.value.strip()
        if name in chosen:  # written in two ways: with blanks, and without
            raise InputError(f"{_FLAG}: found {name!r} twice; each may stand once")
        try:
            chosen[name] = loader.construct_object(value, deep=True)  # type: ignore[no-untyped-call]
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"{_FLAG}: found {text!r} ({error}); {expected}") from None
    return chosen


def write_choice(chosen: Mapping[str, Any]) -> str:
    """What :func:`read_choice` reads: ``a,b: {gamma: 1}``; options None or empty give the bare name."""

    def dumped(value: Any, *, allow_unicode: bool) -> str:
        made: str = yaml.safe_dump(
            [value], default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=allow_unicode
        )
        return made.strip()[1:-1]

    def flow(value: Any) -> str:
        readable = dumped(value, allow_unicode=True)
        # PyYAML does not read back every character that it leaves as it is.
        return readable if readable.isprintable() else dumped(value, allow_unicode=False)

    return ",".join(f"{flow(name)}: {flow(dict(given))}" if given else flow(name) for name, given in chosen.items())


def options_for_head(name: str, head: str) -> dict[str, Any]:
    """What is written beside a catalogue name so that it acts on one head of several; empty where it acts on all."""
    entry = None if name in COMPOSED else _entries().get(name)
    if entry is None:
        return {}
    if entry.slot in HEAD_SLOTS:
        return {"heads": {head: {entry.slot: name}}}
    if entry.slot == "sampler" and "head" in entry.options.model_fields:
        return {"sampler": {name: {"head": head}}}
    return {}


def names_used(strategies: Mapping[str, StrategySpec]) -> tuple[str, ...]:
    """Names of an experiment's strategies, and the catalogue's for those that fill a single slot."""
    used = dict.fromkeys(strategies)
    for strategy in strategies.values():
        filled = [value for slot in SLOTS if (value := strategy.to_mapping().get(slot))]
        value = filled[0] if len(filled) == 1 and not strategy.heads else None
        if isinstance(value, list) and len(value) == 1:  # one step after training
            value = value[0]
        if isinstance(value, Mapping):
            value = next(iter(value))
        if isinstance(value, str):
            used.setdefault(value)
    return tuple(used)


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
