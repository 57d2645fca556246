"""An analysis as one value: how it is computed, its tables and figures with their captions, where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_type_hints

import pandas as pd

from imbalance_lab.analysis.prepared import Prepared
from imbalance_lab.names import key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.plots.style import Scope

R = TypeVar("R")
Kind = Literal["text", "count", "share", "score", "p", "number"]
"""A share is a rate of 1, written in percent; a score lies in [0, 1] and is no share; a number is anything else."""

Drawn = Literal["every head", "main head", "on request"]
"""For which heads a trial of a grid draws a figure; ``analyze`` draws all of them for all heads."""

MASK = "Only scored positions count: padding, not-applicable and unlabelled ones are left out."
BOOT = (
    "Intervals: 95 %, cluster bootstrap over recordings, because positions of one recording are not independent "
    "(Wilson where there is one recording)."
)


@dataclass(frozen=True)
class Column:
    """A column of a table; the name ``*`` stands for a column named after what the table is about."""

    name: str
    kind: Kind
    needs_probabilities: bool = False


def columns(kind: Kind, *names: str) -> tuple[Column, ...]:
    """Columns of one kind."""
    return tuple(Column(name, kind) for name in names)


INTERVAL = columns("share", "low", "high")
WILSON = columns("share", "wilson_low", "wilson_high")
RATE = (
    *columns("count", "n", "recordings", "errors"),
    *columns("share", "rate"),
    *WILSON,
    *INTERVAL,
    *columns("text", "verdict"),
)
"""The columns that :func:`imbalance_lab.metrics.clusters.rate_table` adds to its first."""
ROW = (
    *columns("count", "row", "sequence"),
    *columns("text", "recording"),
    *columns("count", "position"),
    *columns("text", "true", "pred"),
    *columns("score", "confidence", "true_prob"),
)
"""The columns of :func:`imbalance_lab.analysis.rows.row_table`."""


@dataclass(frozen=True)
class Table:
    """A table of an analysis: a file, rows of the report, and a table of the page.

    Attributes
    ----------
    name : of the file; a mapping of tables gives ``<name>_<key of its name>``; "" where the report alone holds it
    at : where the result holds it, with dots; "" where the result is the table
    section : of the page (:data:`imbalance_lab.report.page_sections.SECTIONS`)
    how : how it was computed and on which rows
    shown : which columns stand on the page, in which order (all when empty)
    most : rows on the page; the rest is in the file
    fold : whether it stands behind a disclosure triangle, because a figure shows it
    fold_above : rows above which it does so because of its length; 0 for never
    needs_probabilities : whether it says nothing where a classifier gives labels alone
    beside : ``section.key`` of the report for a table that is about all heads
    """

    name: str
    at: str
    section: str
    caption: str
    columns: tuple[Column, ...]
    how: str = ""
    shown: tuple[str, ...] = ()
    most: int = 20
    fold: bool = False
    fold_above: int = 0
    needs_probabilities: bool = False
    beside: str = ""

    def of(self, result: Any) -> dict[str, pd.DataFrame]:
        """The table in ``result`` by the name of its file, or one for each key of a mapping; none where it is None."""
        found = result
        for attribute in self.at.split(".") if self.at else ():
            found = getattr(found, attribute)
            if found is None:
                return {}
        if isinstance(found, Mapping):
            return {f"{self.name}_{key(name)}": table for name, table in found.items()}
        return {self.name: found}

    def counted(self, frame: pd.DataFrame) -> pd.DataFrame:
        """``frame`` with the columns that labels alone allow."""
        return frame.drop(columns=[c.name for c in self.columns if c.needs_probabilities and c.name in frame])


@dataclass(frozen=True)
class Scene:
    """What the figures of a head share: scope for the subtitles, colours of the classes, its error rate."""

    scope: Scope
    colours: Mapping[str, str]
    error_rate: float


@dataclass(frozen=True)
class Plot(Generic[R]):
    """A figure of an analysis.

    Attributes
    ----------
    name : of the file; a mapping of figures gives ``<name>_<key of its name>``
    draw : the figure, a figure for each key, or the reason why there is none. It imports
        :mod:`imbalance_lab.plots` itself, so that no analysis waits for matplotlib. None: drawn where the inputs are.
    root : file in the root of the artifacts, which MLflow's Compare page shows side by side
    drawn : in a trial of a grid; drawing all of them takes longer than all else that follows a short training
    """

    name: str
    section: str
    draw: Callable[[R, Scene], Figure | Mapping[str, Figure] | str] | None
    root: str = ""
    drawn: Drawn = "on request"

    def wanted(self, *, main: bool) -> bool:
        """Whether a trial draws it for its main head, or for another one."""
        return self.drawn == "every head" or (main and self.drawn == "main head")


@dataclass(frozen=True)
class Advice:
    """What a rule found.

    Attributes
    ----------
    issue, action, effect : what was seen, with its numbers; what to do; what should change if it works
    evidence : the rows that fired the rule
    threshold : the rule, in words with its number
    """

    issue: str
    action: str
    effect: str
    evidence: pd.DataFrame
    threshold: str


@dataclass(frozen=True)
class Rule(Generic[R]):
    """When a result asks for something to be done.

    Attributes
    ----------
    name : its id, which a recommendation carries
    category : collapse, imbalance, confusion, calibration, boundary, position, slice, sequence, heads, labels or data
    priority : 1 is the most urgent
    find : the advice that the result, and the results of the head's other analyses by name, give; None for none
    strategies : catalogue names that would test it, the cheapest first
    """

    name: str
    category: str
    priority: int
    find: Callable[[R, Mapping[str, Any]], Advice | None]
    strategies: tuple[str, ...] = ()


REBALANCE = ("logit-adjust", "balanced-softmax", "rarest-class", "class-balanced", "deferred", "curriculum", "ldam")
"""Catalogue names that move probability to rare classes, the cheapest first."""


@dataclass(frozen=True)
class Analysis(Generic[R]):
    """One analysis of a head: everything that is known of it, by name, stands here and nowhere else.

    Attributes
    ----------
    name : ``head.<name>`` is its result
    compute : what it finds; what several analyses need they take from :meth:`Prepared.once`
    about : what it holds, in one or two sentences of Markdown
    section : its key in the report; "" where the report leaves it out
    fields : key in the report to attribute of the result; all attributes where empty
    needs_probabilities : whether nothing of it can be said where a classifier gives labels alone
    """

    name: str
    compute: Callable[[Prepared], R]
    about: str
    section: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot[R], ...] = ()
    rules: tuple[Rule[R], ...] = ()
    needs_probabilities: bool = False

    @property
    def result(self) -> type[R]:
        """The type of its result."""
        found: type[R] = get_type_hints(self.compute)["return"]
        return found
