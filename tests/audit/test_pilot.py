import json
from dataclasses import replace

import pytest
from audit_cases import recordings
from comparison_cases import runs_of

from imbalance_lab.audit.checks.power import check_power
from imbalance_lab.audit.pilot import Pilot, read_pilot
from imbalance_lab.audit.settings import AuditContext
from imbalance_lab.comparison import compare
from imbalance_lab.comparison.differences import row
from imbalance_lab.errors import InputError
from imbalance_lab.metrics.needed_evidence import Spread


def written(folder, choice, facts):
    path = folder / "verdict.json"
    path.write_text(json.dumps({"evidence": choice.evidence, "facts": dict(facts)}, default=str), encoding="utf-8")
    return path


def test_a_pilot_tells_what_its_comparison_measured(tmp_path):
    runs = runs_of({"ce": [0, 1], "focal": [0, 1], "other": [0, 1]})
    found = compare(runs, baseline="ce", primary_head="command", resamples=200)
    pilot = read_pilot(written(tmp_path, found.choice, found.facts))
    rows = [row(found.differences, name, "ce", "macro_f1") for name in ("focal", "other")]
    widest = max(rows, key=lambda d: d["se"])
    assert (pilot.head, pilot.metric) == ("command", "macro_f1")
    assert pilot.spread.detectable(12) == pytest.approx(widest["minimum_detectable"])
    assert pilot.spread.detectable(12_000) < pilot.spread.detectable(24) < pilot.spread.detectable(12)


def test_the_audit_says_what_the_pilot_lets_expect_of_these_recordings():
    loaded = recordings(n_recordings=18)  # test holds three of them
    pilot = Pilot("command", "macro_f1", Spread(9, 0.02, 0.005, 2.8))
    (finding,) = check_power(loaded, AuditContext(pilot=pilot))
    # three times the variance over recordings, 2.8 * sqrt(3 * .02^2 + .005^2) = .098; trainings: 2.8 * .005
    assert finding.message.endswith(
        "By the pilot's 9 recordings, 3 like these show a difference in macro F1 from 0.098 on; to see a "
        "difference of 0.01 no number of recordings is enough with these seeds; with many more seeds about 283 "
        "would be."
    )
    other = check_power(loaded, AuditContext(pilot=replace(pilot, head="another")))[0]
    assert finding.message.startswith(other.message)
    assert "pilot" not in other.message
    enough = check_power(loaded, AuditContext(pilot=pilot, margin=0.1))[0]
    assert enough.message.endswith("show a difference in macro F1 from 0.098 on.")


GOOD = {"facts": {"head": "command"}, "evidence": {"metric": "macro_f1", "spread": vars(Spread(9, 0.02, 0.0, 2.8))}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "verdict.json"),
        (json.dumps({"facts": {}, "evidence": {}}), "lacks 'spread'"),
        (json.dumps(GOOD | {"evidence": {"metric": "m", "spread": None}}), "no difference of two strategies"),
        (json.dumps(GOOD | {"evidence": {"metric": "m", "spread": {"recordings": 9}}}), "se_recordings"),
        (json.dumps(GOOD).replace("0.02", "NaN"), "se_recordings: found nan"),
        (json.dumps(GOOD).replace("0.02", "-1"), "se_recordings: found -1"),
        (json.dumps(GOOD).replace("9,", "0,"), "recordings: found 0"),
        (json.dumps(GOOD).replace("9,", "1.5,"), "recordings: found 1.5"),
        (None, "No such file"),
    ],
)
def test_what_is_no_pilot_is_refused(tmp_path, content, said):
    path = tmp_path / "verdict.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        read_pilot(path)
    assert str(path) in str(caught.value)
    one_seed = {"metric": "m", "spread": vars(Spread(9, 0.02, None, 2.8))}
    path.write_text(json.dumps(GOOD | {"evidence": one_seed}), encoding="utf-8")
    assert "one seed does not tell" in read_pilot(path).words(9, 0.01)
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert read_pilot(path).spread.recordings == 9
