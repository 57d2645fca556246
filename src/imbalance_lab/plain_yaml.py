"""YAML that says one thing: no key twice, no number that is none, no file that grows when it is read."""

from __future__ import annotations

import math
from typing import Any

import yaml

from imbalance_lab.errors import InputError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40  # levels; an experiment file has six
MAX_VALUES = 100_000  # with every alias written out


def read_yaml(text: str, where: str, most: int = MAX_BYTES) -> Any:
    """The plain values (mappings, lists, text, numbers, booleans, None) that ``text`` holds.

    ``most`` are the characters that it may have.

    Raises
    ------
    InputError
        If ``text`` is not YAML, or has a key twice, a number that is not finite, more than :data:`MAX_DEPTH`
        levels, or more than :data:`MAX_VALUES` values with its aliases written out. The message begins with ``where``
        and names the line.
    """
    try:
        node = plain_nodes(text, where, most)
        return None if node is None else yaml.SafeLoader("").construct_document(node)  # type: ignore[no-untyped-call]
    except (yaml.YAMLError, ValueError) as error:
        raise _told(error, where) from None


def plain_nodes(text: str, where: str, most: int = MAX_BYTES) -> yaml.Node | None:
    """The nodes of ``text``, of which :func:`read_yaml` makes values; None where it holds nothing.

    Raises
    ------
    InputError
        As :func:`read_yaml`.
    """
    if len(text) > most:
        raise InputError(f"{where}: found {len(text):,} characters; allowed are at most {most:,}")
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _count(node, where, {}, set())
            _check(node, where, set())
        return node
    except _TooDeep as error:
        raise InputError(
            f"{where}, line {error}: found more than {MAX_DEPTH} levels; allowed are {MAX_DEPTH}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _told(error, where) from None


def _told(error: Exception, where: str) -> InputError:
    if isinstance(error, InputError):
        return error
    mark = getattr(error, "problem_mark", None)
    at = f", line {mark.line + 1}" if mark else ""
    return InputError(f"{where}{at}: not valid YAML ({getattr(error, 'problem', None) or error})")


class _TooDeep(Exception):
    """The line of a collection that lies too deep."""


class _Loader(yaml.SafeLoader):
    """Counts levels while it composes, which recurses."""

    levels = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        start = self.peek_event()  # type: ignore[no-untyped-call]
        if not isinstance(start, yaml.CollectionStartEvent):
            return super().compose_node(parent, index)
        if self.levels == MAX_DEPTH:
            raise _TooDeep(start.start_mark.line + 1 if start.start_mark else 1)
        self.levels += 1
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _count(node: yaml.Node, where: str, known: dict[int, int], open_: set[int]) -> int:
    """Values below ``node`` with every alias written out; each node is visited once."""
    if id(node) in open_:
        raise InputError(f"{where}, line {node.start_mark.line + 1}: found a value that holds itself")
    if id(node) not in known:
        open_.add(id(node))
        known[id(node)] = 1 + sum(_count(child, where, known, open_) for child in _children(node))
        open_.remove(id(node))
    if known[id(node)] > MAX_VALUES:
        raise InputError(
            f"{where}, line {node.start_mark.line + 1}: found more than {MAX_VALUES:,} values with the aliases written "
            f"out; allowed are {MAX_VALUES:,}"
        )
    return known[id(node)]


def _check(node: yaml.Node, where: str, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{where}, line {at}: found a key that is a list or a mapping; keys are text")
            if key.value in lines:
                raise InputError(
                    f"{where}, line {at}: found key {key.value!r} twice (first in line {lines[key.value]}); each may "
                    "stand once"
                )
            lines[key.value] = at
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:float":
        value = yaml.SafeLoader("").construct_yaml_float(node)  # type: ignore[no-untyped-call]
        if not math.isfinite(value):
            raise InputError(f"{where}, line {node.start_mark.line + 1}: found {node.value!r}; numbers must be finite")
    for child in _children(node):
        _check(child, where, seen)
