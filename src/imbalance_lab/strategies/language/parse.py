"""Reading one strategy of an experiment file: YAML values in, a validated :class:`StrategySpec` out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.language import ledger, registry
from imbalance_lab.strategies.language.slots import (
    HEAD_SLOTS,
    KEYS,
    PHASE_KEYS,
    PHASE_SLOTS,
    Choice,
    HeadSpec,
    PhaseSpec,
    StrategySpec,
    nominal_corrections,
)
from imbalance_lab.strategies.option_types import PosthocOptions
from imbalance_lab.strategies.own_estimator import ESTIMATOR
from imbalance_lab.strategies.table_methods import RESAMPLERS

__all__ = ["Choice", "HeadSpec", "PhaseSpec", "StrategySpec", "parse_strategy"]

_HEAD_ALIASES = {"crt": "schedule", "lws": "schedule", "tau-norm": "posthoc"}  # as the catalogue writes two stages
_UNION_MEMBER = re.compile(r"^(constrained|function|literal|float|int|dict|str|none)\b")


def parse_strategy(name: str, mapping: Mapping[str, Any] | None, *, where: str = "strategies") -> StrategySpec:
    """Read one entry of `strategies:`.

    ``where`` names the file (and block) for messages.

    Raises
    ------
    InputError
        Names strategy, head and key, what was found and what is allowed: unknown key, name or option,
        a value out of range, phases that do not sum to 1, two prior corrections, ldam on a head
        that is not cosine.
    """
    at = f"{where}: strategy {name!r}, all heads"
    given = _mapping({} if mapping is None else mapping, at, KEYS)
    given = _expand_head_alias(given, at)
    fields: dict[str, Any] = {"name": name, "posthoc": _posthoc(given.get("posthoc"), f"{at}, key posthoc") or ()}
    for slot in ("weights", "loss", "sampler", "head", "augment", "table"):
        if given.get(slot) is not None:
            fields[slot] = _choice(slot, given[slot], f"{at}, key {slot}")
    fields |= _schedule(given.get("schedule"), f"{at}, key schedule")
    heads = _mapping(given.get("heads") or {}, f"{at}, key heads", None)
    fields["heads"] = {h: _head(v, f"{where}: strategy {name!r}, head {h!r}") for h, v in heads.items()}
    for key in ("allow_double_correction", "tune"):
        if key in given:
            fields[key] = given[key]
    spec = _validate(StrategySpec, fields, at, ", key ")
    _check_table(spec, at)
    for head in (None, *spec.heads):
        here = at if head is None else f"{where}: strategy {name!r}, head {head!r}"
        _check_head(spec, head, here)
        for phase in spec.phases:
            ledger.check(nominal_corrections(spec, head, phase), spec.allow_double_correction, here)
    return spec


def _mapping(value: Any, at: str, allowed: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{at}: found {value!r}; allowed: a mapping")
    for key in value:
        if not isinstance(key, str) or (allowed is not None and key not in allowed):
            hint = difflib.get_close_matches(str(key), allowed or (), n=1)
            guess = f" (did you mean {hint[0]!r}?)" if hint else ""
            raise InputError(f"{at}: found unknown key {key!r}{guess}; allowed: {', '.join(allowed or ('text',))}")
    return dict(value)


def _validate(model: type[Any], fields: dict[str, Any], at: str, join: str = ".") -> Any:
    try:
        return model(**fields)
    except ValidationError as error:
        errors = error.errors()
        field = errors[0]["loc"][0]
        members = [e for e in errors if e["loc"][0] == field]  # a union reports once per member
        # the other parts of a location are keys, and pydantic's own names of union members
        inner = [str(p) for p in errors[0]["loc"][1:] if not _UNION_MEMBER.match(str(p))]
        path = at + join + ".".join(["for" if field == "share" else str(field), *inner])
        kind = errors[0]["type"]
        if kind == "extra_forbidden":
            allowed = ", ".join(model.model_fields) or "no option"
            raise InputError(f"{at}: found unknown option {field!r}; allowed: {allowed}") from None
        if kind == "missing":
            raise InputError(f"{path}: found nothing; allowed: a value, there is no default") from None
        messages = [e["msg"].removeprefix("Value error, ").removeprefix("Input should be ") for e in members]
        allowed = " or ".join(dict.fromkeys(messages))
        raise InputError(f"{path}: found {errors[0]['input']!r}; allowed: {allowed}") from None


def _choice(slot: str, value: Any, at: str) -> Choice[Any]:
    """One slot's value: a name, or a mapping of one name to its options."""
    if slot == "table" and isinstance(value, Mapping) and isinstance(value.get(ESTIMATOR), str):
        # The path stands behind the key itself, its options beside it.
        name, options = ESTIMATOR, {("path" if k == ESTIMATOR else k): v for k, v in value.items()}
    elif isinstance(value, str):
        name, options = value, None
    elif isinstance(value, Mapping) and len(value) == 1:
        name, options = next(iter(value.items()))
    else:
        raise InputError(
            f"{at}: found {value!r}; allowed: a name or one 'name: options', of {', '.join(registry.names(slot))}"
        )
    entry = registry.lookup(slot, str(name), at)
    here = f"{at}.{name}"
    if entry.shorthand is not None:
        options = {} if options is None else {entry.shorthand: options}
        here = at
    elif options is None:
        options = {}
    if not isinstance(options, Mapping):
        raise InputError(
            f"{here}: found {options!r}; allowed: a mapping of {', '.join(entry.options.model_fields) or 'nothing'}"
        )
    return Choice(slot=slot, name=entry.name, options=_validate(entry.options, dict(options), here))


def _posthoc(value: Any, at: str) -> tuple[Choice[PosthocOptions], ...] | None:
    """A name, a mapping of several steps, or a list of steps."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        items: list[Any] = [{k: v} for k, v in value.items()]
    else:
        items = list(value) if isinstance(value, list | tuple) else [value]
    steps = tuple(_choice("posthoc", item, at) for item in items)
    if len({s.name for s in steps}) < len(steps):
        raise InputError(
            f"{at}: found the same step twice; allowed: each of {', '.join(registry.names('posthoc'))} once"
        )
    return steps


def _expand_head_alias(given: dict[str, Any], at: str) -> dict[str, Any]:
    """`head: crt | lws | tau-norm` is the catalogue's way to write a second stage."""
    value = given.get("head")
    name = value if isinstance(value, str) else next(iter(value), None) if isinstance(value, Mapping) else None
    target = _HEAD_ALIASES.get(str(name))
    if target is None:
        return given
    if given.get(target) is not None:
        raise InputError(f"{at}, key head: found {name!r} beside a {target}; allowed: only one of the two")
    return {**{k: v for k, v in given.items() if k != "head"}, target: value}


def _head(value: Any, at: str) -> HeadSpec:
    given = _mapping(value or {}, at, HEAD_SLOTS)
    fields: dict[str, Any] = {}
    for slot in ("weights", "loss", "head"):
        if given.get(slot) is not None:
            fields[slot] = _choice(slot, given[slot], f"{at}, key {slot}")
    fields["posthoc"] = _posthoc(given.get("posthoc"), f"{at}, key posthoc")
    return HeadSpec(**fields)


def _schedule(value: Any, at: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, list):
        choice = _choice("schedule", value, at)
        phases = choice.options.phases()
        return {"schedule": choice, "phases": _phases(phases, f"{at}.{choice.name}")}
    return {"phases": _phases(value, at)}


def _phases(values: list[Any], at: str) -> tuple[PhaseSpec, ...]:
    phases = tuple(_phase(v, f"{at}, phase {i + 1}") for i, v in enumerate(values))
    total = sum(p.share for p in phases)
    if abs(total - 1) > 1e-6:
        raise InputError(f"{at}: found phases whose 'for' sums to {total:.6g}; allowed: a sum of 1")
    return phases


def _phase(value: Any, at: str) -> PhaseSpec:
    given = _mapping(value, at, PHASE_KEYS)
    if "for" not in given:
        raise InputError(f"{at}: found no 'for'; allowed: a fraction of the training above 0, up to 1")
    fields = {k: v for k, v in given.items() if k not in PHASE_SLOTS}
    for slot in PHASE_SLOTS:
        if given.get(slot) is not None:
            fields[slot] = _choice(slot, given[slot], f"{at}, key {slot}")
    if given.get("resample") is not None and given["resample"] not in RESAMPLERS:
        raise InputError(f"{at}, key resample: found {given['resample']!r}; allowed: {', '.join(RESAMPLERS)}")
    return _validate(PhaseSpec, {"share": fields.pop("for"), **fields}, at, ", key ")


def _check_table(spec: StrategySpec, at: str) -> None:
    others = [k for k in ("weights", "loss", "sampler", "schedule", "head", "augment", "heads") if getattr(spec, k)]
    if spec.table is not None and others:
        raise InputError(
            f"{at}, key {others[0]}: found beside table {spec.table.name!r}; allowed with a table: posthoc, tune"
        )


def _check_head(spec: StrategySpec, head: str | None, at: str) -> None:
    """A loss of cosines on a head that gives cosines of the same scale."""
    for phase in spec.phases:
        loss, kind = spec.slot("loss", head, phase), spec.head_kind(head)
        if loss is None or loss.options.cosine_scale is None or kind is None:
            continue
        name, scale = kind.options.head()
        if name != "cosine":
            raise InputError(f"{at}, key loss: found {loss.name!r} on a head of kind {name!r}; allowed: head cosine")
        if scale != loss.options.cosine_scale:
            raise InputError(
                f"{at}, key head.cosine.scale: found {scale:g}; "
                f"allowed: {loss.name}'s scale, {loss.options.cosine_scale:g}"
            )
