"""A stored model takes rows as the file has them, and says which categories it does not know."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from imbalance_lab.errors import InputError
from imbalance_lab.learners.all_learners import read_model
from imbalance_lab.learners.network_learner import write_network
from imbalance_lab.learners.stored import StoredModel
from imbalance_lab.load import load_data, parse_options
from imbalance_lab.models.build import build_network, make_blueprint
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.run.evaluating import predict_new
from imbalance_lab.serving import UNKNOWN, answer


def rows(n=200, seed=0) -> pd.DataFrame:
    """A counter, a measurement with gaps, whole numbers, a text and a boolean column."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "ticks": 1_700_000_000 + rng.integers(0, 57, n),
            "amount": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "shop": rng.choice(["A", "B", "C", None], n),
            "open": rng.random(n) < 0.5,
            "class": rng.choice(["x", "y"], n),
        }
    )


@pytest.fixture
def stored(tmp_path) -> StoredModel:
    """A network with random weights that read a table back from its files."""
    rows().to_csv(tmp_path / "t.csv", index=False)
    loaded = load_data(parse_options({"source": "table", "path": "t.csv", "target": "class"}), tmp_path)
    d = loaded.dataset
    blueprint = make_blueprint(d, ModelConfig(name="mlp", hidden=8), {"class": "linear"}, {})
    flat = d.continuous[:, 0]
    network = build_network(blueprint, np.nanmean(flat, 0), np.nanstd(flat, 0), d, loaded.splits.train, 0).eval()
    write_network(tmp_path / "network", network, blueprint, {"class": {"steps": {}, "train_counts": [1, 1]}})
    found = read_model(tmp_path / "network")
    with torch.inference_mode():
        logits = network(torch.from_numpy(d.continuous), torch.from_numpy(d.categorical))["class"]
    raw = answer(found, pd.read_csv(tmp_path / "t.csv"))
    np.testing.assert_allclose(raw["class_probabilities"], torch.softmax(logits, -1), atol=1e-6)
    assert np.ptp(raw["class_probabilities"][..., 0]) > 0.01
    return found


def test_order_types_and_further_columns_do_not_matter(stored: StoredModel) -> None:
    table = rows()
    expected = answer(stored, table)["class_probabilities"]
    for other in (
        table[["open", "shop", "amount", "ticks"]],
        table.assign(more="z"),
        table.astype(object),
        table.assign(ticks=table["ticks"].astype("float64"), shop=table["shop"].astype("category")),
        table.convert_dtypes(),
        {name: table[name].tolist() for name in table},
    ):
        np.testing.assert_array_equal(answer(stored, other)["class_probabilities"], expected)


def test_neighbouring_counts_are_told_apart(stored: StoredModel) -> None:
    table = pd.concat([rows().head(1)] * 2).assign(ticks=[1_700_000_011, 1_700_000_012])
    first, second = answer(stored, table)["class_probabilities"][:, 0, 0]
    assert first != second


def test_unknown_categories_are_read_as_missing_and_counted(stored: StoredModel) -> None:
    table = rows().head(3).assign(shop=["Z", None, "A"], open=[True, True, False])
    missing = answer(stored, table.assign(shop=[None, None, "A"]))
    with pytest.warns(UserWarning, match=r"shop: 1 row holds categories that train does not \(Z 1\)"):
        found = answer(stored, table)
    assert found[UNKNOWN].tolist() == [1, 0, 0]
    assert missing[UNKNOWN].tolist() == [0, 0, 0]
    np.testing.assert_array_equal(found["class_probabilities"], missing["class_probabilities"])


def steps(lengths=(50, 3, 21, 64, 40), seed=0) -> pd.DataFrame:
    """Recordings of these many steps, one of them shorter than a window, with gaps, a category and an order."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    return pd.DataFrame(
        {
            "run": np.repeat([f"r{seed}-{i}" for i in range(len(lengths))], lengths),
            "t": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.concatenate([np.arange(k) for k in lengths]), "s"),
            "a": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
            "b": rng.integers(0, 5, n),
            "mode": rng.choice(["x", "y"], n),
            "on": rng.random(n) < 0.5,
            "state": rng.choice(["idle", "cut"], n),
            "wear": rng.choice(["low", "high", "broken"], n),
        }
    )


SERIES = {
    "source": "series",
    "path": "s.parquet",
    "recording": "run",
    "order": "t",
    "target": ["state", "wear"],
    "window": {"length": 16, "stride": 8},
}


@pytest.fixture
def labeller(tmp_path) -> StoredModel:
    """A network with random weights that labels the steps of recordings."""
    steps().to_parquet(tmp_path / "s.parquet")
    loaded = load_data(parse_options(SERIES), tmp_path)
    d = loaded.dataset
    config = ModelConfig(name="mm-dtae-lstm", hidden=8, layers=1, attention_heads=2)
    blueprint = make_blueprint(d, config, dict.fromkeys(d.heads, "linear"), {})
    flat = np.asarray(d.continuous[:]).reshape(-1, len(d.channels))
    network = build_network(blueprint, np.nanmean(flat, 0), np.nanstd(flat, 0), d, loaded.splits.train, 0)
    posthoc = {head: {"steps": {}, "train_counts": [1] * len(names)} for head, names in d.heads.items()}
    write_network(tmp_path / "network", network, blueprint, posthoc)
    return read_model(tmp_path / "network")


def test_rows_of_recordings_are_answered_as_they_are_evaluated(labeller: StoredModel, tmp_path) -> None:
    later = steps((70, 5, 16, 33), seed=1)
    later.to_parquet(tmp_path / "later.parquet")
    options = parse_options({**SERIES, "path": "later.parquet", "split": {"all_test": True}})
    evaluated = predict_new(labeller, load_data(options, tmp_path, coding=labeller.coding), {})
    answered = answer(labeller, later.drop(columns=["state", "wear"]))
    assert answered[UNKNOWN].tolist() == [0] * len(later)
    for head, p in evaluated.heads.items():
        assert len(p) == len(later)
        np.testing.assert_array_equal(answered[f"{head}_probabilities"][:, 0], p.probabilities)
        np.testing.assert_array_equal(answered[head][:, 0], np.array(p.classes)[p.pred])
    one = later[later["run"] == "r1-0"].reset_index(drop=True)
    alone = answer(labeller, one.drop(columns=["run", "t"]))  # without a name all rows are one recording
    np.testing.assert_allclose(alone["wear_probabilities"], answered["wear_probabilities"][:70], atol=1e-6)
    assert answer(labeller, later.head(0))["state_probabilities"].shape == (0, 1, 2)


def test_rows_that_are_no_recordings_are_one_sentence(labeller: StoredModel) -> None:
    table = steps()
    mixed = pd.concat([table.head(10), table.tail(10), table.head(3)], ignore_index=True)
    for given, message in (
        (np.zeros((3, 16, 2)), "found ndarray, expected a table of rows"),
        (table.drop(columns="a"), "no column 'a', which the model reads"),
        (mixed, r"row 20 \(from 0\), column 'run': recording 'r0-0' goes on after rows of 'r0-4'"),
        (table.assign(run=None), r"row 0 \(from 0\), column 'run': found nothing"),
        (table.iloc[::-1].reset_index(drop=True), r"row 1 \(from 0\), column 't': found .* in recording 'r0-4'"),
        (table.assign(t="noon"), "column 't' holds .*, expected numbers or times"),
        (table.assign(a="much"), "column 'a': found 'much', expected numbers"),
    ):
        with pytest.raises(InputError, match=message):
            answer(labeller, given)


def test_the_signature_of_a_labeller_names_recording_order_and_inputs(labeller: StoredModel, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.models.utils import _enforce_schema
        from mlflow.types import Schema

        from mlflow_project.models import _inputs, _outputs, example_of
    schema = Schema(_inputs(labeller))
    assert {c.name: c.required for c in schema.inputs} == {
        "run": False,
        "t": False,
        "a": True,
        "b": True,
        "mode": True,
        "on": True,
    }
    assert [o.shape for o in _outputs(labeller)] == [(-1, 1), (-1, 1, 2), (-1, 1), (-1, 1, 3), (-1,)]
    table = steps()
    expected = answer(labeller, table)["state_probabilities"]
    np.testing.assert_array_equal(answer(labeller, _enforce_schema(table, schema))["state_probabilities"], expected)
    loaded = load_data(parse_options(SERIES), tmp_path)
    example = example_of(loaded.dataset, loaded.splits.train[:1])
    assert example.columns.tolist() == ["run", *labeller.coding.columns]
    assert len(answer(labeller, _enforce_schema(example, schema))["state"]) == len(example) > 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (rows().drop(columns="shop"), "no column 'shop', which the model reads"),
        (rows().assign(amount="1.506,31"), r"column 'amount': found '1.506,31', expected numbers"),
        (np.zeros((3, 5)), r"'continuous' has the shape \(3, 1, 5\), expected \(rows, 1, 2\)"),
    ],
)
def test_rows_that_do_not_fit_are_one_sentence(stored: StoredModel, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        answer(stored, given)


def test_the_signature_names_the_columns_of_the_file_and_the_example_fits_it(stored: StoredModel, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.models.utils import _enforce_schema
        from mlflow.types import Schema

        from mlflow_project.models import _inputs, example_of
    schema = Schema(_inputs(stored))
    assert {c.name: str(c.type).removeprefix("DataType.") for c in schema.inputs} == {
        "ticks": "Any",  # whole numbers: pandas reads them as integers or, where one is missing, as floats
        "amount": "double",
        "shop": "string",
        "open": "boolean",
    }
    loaded = load_data(parse_options({"source": "table", "path": "t.csv", "target": "class"}), tmp_path)
    example = example_of(loaded.dataset, np.arange(5))
    pd.testing.assert_frame_equal(
        example[["ticks", "amount", "open"]], rows().head(5)[["ticks", "amount", "open"]], rtol=1e-6
    )
    _enforce_schema(example, schema)
    _enforce_schema(rows().assign(ticks=lambda t: t["ticks"].where(t["ticks"] % 2 == 0)), schema)
