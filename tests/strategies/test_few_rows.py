"""Classes with too few rows for a resampler: said by name, and the same for every strategy that uses it."""

import numpy as np
import pytest
from training_cases import tiny, trial_of

from imbalance_lab.errors import InputError
from imbalance_lab.learners.table_binding import bind_table
from imbalance_lab.strategies import table_methods
from imbalance_lab.strategies.language.parse import parse_strategy

CLASSES = ("common", "rare", "four", "single")


def rows():
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(4), [60, 20, 4, 1])
    return rng.standard_normal((len(label), 3)) + label[:, None], label


@pytest.mark.parametrize("name", ["smote", "adasyn", "smote-tomek", "borderline-smote"])
def test_a_class_with_too_few_rows_keeps_what_it_has(name):
    x, y = rows()
    _, labels = table_methods.resample_features(name, x, y, 0, None, table_methods.sizes_within_reach(name, y))
    counts = np.bincount(labels, minlength=4)
    assert counts[1] > 20
    assert counts[3] <= 1
    said = table_methods.too_few_rows(name, np.bincount(y), CLASSES)
    assert [line.split(":")[0] for line in said] == [
        f"class 'four' has 4 row(s) in train, {name} needs 6 of a class that it adds to",
        f"class 'single' has 1 row(s) in train, {name} needs 6 of a class that it adds to",
    ]


def test_fewer_neighbours_need_fewer_rows():
    x, y = rows()
    _, labels = table_methods.resample_features("smote", x, y, 0, 3, table_methods.sizes_within_reach("smote", y, 3))
    assert np.bincount(labels)[2] == 60
    assert len(table_methods.too_few_rows("smote", np.bincount(y), CLASSES, neighbours=3)) == 1
    assert table_methods.too_few_rows("random-over-sampling", np.bincount(y), CLASSES) == []


def test_an_error_names_the_class_as_the_file_does():
    x, y = rows()
    with pytest.raises(InputError, match=r"class 'single' has 1 examples\); it needs 6 of each"):
        table_methods.resample_features("smote", x, y, 0, classes=CLASSES)


def test_table_and_network_strategies_with_one_resampler_say_the_same():
    loaded = tiny(length=1, n=48, blank=0.0)
    crt = trial_of("schedule: {crt: {resample: smote}}", loaded).strategy
    table = bind_table(parse_strategy("s", {"table": "smote"}, where="test"), loaded, 0)
    assert crt.notes["too_few_rows"] == table.notes["too_few_rows"]
    assert "class 'G2' has" in crt.notes["too_few_rows"]["command"][0]
