"""The simulated mill against its own statements and against the real recordings."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score

from imbalance_lab.errors import InputError
from imbalance_lab.simulator import kinematics, toolpaths
from imbalance_lab.simulator.mill import OPERATIONS, SimulatedMill, causal_channels, simulate

DEFAULT = SimulatedMill()


@pytest.fixture(scope="module")
def default() -> pd.DataFrame:
    return simulate(DEFAULT)


def sensor_columns(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame if "." in c or c.endswith("_motor") or c == "spindle"]


def test_same_options_give_the_same_recordings(default):
    pd.testing.assert_frame_equal(default, simulate(SimulatedMill()))
    other = simulate(SimulatedMill(seed=1))
    assert not np.array_equal(default["x_motor"].to_numpy()[:200], other["x_motor"].to_numpy()[:200])


def test_a_recording_depends_on_its_number_alone(default):
    few = simulate(SimulatedMill(n_recordings=4))
    same = default[default["recording"].isin(few["recording"].unique())]
    pd.testing.assert_frame_equal(few, same.reset_index(drop=True))


def test_noise_changes_only_the_sensors():
    quiet, loud = (simulate(SimulatedMill(n_recordings=3, noise=n)) for n in (0.0, 2.0))
    sensors = [c for c in quiet if "." in c or "motor" in c or c.startswith("spindle")]
    pd.testing.assert_frame_equal(quiet.drop(columns=sensors), loud.drop(columns=sensors))
    assert all(not np.array_equal(quiet[c], loud[c]) for c in sensors)


def test_columns_and_types_are_those_of_the_real_recordings(default, shared_dir):
    import pyarrow.parquet as pq

    real = pq.read_schema(shared_dir / "data/gcode_fingerprinting/recordings.parquet")
    everything = simulate(SimulatedMill(n_recordings=1, n_frames=16))
    assert set(everything.columns) == set(real.names)
    plain = [c for c in real.names if "." not in c]
    assert [c for c in default.columns if "." not in c] == plain
    for name in default.columns:
        if str(real.field(name).type) in {"float", "int32"}:
            assert default[name].dtype == {"float": np.float32, "int32": np.int32}[str(real.field(name).type)], name


def test_magnitudes_are_those_of_the_real_recordings(default, shared_dir):
    columns = ["spindle", "x_motor", "y_motor", "z_motor", "frame_r2.Ax", "frame_r2.RMS", "frame_r2.Pressure"]
    real = pd.read_parquet(shared_dir / "data/gcode_fingerprinting/recordings.parquet", columns=columns)
    low, high = real.quantile(0.001), real.quantile(0.999)
    middle = default[columns].median()
    assert ((middle > low) & (middle < high)).all(), pd.DataFrame({"low": low, "simulated": middle, "high": high})


def test_status_reports_come_about_four_times_a_second(default):
    step = pd.to_timedelta(default["t_console"]).dt.total_seconds().groupby(default["recording"]).diff().dropna()
    assert 0.25 < step.median() < 0.265
    assert step.min() > 0.19
    assert 0.01 < (step > 0.4).mean() < 0.06  # lost reports, as on the real mill


def test_text_read_modally_agrees_with_the_controller(default):
    # Independent of the package's parser: the last motion word seen is the one in force.
    word = re.compile(r"G([0-3])(?!\d)")
    for _, rows in default.groupby("recording"):
        mode = None
        for text, momo in zip(rows["gcode_string"], rows["momo"], strict=True):
            found = word.findall(text)
            mode = int(found[-1]) if found else 4 if text == "M30" else mode
            assert mode == momo, text


def test_text_has_the_style_of_the_real_blocks(default, shared_dir):
    style = re.compile(r"M30|G53 G0 Z0\.|(?:G[0-3] ?)?(?:[XYZ]-?\d*\.\d{0,4} ?)*(?:R-?\d*\.\d{0,4} ?)?(?:F\d+\.\d? ?)?")
    assert [t for t in default["gcode_string"].unique() if not style.fullmatch(t)] == []
    real = pd.read_parquet(shared_dir / "data/gcode_fingerprinting/recordings.parquet", columns=["gcode_string"])
    known = real["gcode_string"].dropna()
    assert known.map(lambda t: bool(style.fullmatch(t))).mean() > 0.95
    explicit, really = (text.str.startswith("G").mean() for text in (default["gcode_string"], known))
    assert explicit == pytest.approx(really, abs=0.25)  # modal: a good part of the rows carries no command word


def test_programme_ends_like_the_real_ones(default):
    last = default.groupby("recording").tail(1)
    assert (last["gcode_string"] == "M30").all()
    assert (last["stat"] == 3).all()
    assert (default.loc[default["gcode_string"] != "M30", "stat"] == 5).all()


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    operation=st.sampled_from(OPERATIONS),
    ratio=st.floats(1, 200),
    seconds=st.floats(30, 120),
)
def test_motion_keeps_its_limits(seed, operation, ratio, seconds):
    rng = np.random.default_rng(seed)
    path = toolpaths.toolpath(rng, operation, toolpaths.command_shares(ratio), seconds)
    profile = kinematics.plan(path)
    dt = 0.002
    times = np.arange(0, profile.begin[-1] + profile.duration[-1], dt)
    motion = kinematics.sample(path, profile, times)
    # What the sampled positions do, not what the sampler says: differences of positions.
    acceleration = np.linalg.norm(np.diff(motion.position, 2, axis=0), axis=1) / dt**2
    assert acceleration.max() <= toolpaths.MAX_ACCELERATION * 1.001
    assert np.linalg.norm(motion.acceleration, axis=1).max() <= toolpaths.MAX_ACCELERATION * 1.001
    speed = np.linalg.norm(np.diff(motion.position, axis=0), axis=1) / dt
    assert speed.max() <= toolpaths.RAPID_SPEED * 1.001
    # The blocks join: each starts where the last one ended, and arcs end where they should.
    assert np.allclose(path.start[1:], path.end[:-1])
    arc = path.turn != 0
    radius = np.hypot(*(path.start[:, :2] - path.centre).T)
    assert np.allclose(np.hypot(*(path.end[:, :2] - path.centre).T)[arc], radius[arc])
    # The velocity is the derivative of the position (within a block, away from its ends).
    mid = np.linalg.norm((motion.position[2:] - motion.position[:-2]) / (2 * dt) - motion.velocity[1:-1], axis=1)
    assert mid.max() <= toolpaths.MAX_ACCELERATION * dt


def test_rapids_are_faster_than_cuts(default):
    xyz = default[["mpox", "mpoy", "mpoz"]].groupby(default["recording"]).diff()
    seconds = pd.to_timedelta(default["t_console"]).dt.total_seconds().groupby(default["recording"]).diff()
    speed = np.sqrt((xyz**2).sum(axis=1)) / seconds
    inside = default["line"].eq(default["line"].shift())
    by = speed[inside].groupby(default["momo"])
    assert by.quantile(0.9)[0] > 2 * by.quantile(0.99)[1]


def test_arcs_turn_the_way_their_command_says(default):
    xy = default[["mpox", "mpoy"]].to_numpy(dtype=np.float64)
    step = np.diff(xy, axis=0)
    cross = step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0]
    block, momo = default["line"].to_numpy(), default["momo"].to_numpy()
    inside = (block[2:] == block[1:-1]) & (block[1:-1] == block[:-2])
    assert (inside & (momo[1:-1] == 3)).sum() > 20
    assert (cross[inside & (momo[1:-1] == 3)] > 0).all()
    assert (cross[inside & (momo[1:-1] == 2)] < 0).all()


@pytest.mark.parametrize("ratio", [1, 5, 25, 42, 100])
def test_imbalance_ratio_is_reached(ratio):
    counts = simulate(SimulatedMill(imbalance_ratio=ratio, n_frames=1))["momo"].value_counts()
    reached = counts[[0, 1, 2, 3]].max() / counts[[0, 1, 2, 3]].min()
    assert reached == pytest.approx(ratio, rel=0.2)


def test_every_recording_holds_every_command_by_default(default):
    assert (default.groupby("recording")["momo"].nunique() == 5).all()
    rows = default.groupby("recording").size()
    assert rows.between(0.9 * DEFAULT.rows_per_recording, 1.15 * DEFAULT.rows_per_recording).all()


def neighbourhood(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    by = frame.groupby("recording")[columns]
    return np.hstack([frame[columns].to_numpy(), *(by.shift(k).to_numpy() for k in (-1, 1))])


def macro_f1(options: SimulatedMill, pick) -> tuple[float, float]:
    """Macro F1 of a probe on held-out recordings, and of always answering the majority."""
    frame = simulate(options)
    frame = frame.assign(number=frame["recording"].str.rsplit("_", n=1).str[1].astype(int))
    x = neighbourhood(frame, [c for c in sensor_columns(frame) if pick(c)])
    labelled, train = frame["momo"] < 4, frame["number"] <= 2 * options.n_recordings // 3
    y = frame["momo"].to_numpy()
    probe = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(x[labelled & train], y[labelled & train])
    true = y[labelled & ~train]
    answer = probe.predict(x[labelled & ~train])
    return f1_score(true, answer, average="macro"), f1_score(true, np.full_like(true, 1), average="macro")


def everything(_channel: str) -> bool:
    return True


@pytest.mark.parametrize(("noise", "least"), [(0.0, 0.95), (1.0, 0.75)])
def test_commands_can_be_learned_at_low_noise(noise, least):
    learned, majority = macro_f1(SimulatedMill(n_frames=3, noise=noise), everything)
    assert majority < 0.3
    assert learned > least


def test_commands_cannot_be_learned_at_high_noise():
    learned, majority = macro_f1(SimulatedMill(n_frames=3, noise=30.0), everything)
    assert learned < majority + 0.1


def test_causal_channels_carry_the_command_and_the_others_do_not():
    # Noiseless and balanced, so that anything a nuisance knew would show.
    options = SimulatedMill(n_recordings=30, n_frames=3, noise=0.3, imbalance_ratio=1)
    causal = {channel for command in ("G0", "G1", "G2", "G3") for channel, _ in causal_channels(options)[command]}
    assert causal <= set(simulate(SimulatedMill(n_recordings=1, n_frames=3)).columns)
    assert macro_f1(options, lambda c: c in causal)[0] > 0.9
    assert macro_f1(options, lambda c: c not in causal)[0] < 0.32  # four classes by chance: 0.25


def test_stated_lags_are_where_the_signal_is():
    options = SimulatedMill(n_frames=3, noise=0.0)
    frame = simulate(options)
    turn = frame["momo"].map({3: 1.0, 2: -1.0}).fillna(0.0)
    stated = dict(pair for pair in causal_channels(options)["G3"] if pair[0].endswith(".Gz"))
    assert set(stated) == {f"{f}.Gz" for f in options.frames}
    for channel, lag in stated.items():
        shifted = {k: frame.groupby("recording")[channel].shift(-k).corr(turn) for k in (-1, 0, 1, 2)}
        assert max(shifted, key=shifted.__getitem__) == lag, channel


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"n_recordings": 0}, "n_recordings"),
        ({"rows_per_recording": 3}, "rows_per_recording"),
        ({"imbalance_ratio": 0.5}, "imbalance_ratio"),
        ({"noise": float("nan")}, "noise"),
        ({"n_frames": 17}, "n_frames"),
        ({"faults": {"typo": 0.5}}, "typo"),
        ({"faults": {"collision": 2.0}}, "collision"),
        ({"operations": ("drill",)}, "drill"),
        ({"operations": ()}, "operations"),
    ],
)
def test_impossible_options_are_named(wrong, word):
    with pytest.raises(InputError, match=word):
        SimulatedMill(**wrong)
