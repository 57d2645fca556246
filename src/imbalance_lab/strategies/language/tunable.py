"""What of a strategy can be tuned, and the strategy with other values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.language import registry
from imbalance_lab.strategies.language.parse import parse_strategy
from imbalance_lab.strategies.language.slots import PHASE_SLOTS, SLOTS, Choice, StrategySpec
from imbalance_lab.strategies.search_space import Distribution


def search_space(spec: StrategySpec) -> dict[str, Distribution]:
    """Distributions of the tunable options by path, for example ``loss.focal.gamma``; {} for the baseline."""
    out: dict[str, Distribution] = {}
    for path, choice in _choices(spec):
        entry = registry.lookup(choice.slot, choice.name, path)
        for option, distribution in entry.search.items():
            out[path if option == entry.shorthand else f"{path}.{option}"] = distribution
    return out


def with_values(spec: StrategySpec, values: Mapping[str, Any]) -> StrategySpec:
    """The spec with options of :func:`search_space` set; validated again.

    Raises
    ------
    InputError
        If a path is not in the search space or a value is not allowed; also where the values
        together correct the prior twice, which a search should count as a pruned trial.
    """
    if unknown := set(values) - set(search_space(spec)):
        raise InputError(
            f"strategy {spec.name!r}: no option {sorted(unknown)[0]!r}; allowed: {', '.join(search_space(spec))}"
        )
    mapping = spec.to_mapping()
    for path, choice in _choices(spec):
        entry = registry.lookup(choice.slot, choice.name, path)
        changed = {
            option: values[key]
            for option in entry.search
            if (key := path if option == entry.shorthand else f"{path}.{option}") in values
        }
        if changed:
            options = {**choice.options.model_dump(exclude_defaults=True), **changed}
            _put(mapping, path, choice, options[entry.shorthand] if entry.shorthand else options)
    return parse_strategy(spec.name, mapping, where="tune")


def _choices(spec: StrategySpec) -> Iterator[tuple[str, Choice[Any]]]:
    for prefix, part in (("", spec), *((f"heads.{name}.", h) for name, h in spec.heads.items())):
        for slot in SLOTS:
            value = getattr(part, slot, None)
            for choice in (value,) if isinstance(value, Choice) else value or ():
                yield f"{prefix}{slot}.{choice.name}", choice
    if spec.schedule is None:
        for i, phase in enumerate(spec.phases):
            for slot in PHASE_SLOTS:
                if (choice := getattr(phase, slot)) is not None:
                    yield f"schedule.{i}.{slot}.{choice.name}", choice


def _put(mapping: dict[str, Any], path: str, choice: Choice[Any], value: Any) -> None:
    place: Any = mapping
    keys = path.removesuffix(f".{choice.name}").split(".")
    for key in keys[:-1]:
        place = place[int(key) if isinstance(place, list) else key]
    if choice.slot == "posthoc":
        steps = place["posthoc"]
        index = next(i for i, s in enumerate(steps) if s == choice.name or (isinstance(s, dict) and choice.name in s))
        steps[index] = {choice.name: value}
    else:
        place[keys[-1]] = {choice.name: value}
