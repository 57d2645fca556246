"""What ``evaluator_config={"imbalance": {...}}`` may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from imbalance_lab.errors import InputError


def _listed(value: Any) -> Any:
    """Arrays, series and tuples as lists; a text is not a list of its letters."""
    if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
        raise ValueError("expected a list")
    return list(value)


def _list_or_mapping(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else _listed(value)


def _classes(values: list[Any]) -> list[Any]:
    if not values:
        raise ValueError("expected at least one class")
    if len({str(v) for v in values}) < len(values):
        twice = next(v for i, v in enumerate(values) if str(v) in {str(w) for w in values[:i]})
        raise ValueError(f"{twice!r} is listed twice")
    return values


def _column_or_values(value: Any) -> Any:
    return value if isinstance(value, str) else np.asarray(_listed(value), dtype=object)


class _Configuration(BaseModel):
    """The keys and their types; the evaluator says what they mean."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    label_list: Annotated[list[Any], BeforeValidator(_listed), AfterValidator(_classes)] | None = None
    probability_columns: Annotated[list[Any] | dict[Any, str], BeforeValidator(_list_or_mapping)] | None = None
    train_counts: dict[Any, Annotated[int, Field(ge=0)]] | None = None
    group: Annotated[Any, BeforeValidator(_column_or_values)] = None
    positions: Annotated[Any, BeforeValidator(_column_or_values)] = None
    slices: Annotated[list[str] | dict[str, Any], BeforeValidator(_list_or_mapping)] | None = None
    head: str | None = None
    split: str = "test"
    strategy: str | None = None
    seed: int = Field(default=0, ge=0)
    tried: Annotated[list[str], BeforeValidator(_listed)] = []
    resamples: int = Field(default=1000, ge=1)
    metric_prefix: str | None = None


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse unknown keys and values of a wrong type.

    Raises
    ------
    InputError
        Naming the key, what was found and what is allowed.
    """
    where = "evaluator_config of 'imbalance'"
    for key in config:
        if key not in _Configuration.model_fields:
            allowed = ", ".join(_Configuration.model_fields)
            raise InputError(f"{where}: unknown key {key!r}; allowed are {allowed}")
    try:
        _Configuration.model_validate({key: value for key, value in config.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        at = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}, key {at!r}: found {_short(config[at])}; {reason}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
