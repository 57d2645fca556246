"""What an earlier grid on recordings like these tells of the differences that a new one will see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imbalance_lab.atomic import read_json
from imbalance_lab.errors import InputError
from imbalance_lab.formats import METRIC_WORDS
from imbalance_lab.metrics.needed_evidence import Spread, recordings_needed

_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class Pilot:
    """How the differences of an earlier grid varied.

    Attributes
    ----------
    head, metric : what its verdict was of
    spread : of the strategy that was hardest to tell from the baseline
    """

    head: str
    metric: str
    spread: Spread

    def words(self, recordings: int, margin: float) -> str:
        """What so many recordings like the pilot's will show, and what a difference of ``margin`` would take."""
        shown = self.spread.detectable(recordings)
        seen = (
            f"By the pilot's {self.spread.recordings} recordings, {recordings} like these show a difference in "
            f"{METRIC_WORDS.get(self.metric, self.metric)} from {shown:.3f} on"
        )
        return f"{seen}." if shown <= margin else f"{seen}; {recordings_needed(margin, self.spread)}."


def read_pilot(path: Path) -> Pilot:
    """The pilot that the ``verdict.json`` of a finished grid describes.

    Raises
    ------
    InputError
        If the file is missing, is no such file, or its grid could not tell how differences vary (one strategy alone).
    """
    expected = "expected the verdict.json that a grid logs beside its comparison"
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise InputError(f"{path}: found {size:,} bytes; {expected}")
        plain = read_json(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; {expected}") from None
    try:
        facts, evidence = plain["facts"], plain["evidence"]
        if evidence["spread"] is None:
            raise InputError(f"{path}: its grid saw no difference of two strategies that varies; take another pilot")
        spread = Spread(**{name: _positive(value, name) for name, value in evidence["spread"].items()})
        return Pilot(str(facts["head"]), str(evidence["metric"]), spread)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wrong = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: {wrong}; {expected}") from None


def _positive(value: Any, name: str) -> Any:
    """A finite number, above 0 but for an error, as it stands; that of trainings may be None."""
    if value is None and name == "se_trainings":
        return value
    fits = isinstance(value, int) if name == "recordings" else isinstance(value, int | float)
    if isinstance(value, bool) or not fits or not np.isfinite(value) or value < 0:
        raise ValueError(f"{name}: found {value!r}, which is no such number")
    if value == 0 and name in ("recordings", "quantiles"):
        raise ValueError(f"{name}: found 0")
    return value
