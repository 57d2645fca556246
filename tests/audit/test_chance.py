"""Equal inputs count as leakage only beyond what chance gives for such inputs."""

import numpy as np
import pytest
from audit_cases import recordings, with_data

from imbalance_lab.audit.checks.split_leakage import check_split_leakage
from imbalance_lab.audit.finding import Verdict
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.data.dataset import LoadedData, SequenceDataset, Splits


def table(values, categorical=None, seed=0) -> LoadedData:
    """Rows of a table as their own groups, split .6/.2/.2."""
    n = len(values)
    rng = np.random.default_rng(seed)
    codes = np.zeros((n, 1, 0), dtype=np.int64) if categorical is None else categorical[:, None, :]
    dataset = SequenceDataset(
        continuous=values[:, None, :].astype(np.float32),
        categorical=codes,
        targets={"y": rng.integers(0, 2, size=(n, 1))},
        heads={"y": ("a", "b")},
        groups=np.array([f"r{i:06d}" for i in range(n)]),
        channels=tuple(f"c{i}" for i in range(values.shape[1])),
        unit=np.arange(n),
        unit_position=np.zeros((n, 1), dtype=np.int64),
        unit_length=np.ones(n, dtype=np.int64),
        categorical_channels=tuple(f"k{i}" for i in range(codes.shape[2])),
        categories=tuple(tuple(map(str, range(int(codes[:, 0, i].max())))) for i in range(codes.shape[2])),
    )
    cut = [int(0.6 * n), int(0.8 * n)]
    return LoadedData(dataset, Splits(*np.split(np.arange(n), cut)))


def duplicates(loaded):
    return {f.subject: f for f in check_split_leakage(loaded, AuditContext())}["exact duplicates"]


def one_hot(codes, k):
    return np.concatenate([np.eye(k)[codes[:, i]] for i in range(codes.shape[1])], axis=1)


def chance_data(kind, rng):
    """Inputs whose values are few, so that some of them meet."""
    if kind == "a few hundred rows, one decimal":
        return rng.standard_normal((800, 3)).round(1)
    if kind == "many rows, three decimals":
        return rng.standard_normal((60_000, 2)).round(3)
    if kind == "survey of ten questions, answers that hang together":
        mood = rng.standard_normal((4000, 1))
        return np.clip(np.round(2.5 + mood + 0.7 * rng.standard_normal((4000, 10))), 0, 5)
    if kind == "one column says what another says":
        code = rng.integers(0, 60, size=3000)
        return np.stack([code, 100 - code, rng.integers(0, 30, size=3000), rng.integers(0, 4, size=3000)], axis=1)
    if kind == "categories as columns of 0 and 1":
        return one_hot(rng.integers(0, 8, size=(3000, 5)), 8)
    if kind == "rare events":
        return (rng.random((3000, 25)) < 0.03).astype(float)
    if kind == "most rows have a twin":
        return rng.integers(0, 4, size=(2000, 4))
    assert kind == "one column"
    return rng.integers(0, 50, size=(500, 1))


CHANCE = (
    "a few hundred rows, one decimal",
    "many rows, three decimals",
    "survey of ten questions, answers that hang together",
    "one column says what another says",
    "categories as columns of 0 and 1",
    "rare events",
    "most rows have a twin",
    "one column",
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", CHANCE)
def test_few_valued_inputs_meet_by_chance(kind, seed):
    rng = np.random.default_rng(seed)
    finding = duplicates(table(chance_data(kind, rng)))
    assert finding.verdict is Verdict.PASS, finding.message
    assert finding.rate == 0 or "chance" in finding.message


def copied(values, share, rng):
    """Some rows of test are rows of train."""
    n = len(values)
    out = values.copy()
    to = rng.choice(np.arange(int(0.8 * n), n), size=max(1, int(share * n)), replace=False)
    out[to] = out[rng.choice(int(0.6 * n), size=len(to), replace=False)]
    return out


def leak_data(kind, rng):
    if kind == "measured values":
        return rng.standard_normal((800, 4))
    if kind == "measured values beside flags":
        return np.concatenate([rng.standard_normal((800, 3)), rng.random((800, 6)) < 0.02], axis=1)
    if kind == "forty switches":
        return (rng.random((800, 40)) < 0.5).astype(float)
    if kind == "seven digits":
        return rng.integers(0, 10, size=(3000, 7))
    assert kind == "two measured values"
    return rng.standard_normal((800, 2))


LEAKS = ("measured values", "measured values beside flags", "forty switches", "seven digits", "two measured values")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.003, 0.05])
@pytest.mark.parametrize("kind", LEAKS)
def test_copies_are_found(kind, share, seed):
    rng = np.random.default_rng(seed)
    finding = duplicates(table(copied(leak_data(kind, rng), share, rng)))
    assert finding.verdict is Verdict.FAIL, finding.message
    assert finding.kind == "artefact"


def test_every_row_three_times_is_a_leak_though_most_have_a_twin():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal((300, 5)), 3, axis=0)[rng.permutation(900)]
    assert duplicates(table(values)).verdict is Verdict.FAIL


def test_rows_of_which_nothing_is_known_are_no_copies():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((500, 4))
    values[rng.random(500) < 0.2] = np.nan
    codes = rng.integers(1, 5, size=(500, 2))
    codes[np.isnan(values).all(axis=1)] = 0
    finding = duplicates(table(values, codes))
    assert finding.verdict is Verdict.PASS
    assert finding.rate == 0


def test_categories_unknown_in_val_and_test_are_no_copies():
    """Identifiers that train has never seen all become code 0."""
    rng = np.random.default_rng(0)
    codes = np.zeros((300, 2), dtype=np.int64)
    codes[:180] = rng.integers(0, 200, size=(180, 2))
    codes[:5] = 0
    assert duplicates(table(np.zeros((300, 0)), codes)).verdict is Verdict.PASS


def test_sequences_of_one_measured_channel_still_leak():
    loaded = recordings(channels=1)
    assert duplicates(loaded).verdict is Verdict.PASS
    values = loaded.dataset.continuous.copy()
    values[loaded.splits.test[:3]] = values[loaded.splits.train[:3]]
    assert duplicates(with_data(loaded, continuous=values)).verdict is Verdict.FAIL


def test_discrete_sequences_share_rows_by_chance():
    """Four switches at each step: rows repeat across splits without any copy."""
    loaded = recordings(channels=4)
    values = (np.random.default_rng(0).random(loaded.dataset.continuous.shape) * 12).round(0)
    changed = with_data(loaded, continuous=values.astype(np.float32))
    finding = {f.subject: f for f in check_split_leakage(changed, AuditContext())}["shared input rows"]
    assert finding.verdict is not Verdict.FAIL, finding.message
