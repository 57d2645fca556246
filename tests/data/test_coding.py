"""Numbers keep their differences, categories their texts: what a source's columns become."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data.cache import load_cached, save_loaded
from imbalance_lab.data.coding import Coding, fit_coding, texts_of
from imbalance_lab.data.scaling import Scaling, centre_and_scale
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options


def stored(values: np.ndarray, train: np.ndarray | None = None) -> tuple[np.ndarray, Scaling]:
    coding = fit_coding({"x": values}, {}, np.arange(len(values)) if train is None else train)
    return coding.encode({"x": values}).continuous[..., 0], coding.scaling


@given(
    offset=st.integers(-(2**62), 2**62),
    steps=st.lists(st.integers(0, 2000), min_size=2, max_size=60),
    unit=st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=200, deadline=None)
def test_whole_numbers_anywhere_stay_distinct_and_in_order(offset: int, steps: list[int], unit: int) -> None:
    values = np.array([offset + unit * s for s in steps], dtype=np.int64)
    found, _ = stored(values)
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) > 0).tolist() == (np.diff(values[order]) > 0).tolist()


@given(
    offset=st.floats(-1e12, 1e12),
    spread=st.floats(1e-3, 1e6),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=100, deadline=None)
def test_differences_survive_any_offset(offset: float, spread: float, seed: int) -> None:
    values = offset + spread * np.random.default_rng(seed).normal(size=50)
    found, scaling = stored(values)
    exact = [Fraction(v) for v in values.tolist()]
    typical = float(np.median(np.abs(values - np.median(values))))
    wrong = [
        abs(float(Fraction(n) - e)) for n, e in zip(scaling.native(found[:, None])[:, 0].tolist(), exact, strict=True)
    ]
    # What float64 itself keeps of the value, and 2^-12 of what is typical for the channel.
    assert max(wrong) <= max(2 * np.spacing(abs(offset) + 6 * spread), typical / 4096, 1e-300)


def test_zeros_that_mark_missing_readings_do_not_hide_a_counter() -> None:
    counter = 1_700_000_000 + np.arange(57)
    values = np.concatenate([np.zeros(300, dtype=np.int64), counter])
    assert len(np.unique(stored(values)[0])) == 58


def test_one_wild_value_does_not_flatten_the_rest() -> None:
    values = np.append(np.linspace(0, 1, 1000), 2_147_483_647)
    found, _ = stored(values)
    assert len(np.unique(found)) == 1001
    assert np.ptp(found[:-1]) > 0.1  # scikit-learn's trees take steps below 1e-7 for none


def test_values_over_many_magnitudes_keep_their_small_ones() -> None:
    values = 10.0 ** np.arange(-25, 5)
    assert len(np.unique(stored(values)[0])) == 30


def test_what_float32_cannot_resolve_is_named() -> None:
    values = np.concatenate([np.arange(500), 2**40 + np.arange(500)])
    coding = fit_coding({"ticks": values}, {}, np.arange(1000))
    facts = coding.encode({"ticks": values}).facts
    assert "ticks (1000 distinct values become" in str(facts["channels_that_float32_cannot_resolve"])


def test_only_train_chooses_and_odd_values_are_missing() -> None:
    values = np.array([10.0, 12.0, np.nan, np.inf, 1e6])
    coding = fit_coding({"x": values}, {}, np.array([0, 1]))
    same = fit_coding({"x": values[:2]}, {}, np.array([True, True]))
    assert coding.scaling.to_mapping() == same.scaling.to_mapping()
    coded = coding.encode({"x": values})
    assert np.isnan(coded.continuous[:, 0]).tolist() == [False, False, True, True, False]
    assert coded.facts["infinite_values_set_missing"] == 1


@pytest.mark.parametrize("values", [[], [np.nan], [0.0, 0.0], [3.7], [1e300, 2e300], [5e-324, 1e-323], [-1e308, 1e308]])
def test_centre_and_scale_are_finite(values: list[float]) -> None:
    centre, scale = centre_and_scale(np.array(values))
    assert np.isfinite([centre, scale]).all()
    assert scale > 0
    found = Scaling(np.array([centre]), np.array([scale])).stored(np.array(values), 0)
    assert (np.isfinite(found) == np.isfinite(values)).all()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series(["a", None, "", "NA"]), ["a", None, None, "NA"]),
        (pd.Series([1.0, np.nan, 2.5]), ["1", None, "2.5"]),
        (pd.Series([1, None], dtype="Int64"), ["1", None]),
        (pd.Series([True, False]), ["True", "False"]),
        (pd.Series([True, 1, 1.0, "1", pd.NA, pd.NaT], dtype=object), ["True", "1", "1", "1", None, None]),
        (pd.Series(pd.Categorical(["x", None])), ["x", None]),
        (np.array([[3, 5], [5, 3]]), [["3", "5"], ["5", "3"]]),
    ],
)
def test_the_text_of_a_cell(column: object, expected: list[object]) -> None:
    assert texts_of(column).tolist() == expected


def coded_table() -> tuple[Coding, pd.DataFrame]:
    rows = pd.DataFrame(
        {"shop": ["B", "A", None, "B", "C"], "open": [True, False, True, True, False], "amount": [1, 2, 3, 4, 5]}
    )
    return fit_coding({"amount": rows["amount"]}, {"shop": rows["shop"], "open": rows["open"]}, np.arange(4)), rows


def test_categories_are_numbered_by_train_and_strangers_are_counted() -> None:
    coding, rows = coded_table()
    assert coding.categories == (("A", "B"), ("False", "True"))
    assert coding.types == {"amount": "long", "shop": "string", "open": "boolean"}
    coded = coding.encode(rows)
    assert coded.categorical.tolist() == [[2, 2], [1, 1], [0, 2], [2, 2], [0, 1]]
    assert coded.unknown == {"shop": {"C": 1}}
    assert coded.facts["unknown_categories"] == "shop: 1 row holds categories that train does not (C 1)"


def test_later_rows_are_coded_alike_whatever_their_order_type_or_further_columns() -> None:
    coding, rows = coded_table()
    again = Coding.from_mapping(json.loads(json.dumps(coding.to_mapping())))
    later = rows.iloc[[3, 0]][["open", "amount", "shop"]].assign(amount=lambda f: f["amount"].astype(object), more=1)
    expected, found = coding.encode(rows), again.encode(later)
    assert found.categorical.tolist() == expected.categorical[[3, 0]].tolist()
    assert found.continuous.tolist() == expected.continuous[[3, 0]].tolist()
    with pytest.raises(InputError, match="no column 'shop', which the model reads; they have open, amount"):
        again.encode(later[["open", "amount"]])
    with pytest.raises(InputError, match="column 'amount': found '1,5', expected numbers"):
        again.encode(later.assign(amount=["1,5", "2"]))


def table_of(folder: Path, rows: pd.DataFrame, name: str, coding: Coding | None = None):
    rows.to_csv(folder / name, index=False)
    options = {"source": "table", "path": name, "target": "class", "split": {"fractions": [0.6, 0.2, 0.2]}}
    return load_data(parse_options(options), folder, coding)


def test_a_table_is_read_as_an_older_model_knows_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "shop": rng.choice(list("ABC"), 90),
            "ticks": 1_700_000_000 + rng.integers(0, 57, 90),
            "class": rng.choice(["x", "y"], 90),
        }
    )
    first = table_of(tmp_path, rows, "first.csv")
    later = rows[rows["shop"] != "A"].reset_index(drop=True).assign(extra=1.0)
    later.loc[3, "shop"] = "Z"
    second = table_of(tmp_path, later, "later.csv", first.dataset.coding)
    assert second.dataset.channels == ("ticks",)
    assert second.dataset.categories == (("A", "B", "C"),)
    assert second.dataset.scaling.to_mapping() == first.dataset.scaling.to_mapping()
    expected = [{"B": 2, "C": 3}.get(shop, 0) for shop in later["shop"]]
    assert second.dataset.categorical[:, 0, 0].tolist() == expected
    assert second.dataset.native(second.dataset.continuous)[:, 0, 0].tolist() == later["ticks"].tolist()
    assert second.dataset.facts["unknown_categories"] == "shop: 1 row holds categories that train does not (Z 1)"


def test_the_copy_on_disk_keeps_the_coding(tmp_path: Path) -> None:
    rows = pd.DataFrame({"shop": list("ABCD") * 10, "ticks": 1.7e9 + np.arange(40) / 8, "class": list("xyyx") * 10})
    loaded = table_of(tmp_path, rows, "t.csv")
    save_loaded(loaded, tmp_path / "copy")
    again = load_cached(tmp_path / "copy").dataset
    assert again.coding.to_mapping() == loaded.dataset.coding.to_mapping()
    assert again.native(again.continuous)[:, 0, 0].tolist() == rows["ticks"].tolist()


def test_a_counter_keeps_its_differences_in_sequence_files(tmp_path: Path) -> None:
    ticks = (1_700_000_000 + np.arange(40 * 6).reshape(40, 6, 1)).astype(np.float64)
    codes = np.tile(np.array([[-1], [0], [4], [0], [4], [4]]), (40, 1, 1))
    np.savez(tmp_path / "s.npz", continuous=ticks, categorical=codes, state_targets=np.arange(240).reshape(40, 6) % 2)
    data = load_data(parse_options({"source": "sequences", "path": "s.npz"}), tmp_path).dataset
    assert data.native(data.continuous).tolist() == ticks.tolist()
    assert data.categories == (("0", "4"),)
    assert data.categorical[0, :, 0].tolist() == [0, 1, 2, 1, 2, 2]
