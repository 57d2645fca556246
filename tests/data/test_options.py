"""The data section: what is refused, and how it says so."""

import pytest
from pydantic import ValidationError

from imbalance_lab.load import parse_options

RECORDINGS = {"source": "recordings", "path": "x"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "nowhere"}, "recordings"),
        ({**RECORDINGS, "windw": {}}, "Extra inputs are not permitted"),
        ({**RECORDINGS, "window": {"length": 8, "stride": 9}}, "stride 9 is longer than the window's length 8"),
        ({**RECORDINGS, "window": {"length": 0}}, "greater than or equal to 1"),
        ({**RECORDINGS, "split": {"fractions": [0.5, 0.2, 0.2]}}, "sum to 0.9, expected 1"),
        ({**RECORDINGS, "split": {"fractions": [1.0, 0.0, 0.0]}}, "must all be above 0"),
        ({**RECORDINGS, "encoding": "legacy"}, "set task: tokens"),
        ({**RECORDINGS, "vocabulary": "v.json"}, "used by task 'tokens' only"),
        ({**RECORDINGS, "operation": "["}, "not a regular expression"),
        ({**RECORDINGS, "operation": ".*"}, "has no group"),
        ({"source": "table", "path": "x", "target": ["a", "a"]}, "names a column twice"),
        ({"source": "table", "path": "x", "target": "a", "group": "a"}, "both target and group"),
        ({"source": "digits", "imbalance_ratio": 0.5}, "greater than or equal to 1"),
        ({"source": "simulated", "faults": {"gremlins": 1.0}}, "gremlins"),
    ],
)
def test_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=None) as error:
        parse_options(values)
    assert message in str(error.value)


def test_legacy_shuffles_windows_unless_told_otherwise() -> None:
    legacy = parse_options({**RECORDINGS, "task": "tokens", "encoding": "legacy"})
    assert (legacy.split.by, legacy.split.stratify) == ("sequence", "none")
    grouped = parse_options({**RECORDINGS, "task": "tokens", "encoding": "legacy", "split": {"by": "recording"}})
    assert grouped.split.by == "recording"


def test_one_target_or_many() -> None:
    assert parse_options({"source": "table", "path": "x", "target": "a"}).target == ("a",)
    assert parse_options({"source": "table", "path": "x", "target": ["a", "b"]}).target == ("a", "b")
