"""G-code blocks and their modal state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalance_lab.data.gcode.blocks import modal_motion, parse_block, parse_column
from imbalance_lab.errors import InputError
from imbalance_lab.names import natural_key


@pytest.mark.parametrize(
    ("text", "motion", "commands", "letters"),
    [
        ("G1 X-0.1254", "G1", ("G1",), ("X",)),
        ("g01x.5y-3.", "G1", ("G1",), ("X", "Y")),
        ("N20 G53 G0 Z0.", "G0", ("G53", "G0"), ("Z",)),
        ("G38.2 Z-1", "G38.2", ("G38.2",), ("Z",)),
        ("(a G2 comment) X1 ; G3", None, (), ("X",)),
        ("M3 S12000", None, ("M3",), ("S",)),
        ("T2", None, ("T2",), ()),
        ("/G 3 X 1 Y 2 R 0.5*97", "G3", ("G3",), ("R", "X", "Y")),
        ("%", None, (), ()),
        ("G17 G90 G94", None, ("G17", "G90", "G94"), ()),
    ],
)
def test_block(text: str, motion: str | None, commands: tuple[str, ...], letters: tuple[str, ...]) -> None:
    block = parse_block(text)
    assert (block.motion, block.commands, block.letters) == (motion, commands, letters)


def test_numbers_keep_their_sign_and_raw_text() -> None:
    words = parse_block("G1 X-0.1254 Y+.5 Z0.").words
    assert [(w.letter, w.number, w.raw) for w in words[1:]] == [
        ("X", -0.1254, "X-0.1254"),
        ("Y", 0.5, "Y+.5"),
        ("Z", 0.0, "Z0."),
    ]


@pytest.mark.parametrize("text", ["G1 X", "G1 X--1", "hello", "G1 X1..2.3.", "G1 (never closed", "X1 #5"])
def test_malformed_words_are_named(text: str) -> None:
    with pytest.raises(InputError, match="expected words") as error:
        parse_block(text)
    assert repr(text) in str(error.value)


def test_column_names_the_row_of_a_malformed_block() -> None:
    with pytest.raises(InputError, match=r"row 2: G-code block 'G1 X'"):
        parse_column(["G0 X1", None, "G1 X", "G1 X"])


def modal_commands(texts: list[str | None]) -> list[str | None]:
    """Effective motion command of each row of one recording, None where none is in force."""
    codes, names = modal_motion(parse_column(texts), np.zeros(min(1, len(texts)), dtype=np.int64))
    return [names[c] if c >= 0 else None for c in codes]


def test_modal_state_is_carried_cancelled_and_reset() -> None:
    texts = ["X1", "G1 X2", "Y3", None, "G80", "X1", "G2 X1 Y1 R1", "M30", "X5", "G3 X1 M2", "X1"]
    expected = [None, "G1", "G1", "G1", None, None, "G2", None, None, "G3", None]
    assert modal_commands(texts) == expected
    codes, names = modal_motion(parse_column(["G1 X1", "X2", "X3", "G0 X1"]), np.array([0, 2]))
    assert [names[c] if c >= 0 else None for c in codes] == ["G1", "G1", None, "G0"]


def test_natural_order() -> None:
    assert sorted(["G17", "M3", "G2", "G0", "M30"], key=natural_key) == ["G0", "G2", "G17", "M3", "M30"]
    assert sorted(["3", "-1", "0", "-9"], key=natural_key) == ["-9", "-1", "0", "3"]


words = st.tuples(
    st.sampled_from("XYZABCIJKFSRPQ"), st.decimals(-999, 999, places=4, allow_nan=False, allow_infinity=False)
)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(words, max_size=6),
    st.sampled_from(["", "G0", "G01", "g2", "G3"]),
    st.sampled_from(["", " ", "\t"]),
    st.booleans(),
    st.booleans(),
)
def test_any_block_of_words_is_read_back(
    pairs: list[tuple[str, object]], command: str, gap: str, lower: bool, comment: bool
) -> None:
    text = gap.join([command, *(f"{letter}{number}" for letter, number in pairs)])
    text = (text.lower() if lower else text) + (" (X9 ; G1)" if comment else "")
    block = parse_block(text)
    addresses = [w for w in block.words if w.letter != "G"]
    assert [(w.letter, w.number) for w in addresses] == [(letter, float(str(number))) for letter, number in pairs]
    assert block.motion == (command.upper().replace("G01", "G1") or None)
    assert block.letters == tuple(sorted({letter for letter, _ in pairs}))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["G0 X1", "G1 X1", "X2", None, "M30", "G80", "G2 X1 Y1 R1", "T2"]), max_size=40))
def test_vectorised_modal_state_equals_a_walk_through_the_rows(texts: list[str | None]) -> None:
    state, expected = None, []
    for text in texts:
        block = parse_block(text) if text else None
        if block is not None and block.cancels:
            state = None
        elif block is not None and block.motion:
            state = block.motion
        expected.append(state)
    assert modal_commands(texts) == expected


def test_real_blocks_agree_with_the_controller(shared_dir) -> None:
    import pandas as pd

    path = shared_dir / "data/gcode_fingerprinting/recordings.parquet"
    frame = pd.read_parquet(path, columns=["gcode_string", "momo"])
    column = parse_column(frame["gcode_string"])
    assert len(column.blocks) == 2212
    modes = {"G0": 0, "G1": 1, "G2": 2, "G3": 3}
    explicit = column.spread([modes.get(b.motion or "", -1) for b in column.blocks], -1)
    rows = explicit >= 0
    assert rows.sum() > 30_000
    assert (explicit[rows] != frame["momo"].to_numpy()[rows]).sum() == 1
    assert (column.codes < 0).sum() == 2773
