"""One text for each class, whatever type the labels, the predictions and the configuration have it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imbalance_lab.data.coding import texts_of
from imbalance_lab.errors import InputError
from imbalance_lab.names import natural_key

Kind = Literal["text", "number", "boolean"]

_SHOWN = 5  # classes that a message names


def same_texts(given: Mapping[str, Any]) -> dict[str, NDArray[np.object_]]:
    """The labels of each source as text, None where one is missing; the same class has the same text in all.

    1.0 is 1. Beside numbers, texts that are numbers are read as such (``"0"`` is 0, ``"1.0"`` is 1) and
    booleans are 1 and 0; beside booleans, texts are compared without case (``"true"`` is True).

    Parameters
    ----------
    given : what the labels are called in a message, to labels of any type, shape (n,)

    Raises
    ------
    InputError
        If two texts of one source are one number, or two sources of different types share no class.
    """
    texts, kinds = {}, {}
    for name, labels in given.items():
        values = _plain(labels)
        texts[name] = texts_of(values)
        kinds[name] = _kind(values, texts[name])
    present = {kind for name, kind in kinds.items() if _some(texts[name])}
    if len(present) < 2:
        return texts
    out = {name: _mapped(name, found, kinds[name], present) for name, found in texts.items()}
    _check_shared(out, kinds)
    return out


def in_order(texts: set[str]) -> tuple[str, ...]:
    """Classes sorted, numbers as numbers."""
    return tuple(sorted(texts, key=lambda text: (natural_key(text), text)))


def _plain(labels: Any) -> Any:
    """A flat array, or a series of its own type."""
    if hasattr(labels, "dtype") and hasattr(labels, "array"):
        return labels
    if isinstance(labels, np.ndarray):
        return labels.reshape(-1)
    out = np.empty(len(labels), dtype=object)
    out[:] = list(labels)
    return out


def _kind(values: Any, texts: NDArray[np.object_]) -> Kind:
    import pandas as pd

    some = [text is not None for text in texts.tolist()]
    found = pd.api.types.infer_dtype(np.asarray(values, dtype=object)[some], skipna=True)
    if found == "boolean":
        return "boolean"
    return "number" if found in ("integer", "floating", "mixed-integer-float", "decimal") else "text"


def _some(texts: NDArray[np.object_]) -> set[str]:
    return {text for text in texts.tolist() if text is not None}


def _mapped(name: str, texts: NDArray[np.object_], kind: Kind, present: set[Kind]) -> NDArray[np.object_]:
    table = {text: _common(text, kind, present) for text in _some(texts)}
    if kind == "text":
        made: dict[str, str] = {}
        for text, common in table.items():
            if made.setdefault(common, text) != text:
                first, second = sorted((made[common], text))
                raise InputError(
                    f"{name}: {first!r} and {second!r} are both {common} beside labels of another type; "
                    "give all labels as text"
                )
    return np.array([None if text is None else table[text] for text in texts.tolist()], dtype=object)


def _common(text: str, kind: Kind, present: set[Kind]) -> str:
    if "number" in present:
        if kind == "boolean":
            return str(int(text == "True"))
        return _number(text)
    return {"true": "True", "false": "False"}.get(text.casefold(), text)


def _number(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    found = texts_of(np.array([value]))[0]
    return text if found is None else str(found)


def _check_shared(texts: Mapping[str, NDArray[np.object_]], kinds: Mapping[str, Kind]) -> None:
    first, *others = [name for name, found in texts.items() if _some(found)]
    for name in others:
        here, there = _some(texts[first]), _some(texts[name])
        if kinds[name] != kinds[first] and not here & there:
            raise InputError(
                f"{first} are {kinds[first]}s ({_listed(here)}), {name} are {kinds[name]}s ({_listed(there)}): "
                "they share no class"
            )


def _listed(texts: set[str]) -> str:
    shown = in_order(texts)
    return ", ".join(map(repr, shown[:_SHOWN])) + (" ..." if len(shown) > _SHOWN else "")
