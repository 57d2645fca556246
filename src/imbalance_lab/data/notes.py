"""What whoever brings data should hear before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping

_SAID = {
    "columns_left_out": "{}",
    "text_columns_ignored": "columns that hold no numbers, not read: {}",
    "object_arrays_ignored": "arrays that would have to be unpickled, not read: {}",
    "empty_columns_dropped": "columns without a value, not read: {}",
    "constant_columns": "columns of one value: {}",
    "columns_with_infinite_values": "columns with infinite values, which are taken as missing: {}",
    "channels_that_float32_cannot_resolve": "columns whose values float32 cannot tell apart: {}",
    "unknown_categories": "{}",
    "unlabelled": "without a label, never scored: {}",
    "steps_repeated": "{}",
    "gaps": "{}",
    "notes_on_folds": "{}",
}


def data_notes(facts: Mapping[str, object]) -> list[str]:
    """One sentence for each fact of a data set that changes what is trained on."""
    return [f"data: {words.format(facts[name])}" for name, words in _SAID.items() if facts.get(name)]
