"""Windows: coverage, scoring, and the most frequent block."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data.windows import apart_starts, covering_starts, cut, most_frequent, whole_starts

lengths = st.lists(st.integers(1, 150), min_size=1, max_size=5)


@settings(deadline=None, max_examples=50)
@given(lengths, st.integers(1, 40))
def test_held_out_rows_are_scored_exactly_once(rows: list[int], length: int) -> None:
    n = np.array(rows)
    windows = cut(n, covering_starts, length, max(1, length // 2), centre=True)
    scored = np.zeros((len(n), n.max()), dtype=int)
    recording = np.broadcast_to(windows.recording[:, None], windows.position.shape)
    np.add.at(scored, (recording[windows.scored], windows.position[windows.scored]), 1)
    for r, count in enumerate(n):
        assert (scored[r, :count] == 1).all()
        assert not scored[r, count:].any()


@settings(deadline=None, max_examples=50)
@given(lengths, st.integers(2, 40), st.data())
def test_windows_stay_within_their_recording_and_cover_it(rows: list[int], length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, length))
    n = np.array(rows)
    windows = cut(n, covering_starts, length, stride, centre=False)
    assert (windows.position < n[windows.recording][:, None]).all()
    real = windows.position >= 0
    assert (windows.scored == real).all()
    # padding stands at the end only, and only where a recording is shorter than a window
    assert (real[:, 0]).all()
    assert (np.diff(real.astype(int), axis=1) <= 0).all()
    assert real[n[windows.recording] >= length].all()
    steps = np.diff(windows.position, axis=1)[real[:, 1:]]
    assert (steps == 1).all()
    for r, count in enumerate(n):
        seen = windows.position[windows.recording == r]
        assert set(seen[seen >= 0].tolist()) == set(range(count))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 600), st.integers(1, 64))
def test_windows_apart_share_no_row_and_reach_both_ends(n: int, length: int) -> None:
    starts = apart_starts(n, length)
    assert len(starts) == max(1, n // length)
    assert (np.diff(starts) >= length).all()
    assert starts[0] == 0
    assert n < length * 2 or starts[-1] == n - length


def test_context_on_both_sides_of_scored_rows() -> None:
    windows = cut(np.array([256]), covering_starts, 64, 32, centre=True)
    first = windows.scored.argmax(axis=1)
    last = 63 - windows.scored[:, ::-1].argmax(axis=1)
    assert first.tolist() == [0, *[16] * 6]
    assert last.tolist() == [*[47] * 6, 63]


def test_whole_windows_leave_the_tail_out() -> None:
    assert whole_starts(100, 64, 16).tolist() == [0, 16, 32]
    assert whole_starts(63, 64, 16).tolist() == []
    assert covering_starts(100, 64, 16).tolist() == [0, 16, 32, 36]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(-1, 4), min_size=6, max_size=6), min_size=1, max_size=8))
def test_most_frequent_takes_the_first_to_occur(rows: list[list[int]]) -> None:
    expected = []
    for row in rows:
        counts = Counter(c for c in row if c >= 0).most_common(1)  # first met first on ties
        expected.append(counts[0][0] if counts else -1)
    assert most_frequent(np.array(rows)).tolist() == expected
