"""What changed since a test report: which differences have an interval, and which are told."""

from __future__ import annotations

import numpy as np

import imbalance_lab as il
from imbalance_lab.evaluation.changes import changes, sentences
from imbalance_lab.predictions import Predictions

CLASSES = ("often", "rare")


def answers(right: float, rare_in: int, seed: int) -> Predictions:
    """20 recordings of 40 positions; the rare class is true and read at 30 positions of each of ``rare_in``."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(20), 40)
    main = ((groups < rare_in) & (np.arange(800) % 40 < 30)).astype(int)
    side = rng.integers(0, 2, 800)
    told = np.where(rng.random(800) < right, side, 1 - side)
    parts = {"main": (main, main, CLASSES), "side": (side, told, ("down", "up"))}
    tables = {head: il.make_predictions(*given, groups=groups) for head, given in parts.items()}
    heads = {head: table.heads["target"] for head, table in tables.items()}
    return Predictions(heads, {**tables["main"].meta, "primary_head": "main"})


def test_a_class_of_few_recordings_has_no_interval() -> None:
    for rare_in, measured in ((2, False), (3, True)):
        before, after = answers(0.9, rare_in, 0), answers(0.9, 15, 1)
        found = changes(before, after).set_index(["head", "measure", "class"])["low"]
        for measure in ("recall", "precision"):
            assert np.isfinite(found["main", measure, "rare"]) == measured
            assert np.isfinite(found["main", measure, "often"])
        assert np.isfinite(found["main", "share", "rare"])
        said = sentences(changes(before, after), before, after, {}, [])
        thin = "without an interval, for fewer than 20 positions or 3 recordings: rare."
        assert sum(line.endswith(thin) for line in said) == (0 if measured else 2)


def test_what_another_head_lost_is_said() -> None:
    before, after = answers(0.95, 8, 0), answers(0.6, 8, 1)
    (line,) = (x for x in sentences(changes(before, after), before, after, {}, []) if x.startswith("side: "))
    assert ": lower; macro F1 " in line
    assert any("recall of side: up" in x.lower() for x in sentences(changes(before, after), before, after, {}, []))
