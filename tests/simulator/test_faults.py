"""Each planted fault changes what it should, by as much as its strength says, and nothing else."""

from dataclasses import fields, replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from imbalance_lab.data.dataset import IGNORE, LoadedData, SequenceDataset, Splits
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data
from imbalance_lab.simulator.mill import FAULTS, SimulatedMill, plant, plant_remaining, simulate
from imbalance_lab.simulator.mill_options import SimulatedOptions


@pytest.fixture(scope="module")
def steps() -> LoadedData:
    return load_data(SimulatedOptions(source="simulated", n_recordings=24, n_frames=3))


@pytest.fixture(scope="module")
def tokens() -> LoadedData:
    # Short windows of a balanced mill: the most frequent block of a long window is nearly always a G1.
    window = {"length": 8, "stride": 4}
    options = {"n_recordings": 24, "n_frames": 3, "imbalance_ratio": 2, "task": "tokens", "window": window}
    return load_data(SimulatedOptions.model_validate({"source": "simulated", **options}))


@pytest.fixture(scope="module")
def table() -> LoadedData:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 0, 0, 0, 0, 0, 0, 1, 1, 2], 60)
    x = rng.normal(size=(600, 4)) + y[:, None]
    dataset = SequenceDataset(
        continuous=x[:, None, :].astype(np.float32),
        categorical=np.zeros((600, 1, 0), dtype=np.int64),
        targets={"kind": y[:, None]},
        heads={"kind": ("a", "b", "c")},
        groups=np.array([f"g{i % 30:02d}" for i in range(600)]),
        channels=("u", "v", "w", "x"),
        unit=np.arange(600),
        unit_position=np.zeros((600, 1), dtype=np.int64),
        unit_length=np.ones(600, dtype=np.int64),
    )
    part = np.arange(600) % 10
    return LoadedData(dataset, Splits(*(np.flatnonzero(m) for m in (part < 6, (part >= 6) & (part < 8), part >= 8))))


def changed(a: object, b: object) -> set[str]:
    """Names of the fields in which two dataclasses differ."""

    def same(x, y):
        if hasattr(x, "__array__"):  # windows and texts too
            x, y = np.asarray(x), np.asarray(y)
            return x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        if isinstance(x, dict):
            return x.keys() == y.keys() and all(same(x[k], y[k]) for k in x)
        if hasattr(x, "__dataclass_fields__"):
            return not changed(x, y)
        return x == y

    return {f.name for f in fields(a) if not same(getattr(a, f.name), getattr(b, f.name))}


def by_place(loaded: LoadedData, head: str = "command") -> dict[tuple[str, int], set[int]]:
    """The labels that each row of a recording has in the windows that score it."""
    d = loaded.dataset
    n, i = np.nonzero(d.targets[head] != IGNORE)
    out: dict[tuple[str, int], set[int]] = {}
    for group, place, label in zip(d.groups[n], d.unit_position[n, i], d.targets[head][n, i], strict=True):
        out.setdefault((str(group), int(place)), set()).add(int(label))
    return out


@pytest.mark.parametrize("fault", FAULTS)
def test_strength_zero_is_no_fault(steps, fault):
    assert plant(steps, fault, 0.0, 0) is steps


@pytest.mark.parametrize("fault", FAULTS)
def test_planting_is_deterministic_and_leaves_the_input_alone(steps, fault):
    before = steps.dataset.digest
    first, again, other = (plant(steps, fault, 0.5 if fault == "collision" else 0.95, seed) for seed in (3, 3, 4))
    assert changed(first, again) == set()
    assert changed(first, steps) != set()
    assert changed(first, other) != set() or fault in {"absent-class", "missingness-slice"}
    assert steps.dataset.digest == before


@pytest.mark.parametrize(
    ("fault", "of_data", "of_dataset"),
    [
        ("placeholder-class", {"dataset"}, {"targets", "heads"}),
        ("collision", {"dataset", "raw"}, {"targets"}),
        ("absent-class", {"dataset", "raw"}, {"targets"}),
        ("overlapping-windows", {"splits"}, set()),
        ("label-channel", {"dataset"}, {"continuous", "channels", "channel_groups", "scaling"}),
        ("missingness-slice", {"dataset"}, {"continuous"}),
        ("no-signal-class", {"dataset", "raw"}, {"targets"}),
        ("label-noise", {"dataset", "raw"}, {"targets"}),
        ("constant-metric", {"dataset", "raw"}, {"targets"}),
    ],
)
def test_only_what_it_names_changes(steps, fault, of_data, of_dataset):
    planted = plant(steps, fault, 0.97, 1)
    assert changed(planted, steps) == of_data
    assert changed(planted.dataset, steps.dataset) == of_dataset
    if "targets" in of_dataset:
        same = [h for h in steps.dataset.targets if h != "command"]
        assert all(np.array_equal(planted.dataset.targets[h], steps.dataset.targets[h]) for h in same)


@pytest.mark.parametrize("fault", ["collision", "absent-class", "no-signal-class", "label-noise", "constant-metric"])
def test_overlapping_windows_stay_consistent(steps, fault):
    planted = plant(steps, fault, 0.6, 2)
    labels = by_place(planted)
    assert all(len(found) == 1 for found in labels.values())
    scored = planted.dataset.targets["command"] != IGNORE
    assert not (scored & (steps.dataset.targets["command"] == IGNORE)).any()
    # The text rows say what the positions say.
    names = planted.dataset.heads["command"]
    raw = planted.raw
    encoded = {(r, int(i)): e for r, i, e in zip(raw.recording.tolist(), raw.row, raw.encoded.tolist(), strict=True)}
    assert all(encoded[place] == names[next(iter(found))] for place, found in labels.items())
    assert {p for p, e in encoded.items() if e} == set(labels)


@pytest.mark.parametrize("strength", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["steps", "tokens"])
def test_placeholder_share(request, kind, strength):
    loaded = request.getfixturevalue(kind)
    planted = plant(loaded, "placeholder-class", strength, 0).dataset
    command, types = planted.targets["command"], planted.targets["type"]
    is_command = planted.heads["type"].index("command")
    zero = command == 0
    assert (types[zero] != is_command).mean() == pytest.approx(strength, abs=0.01)
    assert (types[(command != IGNORE) & ~zero] == is_command).all()
    changed_here = command != loaded.dataset.targets["command"]
    assert (command[changed_here] == 0).all()
    for c in range(1, len(planted.heads["command"])):
        had = (loaded.dataset.targets["command"] == c).any()
        assert (command == c).any() == had  # no class vanishes with it


@pytest.mark.parametrize(("strength", "merged"), [(0.1, 2), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_collision_merges_words(steps, strength, merged):
    planted = plant(steps, "collision", strength, 0)
    before, after = (d.dataset.class_counts("command") for d in (steps, planted))
    assert (after > 0).sum() == (before > 0).sum() - merged + 1
    assert before.sum() == after.sum()
    ids = list(planted.raw.vocabulary.values())
    assert len(ids) - len(set(ids)) == merged - 1
    assert np.array_equal(planted.raw.block, steps.raw.block)


@pytest.mark.parametrize("seed", range(6))
def test_absent_class_leaves_one_split_only(steps, seed):
    planted = plant(steps, "absent-class", 1.0, seed)
    lost = []
    for name, index in steps.splits.items():
        before, after = (d.dataset.class_counts("command", index) for d in (steps, planted))
        lost += [(name, c) for c in range(len(before)) if before[c] and not after[c]]
        assert ((before == after) | (after == 0)).all()
    assert len(lost) == 1
    assert lost[0][0] in {"val", "test"}
    assert lost[0][1] == steps.dataset.class_counts("command").argmin()


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_overlapping_windows_exchange_splits(steps, strength):
    planted = plant(steps, "overlapping-windows", strength, 0).splits
    moved = np.isin(planted.test, steps.splits.train).mean()
    assert moved == pytest.approx(strength, abs=0.5 / len(steps.splits.test))
    every = np.sort(np.concatenate([i for _, i in planted.items()]))
    assert np.array_equal(every, np.sort(np.concatenate([i for _, i in steps.splits.items()])))
    assert [len(i) for _, i in planted.items()] == [len(i) for _, i in steps.splits.items()]
    groups = steps.dataset.groups
    assert set(groups[planted.train]) & set(groups[planted.test])


@pytest.mark.parametrize("strength", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["steps", "table"])
def test_label_channel_tells_the_label(request, kind, strength):
    loaded = request.getfixturevalue(kind)
    planted = plant(loaded, "label-channel", strength, 0).dataset
    target = next(iter(planted.targets.values()))
    scored = target != IGNORE
    channel = planted.continuous[:, :, -1]
    share = np.bincount(target[scored]) / scored.sum()
    expected = strength + (1 - strength) * (share**2).sum()  # a random draw is right now and then
    assert (channel == target)[scored].mean() == pytest.approx(expected, abs=0.05)
    assert np.array_equal(planted.continuous[:, :, :-1], loaded.dataset.continuous, equal_nan=True)


def test_missing_frame_is_missing_in_one_operation_only(steps):
    planted = plant(steps, "missingness-slice", 1.0, 0).dataset
    gone = np.isnan(planted.continuous) & ~np.isnan(np.asarray(steps.dataset.continuous))
    channels = {planted.channels[c].split(".")[0] for c in np.flatnonzero(gone.any(axis=(0, 1)))}
    rows = gone.any(axis=(1, 2))
    hit = set(planted.slices["operation"][rows])
    assert len(channels) == len(hit) == 1
    assert set(planted.slices["operation"][~rows]).isdisjoint(hit)
    some = plant(steps, "missingness-slice", 0.5, 0).dataset
    rows = np.isnan(some.continuous).any(axis=(1, 2)) & ~np.isnan(np.asarray(steps.dataset.continuous)).any(axis=(1, 2))
    inside = np.isin(some.slices["operation"], list(set(some.slices["operation"][rows])))
    of = np.unique(some.groups[rows]).size / np.unique(some.groups[inside]).size
    assert of == pytest.approx(0.5, abs=0.1)


def test_missingness_follows_a_class_where_there_is_no_slice(table):
    planted = plant(table, "missingness-slice", 1.0, 0).dataset
    gone = np.isnan(planted.continuous).any(axis=2)
    assert np.array_equal(gone, table.dataset.targets["kind"] == 2)


def auc(loaded: LoadedData, head: str, c: int) -> float:
    """ROC AUC of class ``c`` on test by boosting on each position's and its neighbours' inputs."""
    d = loaded.dataset
    moving = [i for i, c in enumerate(d.channels) if c[-2:] in {"Ax", "Ay", "Gz", "or"} or "." not in c]
    x = np.nan_to_num(d.continuous[:, :, moving])
    near = np.concatenate([np.roll(x, k, axis=1) for k in (-2, -1, 0, 1, 2)] if x.shape[1] > 1 else [x], axis=2)
    scored = d.targets[head] != IGNORE
    side = {name: scored & np.isin(np.arange(len(d)), index)[:, None] for name, index in loaded.splits.items()}
    y = d.targets[head] == c
    probe = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(near[side["train"]], y[side["train"]])
    held = side["val"] | side["test"]
    return float(roc_auc_score(y[held], probe.predict_proba(near[held])[:, 1]))


def test_class_without_signal_on_steps(steps):
    c = int(steps.dataset.class_counts("command").argmin())
    planted = plant(steps, "no-signal-class", 1.0, 0)
    assert auc(steps, "command", c) > 0.9
    assert 0.38 < auc(planted, "command", c) < 0.62
    # As many labels as before per recording, and on none of the old rows.
    old, new = (by_place(d) for d in (steps, planted))
    assert {p for p, found in new.items() if c in found}.isdisjoint({p for p, found in old.items() if c in found})
    was, now = ([p[0] for p, found in x.items() if c in found] for x in (old, new))
    assert sorted(was) == sorted(now)


def test_class_without_signal_on_a_table(table):
    planted = plant(table, "no-signal-class", 1.0, 0)
    assert auc(table, "kind", 2) > 0.9
    assert 0.3 < auc(planted, "kind", 2) < 0.7
    assert changed(planted.dataset, table.dataset) == {"continuous"}
    rows = {name: {r.tobytes() for r in planted.dataset.continuous[i]} for name, i in planted.splits.items()}
    assert not rows["train"] & rows["test"]  # donors come from the same split
    same = table.dataset.targets["kind"][:, 0] != 2
    assert np.array_equal(planted.dataset.continuous[same], table.dataset.continuous[same])


@pytest.mark.parametrize("strength", [0.01, 0.05, 0.2])
def test_label_noise_share(steps, strength):
    planted = plant(steps, "label-noise", strength, 0)
    old, new = by_place(steps), by_place(planted)
    assert old.keys() == new.keys()
    assert np.mean([old[p] != new[p] for p in old]) == pytest.approx(strength, abs=1e-3)
    assert np.array_equal(planted.raw.block, steps.raw.block)
    assert np.array_equal(planted.raw.controller, steps.raw.controller)


@pytest.mark.parametrize("strength", [0.95, 0.99])
def test_constant_predictor_wins(steps, strength):
    planted = plant(steps, "constant-metric", strength, 0)
    counts = planted.dataset.class_counts("command")
    assert counts.max() / counts.sum() == pytest.approx(strength, abs=0.01)
    for _, index in steps.splits.items():
        before, after = (d.dataset.class_counts("command", index) for d in (steps, planted))
        assert np.array_equal(before > 0, after > 0)
    share = steps.dataset.class_counts("command").max() / steps.dataset.class_counts("command").sum()
    assert plant(steps, "constant-metric", share - 0.1, 0) is steps


@pytest.mark.parametrize("fault", ["absent-class", "no-signal-class", "constant-metric"])
def test_rewritten_text_is_modally_true(steps, fault):
    from imbalance_lab.data.gcode.blocks import modal_motion, parse_column

    raw = plant(steps, fault, 0.97, 0).raw
    starts = np.flatnonzero(np.append(True, raw.recording[1:] != raw.recording[:-1]))
    column = parse_column(np.where(raw.block == "", None, raw.block))
    codes, names = modal_motion(column, starts)
    effective = np.array([*names, ""])[codes]
    labelled = raw.encoded != ""
    assert np.array_equal(effective[labelled], raw.encoded[labelled])
    assert np.array_equal(raw.controller[labelled], raw.encoded[labelled])
    before = steps.raw.encoded != ""
    assert (raw.block[before & ~labelled] == "").all()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["tokens", "table"])
def test_every_fault_fits_every_kind_of_data(request, kind, fault):
    loaded = request.getfixturevalue(kind)
    assert changed(plant(loaded, fault, 0.98, 0), loaded) != set()


def test_faults_of_the_recordings_are_in_the_table():
    clean = simulate(SimulatedMill(n_recordings=9))
    leaky = simulate(SimulatedMill(n_recordings=9, faults={"label-channel": 1.0}))
    assert set(leaky.columns) - set(clean.columns) == {"planted.Label"}
    assert (leaky["planted.Label"] == leaky["momo"]).all()
    holes = simulate(SimulatedMill(n_recordings=9, faults={"missingness-slice": 1.0}))
    missing = holes.isna().any(axis=1)
    operation = holes["recording"].str.rsplit("_", n=1).str[0]
    assert operation[missing].nunique() == 1
    assert not set(operation[missing]) & set(operation[~missing])
    frames = {c.split(".")[0] for c in holes.columns[holes.isna().any()]}
    assert len(frames) == 1
    unhurt = [c for c in clean if c.split(".")[0] not in frames]
    assert holes[unhurt].equals(clean[unhurt])


def test_the_rest_is_planted_after_loading(steps):
    mill = SimulatedMill(faults={"label-noise": 0.05, "label-channel": 1.0})
    planted = plant_remaining(steps, mill)
    assert changed(planted, plant(steps, "label-noise", 0.05, mill.seed)) == set()


def test_impossible_faults_are_named(steps, table):
    with pytest.raises(InputError, match="unknown fault 'typo'"):
        plant(steps, "typo", 0.5, 0)
    with pytest.raises(InputError, match=r"strength of the fault 'collision' is 1\.5"):
        plant(steps, "collision", 1.5, 0)
    one = replace(table.dataset, targets={"kind": np.zeros((600, 1), dtype=np.int64)})
    for fault in ("collision", "label-noise", "no-signal-class"):
        with pytest.raises(InputError, match="'kind'"):
            plant(replace(table, dataset=one), fault, 0.5, 0)
