"""Sequence files, tables, digits and the simulated mill."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imbalance_lab.data.dataset import IGNORE
from imbalance_lab.data.sources.digits import long_tail
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options

N, T, C = 30, 8, 3


def arrays() -> dict[str, np.ndarray]:
    """Legacy targets of ``G1 X NUM`` and ``X NUM``, fillers and padding as 0."""
    rng = np.random.default_rng(0)
    with_command = np.arange(N) % 2 == 0
    kind = np.where(with_command[:, None], [1, 2, 3, 0], [2, 3, 0, 0])
    return {
        "continuous": rng.normal(size=(N, T, C)),
        "categorical": rng.integers(0, 3, (N, T, 1)),
        "type_targets": kind,
        "command_targets": np.where(kind == 1, 1, 0),
        "param_type_targets": np.where(kind >= 2, 2, 0),
        "param_value_targets": np.where(kind == 3, rng.integers(0, 4, (N, 4)), 0),
        "groups": np.array([f"g{i // 3}" for i in range(N)]),
        "operation_type": np.arange(N) % 2,
    }


def sequences(path: Path, **options: object):
    return load_data(parse_options({"source": "sequences", "path": str(path), **options}))


def test_npz_fillers_are_masked_by_the_type_head(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays(), gcode_texts=np.array(["G1"] * N, dtype=object))
    loaded = sequences(tmp_path / "a.npz")
    d = loaded.dataset
    kind = d.targets["type"]
    assert d.facts["object_arrays_ignored"] == "gcode_texts"
    assert d.class_counts("command").tolist() == [0, N // 2]
    assert ((d.targets["param_type"] != IGNORE) == ((kind == 2) | (kind == 3))).all()
    assert ((d.targets["param_value"] != IGNORE) == (kind == 3)).all()
    assert ((kind == IGNORE) == (d.unit_position < 0)).all()
    assert d.unit_length[:2].tolist() == [3, 2]
    assert set(d.slices["operation"].tolist()) == {"0", "1"}
    sides = [set(d.groups[i].tolist()) for _, i in loaded.splits.items()]
    assert sum(map(len, sides)) == 10
    assert d.categorical.min() == 1  # code 0 is kept for missing values
    legacy = sequences(tmp_path / "a.npz", encoding="legacy").dataset
    assert legacy.class_counts("command").tolist() == [4 * N - N // 2, N // 2]


def test_pt_equals_npz(tmp_path: Path) -> None:
    content = arrays()
    np.savez(tmp_path / "a.npz", **content)
    mixed = {
        k: torch.from_numpy(v) if v.dtype.kind in "if" and i % 2 else v for i, (k, v) in enumerate(content.items())
    }
    torch.save({**mixed, "groups": content["groups"].tolist(), "note": "plain"}, tmp_path / "a.pt")
    assert sequences(tmp_path / "a.pt").dataset.digest == sequences(tmp_path / "a.npz").dataset.digest
    # as NumPy 1 named it
    torch.save(content, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "b.pt").read_bytes().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    (tmp_path / "b.pt").write_bytes(old)
    assert sequences(tmp_path / "b.pt").dataset.digest == sequences(tmp_path / "a.npz").dataset.digest


def test_object_arrays_in_pt_are_not_used(tmp_path: Path) -> None:
    torch.save({**arrays(), "gcode_texts": np.array(["G1"] * N, dtype=object)}, tmp_path / "a.pt")
    assert sequences(tmp_path / "a.pt").dataset.facts["object_arrays_ignored"] == "gcode_texts"


def test_other_types_and_shapes_of_pt(tmp_path: Path) -> None:
    content = {k: torch.from_numpy(v) for k, v in arrays().items() if v.dtype.kind in "if"}
    heads = {k: v for k, v in content.items() if k.endswith("_targets")}
    torch.save(content, tmp_path / "flat.pt")
    flat = sequences(tmp_path / "flat.pt").dataset
    rest = {k: v for k, v in content.items() if k not in heads}
    torch.save({**rest, "targets": {k.removesuffix("_targets"): v for k, v in heads.items()}}, tmp_path / "nested.pt")
    assert sequences(tmp_path / "nested.pt").dataset.digest == flat.digest
    short = {k: v.bfloat16() if v.is_floating_point() else v.to(torch.int32) for k, v in content.items()}
    torch.save(short, tmp_path / "short.pt")
    found = sequences(tmp_path / "short.pt").dataset
    assert {h: t.tolist() for h, t in found.targets.items()} == {h: t.tolist() for h, t in flat.targets.items()}


def test_labels_of_any_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain = {"continuous": rng.normal(size=(N, T, 2)), "tool": rng.integers(0, 3, (N, T)), "wear": np.arange(N) % 2}
    for name, rows in {"train": slice(0, N - 8), "val": slice(N - 8, N - 4), "test": slice(N - 4, N)}.items():
        part = {k: torch.from_numpy(v[rows]) for k, v in plain.items()}
        torch.save(part, tmp_path / f"{name}.pt")
    with pytest.raises(InputError, match=r"data\.target names arrays of labels"):
        sequences(tmp_path)
    data = sequences(tmp_path, target="tool").dataset
    assert dict(data.heads) == {"tool": ("0", "1", "2")}
    assert np.concatenate([data.targets["tool"][i] for i in range(N)]).tolist() == plain["tool"].ravel().tolist()
    assert "wear" in str(data.facts["arrays_not_used"])
    with pytest.raises(InputError, match=r"train.pt has no array 'tol' \(data.target\)"):
        sequences(tmp_path, target=["tol"])


def test_folder_with_train_val_and_test(tmp_path: Path) -> None:
    for name, n in {"train_sequences": 30, "val_sequences": 10, "test_sequences": 6}.items():
        part = {k: v[:n] for k, v in arrays().items() if k != "groups"}
        np.savez(tmp_path / f"{name}.npz", **part)
    loaded = sequences(tmp_path)
    assert [len(i) for _, i in loaded.splits.items()] == [30, 10, 6]
    assert "each sequence is its own group" in str(loaded.dataset.facts["groups"])
    (tmp_path / "val_sequences.npz").unlink()
    with pytest.raises(InputError, match=r"holds 0 files val\*\.npz"):
        sequences(tmp_path)


def test_tokens_with_a_vocabulary(tmp_path: Path) -> None:
    vocabulary = '{"vocab": {"PAD": 0, "UNK": 1, "G1": 2, "X": 3, "NUM_X_7": 4, "G0": 5}}'
    (tmp_path / "v.json").write_text(vocabulary)
    tokens = np.tile([[2, 3, 4, 0], [5, 1, 3, 0], [3, 4, 0, 0]], (4, 1))
    np.savez(tmp_path / "a.npz", continuous=np.zeros((12, 2, 1)), tokens=tokens)
    d = sequences(tmp_path / "a.npz", vocabulary=str(tmp_path / "v.json")).dataset
    assert d.heads["command"] == ("G0", "G1")
    assert d.class_counts("command").tolist() == [4, 4]
    assert d.class_counts("param_value").tolist() == [0] * 7 + [8, 0, 0]
    assert d.targets["type"][1].tolist() == [1, 0, 2, IGNORE]  # an unknown word is not padding
    with pytest.raises(InputError, match=r"give data\.vocabulary"):
        sequences(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", continuous=np.zeros((12, 2, 1)), tokens=tokens + 90)
    with pytest.raises(InputError, match="vocabulary does not match, it has no token of id 90"):
        sequences(tmp_path / "b.npz", vocabulary=str(tmp_path / "v.json"))


def test_mask_and_names(tmp_path: Path) -> None:
    content = {k: v for k, v in arrays().items() if k in {"continuous", "groups"}}
    label = np.tile(np.arange(T) % 3, (N, 1))
    mask = np.ones((N, T), dtype=bool)
    mask[:, 5:] = False
    np.savez(tmp_path / "a.npz", **content, state_targets=label, mask=mask, channels=np.array(["u", "v", "w"]))
    d = sequences(tmp_path / "a.npz").dataset
    assert d.channels == ("u", "v", "w")
    assert d.categorical.shape == (N, T, 0)
    assert d.class_counts("state").tolist() == [2 * N, 2 * N, N]
    assert set(d.unit_length.tolist()) == {5}


class Gadget:
    """Something that only full unpickling could load."""


def bad_sequences(tmp: Path) -> dict[str, tuple[str, dict[str, object]]]:
    good = arrays()
    objects = np.array([None] * N, dtype=object)
    return {
        "pickled": ("'continuous' is a pickled object array", {**good, "continuous": objects}),
        "pickled target": ("'command_targets' is a pickled object array", {**good, "command_targets": objects}),
        "lacking": ("has no array 'continuous'", {"type_targets": good["type_targets"]}),
        "targetless": ("neither '<head>_targets' nor 'tokens'", {"continuous": good["continuous"]}),
        "flat": ("shape (30, 24)", {**good, "continuous": good["continuous"].reshape(N, -1)}),
        "short": ("has 29 sequences, 'continuous' has 30", {**good, "type_targets": good["type_targets"][:29]}),
        "NaN": ("expected class numbers", {**good, "type_targets": np.where(np.eye(N, 4) > 0, np.nan, 1.0)}),
        "negative": ("found a negative class", {**good, "type_targets": good["type_targets"] - 1}),
        "untyped": ("no 'type_targets'", {k: v for k, v in good.items() if k != "type_targets"}),
        "mask": ("array 'mask' has shape (30, 2)", {**good, "mask": np.ones((N, 2), bool)}),
        "steps": ("array 'categorical' has shape", {**good, "categorical": np.zeros((N, T + 1, 1), int)}),
        "few": ("1 group(s) to split", {**good, "groups": np.array(["g"] * N)}),
    }


def test_bad_arrays_are_named(tmp_path: Path) -> None:
    for name, (message, content) in bad_sequences(tmp_path).items():
        np.savez(tmp_path / f"{name}.npz", **content)  # type: ignore[arg-type]
        with pytest.raises(InputError) as error:
            sequences(tmp_path / f"{name}.npz")
        assert message in str(error.value), name


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "a.pkl").write_bytes(b"x")
    np.savez(tmp_path / "whole.npz", **arrays())
    (tmp_path / "torn.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-400])
    torch.save({"continuous": Gadget()}, tmp_path / "gadget.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    messages = {
        "broken.npz": "cannot be read as npz",
        "torn.npz": "cannot be read as npz",
        "broken.pt": "cannot be read with weights_only=True",
        "gadget.pt": "cannot be read with weights_only=True",
        "empty.npz": "is an empty file",
        "a.pkl": "allowed: .npz, .pt, .pth",
        "list.pt": "expected a mapping",
        "none.npz": "does not exist",
    }
    for name, message in messages.items():
        with pytest.raises(InputError) as error:
            sequences(tmp_path / name)
        assert message in str(error.value), name
        assert "\n" not in str(error.value), name
        assert "arbitrary code" not in str(error.value), name  # no advice to load it unsafely


def frame(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "colour": rng.choice(["red", "green", None], n),
            "flag": rng.random(n) > 0.5,
            "empty": np.nan,
            "machine": [f"m{i % 12}" for i in range(n)],
            "grade": rng.choice([1, 2, 10], n, p=[0.7, 0.2, 0.1]),
            "kind": rng.choice(["a", "b"], n),
        }
    )


def load_table(folder: Path, table: pd.DataFrame, suffix: str = "csv", **options: object):
    path = folder / f"t.{suffix}"
    if suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    return load_data(parse_options({"source": "table", "path": str(path), "target": "grade", **options}))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table_with_two_targets_and_a_group(tmp_path: Path, suffix: str) -> None:
    loaded = load_table(tmp_path, frame(), suffix, target=["grade", "kind"], group="machine")
    d = loaded.dataset
    assert d.heads == {"grade": ("1", "2", "10"), "kind": ("a", "b")}
    assert d.channels == ("x",)
    assert d.categorical_channels == ("colour", "flag")
    assert d.categorical_sizes == (3, 3)
    assert d.facts["empty_columns_dropped"] == "empty"
    assert d.continuous.shape == (120, 1, 1)
    np.testing.assert_array_equal(np.array(d.heads["grade"]).astype(int)[d.targets["grade"][:, 0]], frame()["grade"])
    sides = [set(d.groups[i].tolist()) for _, i in loaded.splits.items()]
    assert [len(s) for s in sides] == [8, 2, 2]
    assert len(set.union(*sides)) == 12
    assert (d.categorical[frame()["colour"].isna().to_numpy(), 0, 0] == 0).all()


def test_table_without_groups_is_stratified(tmp_path: Path) -> None:
    loaded = load_table(tmp_path, frame())
    whole = loaded.dataset.class_counts("grade")
    for (_, index), fraction in zip(loaded.splits.items(), (0.7, 0.15, 0.15), strict=True):
        assert np.abs(loaded.dataset.class_counts("grade", index) - whole * fraction).max() < 1.01


def test_bad_tables_are_named(tmp_path: Path) -> None:
    good = frame()
    text = good.astype({"x": "object"})
    text.loc[4, "x"] = "n.a.!"
    unlabelled = good.astype({"grade": "float"})
    unlabelled.loc[2, "grade"] = np.nan
    groupless = good.copy()
    groupless.loc[1, "machine"] = None
    cases: list[tuple[str, pd.DataFrame, dict[str, object]]] = [
        ("row 6, column 'x': found the text 'n.a.!'", text, {}),
        ("row 4, column 'grade': the label is missing (1 such rows)", unlabelled, {}),
        ("row 3, column 'machine': the group is missing", groupless, {"group": "machine"}),
        ("no column 'label' (target); it has x, colour", good, {"target": "label"}),
        ("no column 'who' (group)", good, {"group": "who"}),
        ("expected classes, not quantities", good, {"target": "x"}),
        ("found the one class '1', expected at least two", good.assign(grade=1), {}),
        ("has no input column", good, {"exclude": ["x", "colour", "flag", "empty", "machine", "kind"]}),
    ]
    for message, table, options in cases:
        with pytest.raises(InputError) as error:
            load_table(tmp_path, table, **options)
        assert message in str(error.value)
    assert load_table(tmp_path, text, categorical=["x"]).dataset.categorical_channels[0] == "x"


def test_digits_split_is_the_usual_one_and_long_tailed_on_train() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    plain = load_data(parse_options({"source": "digits", "imbalance_ratio": 1}))
    x, y = load_digits(return_X_y=True)
    _, test = train_test_split(np.arange(len(y)), test_size=0.3, random_state=42, stratify=y)
    assert plain.dataset.unit[plain.splits.test].tolist() == sorted(test.tolist())
    assert len(plain.dataset) == len(y)
    np.testing.assert_array_equal(plain.dataset.native(plain.dataset.continuous)[:, 0], x)
    assert plain.dataset.image_shape == (8, 8)

    tailed = load_data(parse_options({"source": "digits", "imbalance_ratio": 20}))
    counts = sum(tailed.dataset.class_counts("digit", i) for i in (tailed.splits.train, tailed.splits.val))
    assert (np.diff(counts) < 0).all()
    assert counts[0] / counts[9] == pytest.approx(20, rel=0.1)
    assert tailed.dataset.unit[tailed.splits.test].tolist() == plain.dataset.unit[plain.splits.test].tolist()
    everywhere = load_data(parse_options({"source": "digits", "imbalance_ratio": 20, "imbalance_on": "all"}))
    test_counts = everywhere.dataset.class_counts("digit", everywhere.splits.test)
    assert test_counts[0] > 10 * test_counts[9]


def test_long_tail_counts() -> None:
    assert long_tail(np.array([100, 100, 100]), 100.0) == {0: 100, 1: 10, 2: 1}
    assert long_tail(np.array([100, 4, 100]), 4.0) == {0: 100, 1: 4, 2: 25}


def test_digits_that_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"imbalance_ratio 5000 .* leaves too few images"):
        load_data(parse_options({"source": "digits", "imbalance_ratio": 5000}))


def test_simulated_recordings_say_what_they_are() -> None:
    options = parse_options({"source": "simulated", "n_recordings": 9, "rows_per_recording": 100, "seed": 1})
    loaded = load_data(options)
    assert loaded.dataset.facts["simulated"] is True
    assert len(np.unique(loaded.dataset.groups)) == 9
    assert loaded.dataset.digest == load_data(options).dataset.digest
