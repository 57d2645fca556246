"""Windows and targets of recordings: both tasks, both encodings, and what must not leak."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.data.gcode.blocks import parse_block
from imbalance_lab.data.gcode.tokens import leading, masked_table
from imbalance_lab.data.gcode.vocabulary import build_vocabulary, legacy_targets, read_vocabulary, tokenize
from imbalance_lab.data.preprocessing import fit
from imbalance_lab.data.sources.encode import encode_recordings
from imbalance_lab.data.sources.recordings import Recordings
from imbalance_lab.errors import InputError
from imbalance_lab.load import load_data, parse_options

BLOCKS = ["G0 Z0.25", "G1 X-0.1254", "X1.5 Y2.5", None, "G2 X1 Y1 R0.5", "G3 X2 Y1 R0.5", "M30"]


def mill(recordings: int = 9, rows: int = 50, seed: int = 0) -> pd.DataFrame:
    """Small recordings whose channel ``row`` tells which row a value came from."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(recordings):
        n = rows + int(rng.integers(0, 30))
        block = rng.integers(0, len(BLOCKS), n)
        frames.append(
            pd.DataFrame(
                {
                    "recording": f"{'abc'[i % 3]}_{i:03d}",
                    "gcode_string": pd.Series([BLOCKS[b] for b in block], dtype="object"),
                    "momo": np.array([0, 1, 1, np.nan, 2, 3, 4])[block],
                    "stat": rng.choice([3.0, 5.0, np.nan], n),
                    "line": np.arange(n) * 10.0,
                    "f.row": 1000.0 * i + np.arange(n),
                    "f.Ax": rng.normal(size=n),
                    "g.Ax": rng.normal(size=n) if i % 3 else np.nan,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def encode(frame: pd.DataFrame, **options: object) -> LoadedData:
    return encode_recordings(Recordings(frame), parse_options({"source": "recordings", "path": "-", **options}))(None)


SMALL = {"window": {"length": 16, "stride": 4}}


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 50), st.integers(4, 70), st.integers(1, 3))
def test_steps_of_held_out_recordings_are_scored_once(seed: int, length: int, quarter: int) -> None:
    frame = mill(seed=seed)
    loaded = encode(frame, window={"length": length, "stride": max(1, length * quarter // 4)})
    d, command = loaded.dataset, loaded.dataset.targets["command"]
    names = np.unique(frame["recording"])
    for name, index in loaded.splits.items():
        scored = np.zeros((len(names), d.unit_length.max()), dtype=int)
        unit = np.broadcast_to(d.unit[index][:, None], d.unit_position[index].shape)
        hit = command[index] != IGNORE
        np.add.at(scored, (unit[hit], d.unit_position[index][hit]), 1)
        labelled = frame["momo"].isin([0, 1, 2, 3]).to_numpy()
        for r in np.unique(d.unit[index]):
            expected = labelled[frame["recording"] == names[r]]
            got = scored[r, : len(expected)]
            assert ((got > 0) == expected).all()
            assert name == "train" or got.max() <= 1
            assert len(expected) == d.unit_length[r]


def test_inputs_and_targets_come_from_the_same_row_of_the_same_recording() -> None:
    frame = mill()
    d = encode(frame, **SMALL).dataset
    value = d.native(d.continuous)[:, :, d.channels.index("f.row")]
    real = d.unit_position >= 0
    expected = 1000.0 * np.array([int(g.split("_")[1]) for g in d.groups])[:, None] + d.unit_position
    np.testing.assert_array_equal(value[real], expected[real])
    assert np.isnan(value[~real]).all()
    assert (d.categorical[~real] == 0).all()
    rows = frame.set_index(["recording", "line"])
    n, t = np.argwhere(d.targets["command"] != IGNORE)[::17].T
    for i, j in zip(n, t, strict=True):
        row = rows.loc[(d.groups[i], d.unit_position[i, j] * 10.0)]
        assert d.targets["command"][i, j] == row["momo"]
        letters = "".join(parse_block(row["gcode_string"]).letters) or "none"
        assert d.heads["addresses"][d.targets["addresses"][i, j]] == letters


def test_labels_from_text_follow_the_modal_state() -> None:
    raw = encode(mill(), labels="text", **SMALL).raw
    assert raw is not None
    state, previous = "", ""
    for recording, block, encoded in zip(raw.recording, raw.block, raw.encoded, strict=True):
        state = "" if recording != previous else state
        previous = recording
        parsed = parse_block(block) if block else None
        if parsed is not None:
            state = "" if parsed.cancels else parsed.motion or state
        assert encoded == (state if block else "")


def test_labels_are_no_inputs_and_excluded_columns_neither() -> None:
    d = encode(mill(), exclude=["f.row", "stat", "nothing*"], **SMALL).dataset
    assert d.channels == ("line", "f.Ax")
    assert d.categorical_channels == ()
    assert d.facts["exclude_patterns_without_a_column"] == "nothing*"
    assert d.channel_groups == {"other": ("line",), "f": ("f.Ax",)}


def test_a_frame_that_train_mostly_lacks_is_dropped_everywhere() -> None:
    kept = encode(mill(), min_coverage=0.5, **SMALL).dataset
    dropped = encode(mill(), **SMALL).dataset
    assert "g.Ax" in kept.channels
    assert "g.Ax" not in dropped.channels
    assert str(dropped.facts["channels_dropped_by_coverage"]).startswith("g (6")


def test_states_are_coded_from_train_alone() -> None:
    frame = mill()
    first = encode(frame, **SMALL)
    held_out = first.dataset.groups[first.splits.test][0]
    frame.loc[frame["recording"] == held_out, "stat"] = 9.0  # a state that train never has
    second = encode(frame, **SMALL).dataset
    assert first.dataset.categorical_sizes == second.categorical_sizes == (3,)
    assert (second.categorical[second.groups == held_out] == 0).all()
    assert set(np.unique(first.dataset.categorical)) == {0, 1, 2}


def test_scaling_is_fitted_on_the_rows_of_train_once() -> None:
    frame = mill()
    loaded = encode(frame, **SMALL)
    train = set(loaded.dataset.groups[loaded.splits.train].tolist())
    rows = frame[frame["recording"].isin(train)]
    scaler = fit(loaded.dataset, loaded.splits.train)
    column = loaded.dataset.channels.index("f.Ax")
    assert scaler.n_rows == len(rows)
    stored = loaded.dataset.scaling
    assert loaded.dataset.native(scaler.mean)[column] == pytest.approx(rows["f.Ax"].mean(), abs=1e-6)
    assert scaler.std[column] * stored.scale[column] == pytest.approx(rows["f.Ax"].std(ddof=0), rel=1e-5)
    wild = loaded.dataset.continuous[:2].copy()
    wild[0, 0, column], wild[0, 1, column] = 1e9, np.nan
    scaled = scaler.transform(wild)
    assert scaled[0, 0, column] == 10.0
    assert scaled[0, 1, column] == 0.0
    assert np.isfinite(scaled).all()


def test_constant_channels_have_unit_spread() -> None:
    frame = mill().assign(mpox=101325.13)
    loaded = encode(frame, **SMALL)
    scaler = fit(loaded.dataset, None, "all")
    assert (scaler.std[loaded.dataset.channels.index("mpox")], scaler.fitted_on) == (1.0, "all")
    assert loaded.dataset.facts["constant_channels"] == "mpox"


@pytest.mark.parametrize(
    ("number", "step", "expected"), [(-0.1254, 1e-3, "-1"), (0.0002, 1e-3, "0"), (3.275, 1e-3, "3"), (40, 1, "4")]
)
def test_leading_digit_keeps_the_sign(number: float, step: float, expected: str) -> None:
    assert leading(number, step) == expected


def test_masked_tokens_spell_the_block() -> None:
    table = masked_table([parse_block("G53 G0 Z0."), parse_block("X-0.5 Y2")], build_vocabulary({}))

    def spell(block: int, head: str) -> list[str]:
        return ["." if c == IGNORE else table.heads[head][c] for c in table.targets[head][block]]

    assert spell(0, "type") == ["command", "command", "parameter", "numeric", "end"]
    assert spell(0, "command") == ["G53", "G0", ".", ".", "."]
    assert spell(0, "param_type") == [".", ".", "Z", "Z", "."]
    assert spell(0, "param_value") == [".", ".", ".", "0", "."]
    assert spell(1, "param_type") == ["X", "X", "Y", "Y", "."]
    assert spell(1, "param_value") == [".", "-5", ".", "2", "."]
    assert table.heads["command"] == ("G0", "G53")
    assert table.first_command == ("G53", "")


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 50), st.integers(4, 30))
def test_masks_of_tokens(seed: int, length: int) -> None:
    loaded = encode(mill(seed=seed), task="tokens", window={"length": length, "stride": length})
    d = loaded.dataset
    kind = d.targets["type"]
    names = d.heads["type"]
    real = d.unit_position >= 0
    assert ((kind != IGNORE) == real).all()
    applies = {"command": ("command",), "param_type": ("parameter", "numeric"), "param_value": ("numeric",)}
    for head, kinds in applies.items():
        expected = np.isin(kind, [names.index(k) for k in kinds])
        assert ((d.targets[head] != IGNORE) == expected).all()
    end = kind == names.index("end")
    assert (end.sum(axis=1) == 1).all()
    assert (end.argmax(axis=1) + 1 == d.unit_length[d.unit]).all()


def test_held_out_token_windows_share_no_row() -> None:
    loaded = encode(mill(), task="tokens", **SMALL)
    d = loaded.dataset
    value = d.native(d.continuous)[:, :, d.channels.index("f.row")]
    for name, index in loaded.splits.items():
        rows = value[index][~np.isnan(value[index])]
        assert (len(np.unique(rows)) == len(rows)) == (name != "train")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("G1 X-0.1254", ["G1", "X", "NUM_X_-"]),
        ("G53 G0 Z0.", ["G53", "G0", "Z0."]),
        ("G01 X3.275 Y0.0", ["G1", "X", "NUM_X_3", "Y", "NUM_Y_0"]),
        ("N5 G2 R0.0788 (arc)", ["G2", "R", "NUM_R_7"]),
        ("M3 S12000", ["M3", "S", "NUM_S_1"]),
        ("G1 Z0.025 F40.", ["G1", "Z", "NUM_Z_2", "F40."]),
    ],
)
def test_legacy_words(text: str, tokens: list[str]) -> None:
    assert tokenize(text, build_vocabulary({})) == tokens


def test_legacy_targets_write_zero_where_nothing_applies() -> None:
    v = build_vocabulary({"G0 X1.5 Z0.": 3, "G1 X-1.5": 2, "G17": 1})
    assert v.commands == ("G0", "G1", "G17")
    found = [legacy_targets(t, v) for t in ("PAD", "G17", "X", "NUM_X_1", "NUM_X_-", "Z0.", "never")]
    assert found == [(0, 0, 0, 0), (1, 2, 0, 0), (2, 0, 0, 0), (3, 0, 0, 1), (3, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)]


def test_legacy_encoding_shows_the_placeholder_to_who_looks() -> None:
    loaded = encode(mill(), task="tokens", encoding="legacy", **SMALL)
    d = loaded.dataset
    assert loaded.scaler_fitted_on == "all"
    assert (d.targets["command"] >= 0).all()
    filled = d.targets["command"] == 0
    real = filled & (d.targets["type"] == d.heads["type"].index("command"))
    assert d.heads["command"][0] == "G0"
    assert filled.sum() > 5 * real.sum() > 0
    assert (d.targets["type"][d.unit_position < 0] == 0).all()
    both = set(d.groups[loaded.splits.train]) & set(d.groups[loaded.splits.test])
    assert both, "shuffled windows put recordings on both sides"
    assert sorted(np.concatenate([i for _, i in loaded.splits.items()]).tolist()) == list(range(len(d)))
    assert loaded.raw is not None
    assert loaded.raw.vocabulary["PAD"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has no key 'vocab'"),
        ('{"vocab": {"X": "one"}}', "token 'X': id 'one' is not an integer"),
        ('{"vocab": {"X": 1}, "config": {"bucket_digits": 0}}', "bucket_digits: found 0"),
        ('{"vocab": {"X": 1}, "config": {"precision": {"X": 0}}}', "config.precision"),
        ('{"vocab": {"PAD": 0, "banana": 1}}', "does not match the data"),
    ],
)
def test_bad_vocabulary(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "v.json").write_text(content)
    options = parse_options(
        {"source": "recordings", "path": "-", "task": "tokens", "encoding": "legacy", "vocabulary": "v.json", **SMALL}
    )
    with pytest.raises(InputError, match=None) as error:
        encode_recordings(Recordings(mill()), options, base_dir=tmp_path)
    assert message in str(error.value)


def test_missing_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_vocabulary(tmp_path / "v.json")


def real(shared_dir: Path, **options: object) -> LoadedData:
    path = shared_dir / "data/gcode_fingerprinting/recordings.parquet"
    return load_data(parse_options({"source": "recordings", "path": str(path), **options}))


def test_real_steps(shared_dir: Path) -> None:
    loaded = real(shared_dir)
    d = loaded.dataset
    assert loaded.raw is not None
    shares = {c: (loaded.raw.encoded == c).sum() / (60_566 - 2_773) for c in d.heads["command"]}
    assert {c: round(100 * s, 2) for c, s in shares.items()} == {"G0": 4.25, "G1": 87.63, "G2": 2.07, "G3": 4.28}
    assert "momo" not in d.channels
    assert not [c for c in d.channels if c.startswith(("pos", "gcode", "line", "feed"))]
    for _, index in loaded.splits.items():
        assert (d.class_counts("command", index) > 0).all()
        assert len(np.unique(d.slices["operation"][index])) == 9
    sides = [set(d.groups[index].tolist()) for _, index in loaded.splits.items()]
    assert sum(len(s) for s in sides) == len(set.union(*sides)) == 108
    frames = {c.split(".")[0] for c in d.channels if "." in c}
    assert "frame_b1" not in frames
    assert {"frame_r2", "y_bed__3"} <= frames


def test_real_legacy_targets_are_mostly_fillers(shared_dir: Path) -> None:
    vocabulary = str(shared_dir / "data/gcode_fingerprinting/vocabulary_1digit_hybrid.json")
    d = real(shared_dir, task="tokens", encoding="legacy", vocabulary=vocabulary).dataset
    assert d.heads["command"] == ("G0", "G1", "G17", "G2", "G3", "G53", "G55", "G90", "G94", "M3", "M30")
    class_0 = d.targets["command"] == 0
    true = class_0 & (d.targets["type"] == 1)
    assert class_0.sum() > 20_000
    assert true.sum() < 100
    assert d.facts["unknown_token_share"] == 0.0
