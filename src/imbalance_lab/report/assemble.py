"""The one way to a page: named tables and figures, put under the headings that their records name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from imbalance_lab.analysis.record import Table
from imbalance_lab.names import name_of
from imbalance_lab.report.images import figure_view
from imbalance_lab.report.page import Block, Note, Section, Text
from imbalance_lab.report.page_tables import table_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Results:
    """Tables and figures by name, which decides their section; ``absent`` says why a name is missing.

    ``file`` is where a table lies whole: a path in which ``{name}`` stands for its name.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    file: str = "tables/{name}.json"


@dataclass(frozen=True)
class Layout:
    """What a kind of page knows of its sections; a name with a suffix (``slice_operation``) goes with its stem.

    Attributes
    ----------
    sections : key to heading, in their order; the last holds what no record names
    tables : record of each table, by its name, in the order of the page
    figures : figure to the key of its section
    always : sections that say so where nothing was computed for them
    folded : sections that are opened by their heading
    notes : section to how its results were computed, at its end
    headers : column to header, where it is not the name with spaces
    prefix : of the files of figures
    """

    sections: Mapping[str, str]
    tables: Mapping[str, Table]
    figures: Mapping[str, str]
    always: tuple[str, ...] = ()
    folded: frozenset[str] = frozenset()
    notes: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    @property
    def rest(self) -> str:
        """The last section."""
        return list(self.sections)[-1]

    def table(self, name: str) -> Table:
        """Record of a table; a suffix becomes part of the caption, and an unknown name stands in the last section."""
        stem = _stem(name, self.tables)
        if not stem:
            return Table(name, "", self.rest, name.replace("_", " ").capitalize(), ())
        known = self.tables[stem]
        suffix = name[len(stem) + 1 :]
        suffix = name_of(suffix) or suffix
        return replace(known, caption=f"{known.caption}: {suffix}") if suffix else known

    def section_of_figure(self, name: str) -> str:
        """Key of the section of a figure."""
        stem = _stem(name, self.figures)
        return self.figures[stem] if stem else self.rest

    def section_of(self, name: str) -> str:
        """Key of the section of a table or figure."""
        known = self.table(name).section
        return known if known != self.rest else self.section_of_figure(name)


def _stem(name: str, known: Mapping[str, object]) -> str:
    return max((s for s in known if name == s or name.startswith((f"{s}_", f"{s}@"))), key=len, default="")


def sections_of(
    layout: Layout,
    shared: Results,
    heads: Mapping[str, Results] | None = None,
    first: Mapping[str, Sequence[Block]] | None = None,
    last: Mapping[str, Sequence[Block]] | None = None,
) -> tuple[Section, ...]:
    """The sections of a page that have something to say.

    Parameters
    ----------
    shared : what is not about one head
    heads : head to its results, the main one first; with one head they need no heading of their own, of several all
        but the first are folded
    first, last : section to the blocks that open and close it
    """
    heads = heads or {}
    out = []
    for key, heading in layout.sections.items():
        own = [*(first or {}).get(key, ()), *_blocks(layout, shared, key)]
        parts = {head: blocks for head, results in heads.items() if (blocks := _blocks(layout, results, key))}
        if len(heads) == 1:
            own, parts = [*own, *(b for blocks in parts.values() for b in blocks)], {}
        own += (last or {}).get(key, ())
        if not own and not parts:
            if key not in layout.always:
                continue
            own = [Text("Nothing was computed for this section.", "absent")]
        if key in layout.notes:
            own.append(Note("How this was computed", layout.notes[key]))
        main = next(iter(heads), "")
        inner = tuple(Section(f"Head {h}", tuple(blocks), folded=h != main) for h, blocks in parts.items())
        out.append(Section(heading, tuple(own), inner, folded=key in layout.folded))
    return tuple(out)


def _blocks(layout: Layout, results: Results, section: str) -> list[Block]:
    """Figures first, then tables each with its note, then what is absent and why."""
    rank = {name: i for i, name in enumerate(layout.figures)}
    figures = [name for name in results.figures if layout.section_of_figure(name) == section]
    figures.sort(key=lambda name: rank.get(_stem(name, rank), len(rank)))
    blocks: list[Block] = [figure_view(f"{layout.prefix}{name}", results.figures[name]) for name in figures]
    order = {name: i for i, name in enumerate(layout.tables)}
    for name in sorted(results.tables, key=lambda n: order.get(n, len(order))):
        record, frame = layout.table(name), results.tables[name]
        if record.section != section or (record.fold and frame.empty):
            continue
        view = table_view(
            frame,
            record.caption,
            columns=record.shown,
            headers=layout.headers,
            kinds={column.name: column.kind for column in record.columns},
            most=record.most,
            where=results.file.format(name=name),
        )
        # A table whose figure was not drawn takes its place.
        if (record.fold and figures) or 0 < record.fold_above < len(frame):
            length = f" ({len(frame):,} rows)" if record.fold_above else ""
            blocks.append(Note(f"Table: {record.caption}{length}", record.how, (view,)))
            continue
        blocks.append(view)
        if record.how:
            blocks.append(Note("How this was computed", record.how))
    blocks += [
        Text(f"{name.replace('_', ' ').capitalize()} — {reason}.", "absent")
        for name, reason in results.absent.items()
        if layout.section_of(name) == section
    ]
    return blocks
