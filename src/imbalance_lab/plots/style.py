"""The look of every figure: sizes, colours, titles, and how a figure becomes a PNG.

Figures are built with matplotlib's object interface and the Agg canvas; ``pyplot`` and its
global state are not used, so figures can be drawn in any thread or process.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import AutoLocator, FuncFormatter, LogFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL.Image import Dither, Image, Quantize, fromarray

from imbalance_lab.formats import percent, plural, short  # noqa: F401 (figures take both from here)

MIN_N = 20
"""Support below which a class or a slice is drawn hollow and not made the headline."""

DPI = 150
MAX_ROWS = 20
_DRAWN = "_imbalance_lab_png"  # attribute of a figure that holds its PNG
_LEGEND_ENTRY = 0.62  # inches of a legend's entry beside its text: mark and gaps, in widths of 9 pt
WIDTH = 8.0  # inches: 1200 pixels, the widest that a page of text shows without shrinking

INK = "#1f2328"
MUTED = "#5b636d"
GRID = "#dfe3e8"
MAJORITY = "#8c8c8c"
BASELINE = "#6e6e6e"
ACCENT = "#0072b2"
ALARM = "#d55e00"
SEQUENTIAL = "viridis"

# Okabe & Ito, "Color Universal Design" (2008); yellow last, because it is the weakest on white.
_RARE = ("#e69f00", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000", "#d6c72b")
# Paul Tol's "muted" set, so that a strategy never wears the colour of a class.
_STRATEGY = ("#332288", "#44aa99", "#cc6677", "#999933", "#88ccee", "#882255", "#117733", "#ddcc77", "#aa4499")
_NBSP = "\N{NO-BREAK SPACE}"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*", "p")


@dataclass(frozen=True)
class Scope:
    """On which data a figure was computed; every figure's subtitle says it.

    ``positions`` are scored positions (masked ones never count), ``recordings`` the units of
    evidence, ``seeds`` the runs' seeds. What is unknown is left out.
    """

    head: str = ""
    split: str = ""
    positions: int | None = None
    recordings: int | None = None
    seeds: tuple[int, ...] = ()
    strategy: str = ""

    def subtitle(self, *notes: str) -> str:
        """Text such as ``head command · test · 12,000 positions · 21 recordings · seed 0``."""
        parts = [
            f"head {self.head}" if self.head else "",
            self.strategy,
            f"{self.split} split" if self.split else "",
            plural(self.positions, "position") if self.positions is not None else "",
            plural(self.recordings, "recording") if self.recordings is not None else "",
            f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}" if self.seeds else "",
            *notes,
        ]
        return " · ".join(part for part in parts if part)


def label(text: object, width: int = 44) -> str:
    """``text`` as matplotlib shows it literally: no mathtext, no missing glyph, at most ``width`` characters.

    The middle is cut, because names of one family differ at either end. Labelling a label changes nothing.
    """
    shown = _clean(str(text).replace(r"\$", "$")) or "(empty)"
    return short(shown, width).replace("$", r"\$")


def labels(names: Iterable[object], width: int = 44) -> list[str]:
    """:func:`label` of each name of an axis; names that would be shown alike are cut to where they differ."""
    texts = [_clean(str(name)) for name in names]
    shown = [label(text, width) for text in texts]
    for alike in dict.fromkeys(shown):
        own = [i for i, text in enumerate(shown) if text == alike]
        if len({texts[i] for i in own}) < 2:
            continue
        same = sum(1 for _ in takewhile(lambda at: len(set(at)) == 1, zip(*(texts[i] for i in own), strict=False)))
        start = max(0, same - width // 3)
        for i in own:
            part = texts[i][start : start + width - 2]
            ends = "…" if start else "", "…" if start + width - 2 < len(texts[i]) else ""
            shown[i] = label(f"{ends[0]}{part}{ends[1]}", width)
    return shown


def class_colours(classes: Sequence[str], counts: Sequence[int] | NDArray[Any] | None = None) -> dict[str, str]:
    """Colour of each class: the majority grey, the others Okabe-Ito in the order of ``classes``.

    Parameters
    ----------
    classes : names of the K classes, in the order of the data set
    counts : training counts of shape (K,); without them the first class is taken as the majority
    """
    if len(classes) == 0:
        return {}
    majority = 0 if counts is None or not np.any(counts) else int(np.argmax(counts))
    rare = [c for i, c in enumerate(classes) if i != majority]
    return {classes[majority]: MAJORITY, **{c: _RARE[i % len(_RARE)] for i, c in enumerate(rare)}}


def strategy_colours(strategies: Sequence[str], baseline: str | None = None) -> dict[str, str]:
    """Colour of each strategy, baseline first and grey; the order is the experiment's."""
    ordered = [s for s in strategies if s == baseline] + [s for s in strategies if s != baseline]
    others = [s for s in ordered if s != baseline]
    colours = {s: _STRATEGY[i % len(_STRATEGY)] for i, s in enumerate(others)}
    return {s: BASELINE if s == baseline else colours[s] for s in ordered}


class _Panel(Axes):
    """Axes that are measured once for a layout.

    Constrained layout moves the axes twice and measures all their text before each move. What
    stands around axes hardly depends on the first move; with a fixed aspect it does.
    """

    _around: tuple[float, float, float, float] | None = None

    def get_tightbbox(self, renderer: Any = None, **options: Any) -> Any:
        """The box around everything drawn, in pixels."""
        if not options.get("for_layout_only") or self.get_aspect() != "auto":
            return super().get_tightbbox(renderer, **options)
        left, low, right, top = self.get_position(original=True).transformed(self.figure.transSubfigure).extents
        around = self._around
        if around is None:
            box = super().get_tightbbox(renderer, **options)
            if box is None:
                return None
            around = self._around = (left - box.x0, low - box.y0, box.x1 - right, box.y1 - top)
        return Bbox.from_extents(left - around[0], low - around[1], right + around[2], top + around[3])

    def forget(self) -> None:
        """Measure again at the next layout."""
        self._around = None


class _Layout(ConstrainedLayoutEngine):
    """Constrained layout that measures each of its :class:`_Panel` afresh, once."""

    def execute(self, fig: Figure) -> Any:
        """Place the axes of ``fig``."""
        for ax in fig.axes:
            if isinstance(ax, _Panel):
                ax.forget()
        return super().execute(fig)


def new_figure(
    rows: int = 1, cols: int = 1, *, width: float = WIDTH, height: float = 4.0, **subplots: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure of ``width`` x ``height`` inches and its axes, array of shape (rows, cols).

    ``height`` is the height of the plotting area; :func:`titles` adds the header above it.
    """
    fig = Figure(figsize=(width, height), dpi=DPI, layout=_Layout(), facecolor="white")
    FigureCanvasAgg(fig)
    axes = fig.subplots(rows, cols, squeeze=False, subplot_kw={"axes_class": _Panel}, **subplots)
    for ax in axes.flat:
        style_axes(ax)
    return fig, axes


def style_axes(ax: Axes, grid: str = "") -> Axes:
    """Thin frame, quiet ticks of 9 pt; ``grid`` is ``"x"``, ``"y"``, ``"both"`` or none."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(labelsize=9, colors=INK, length=3, color=MUTED)
    ax.xaxis.label.set(size=9.5, color=INK)
    ax.yaxis.label.set(size=9.5, color=INK)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(True, axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    return ax


def titles(fig: Figure, title: str, subtitle: str = "") -> Figure:
    """Write the finding and, below it, the data; the figure grows by what they need.

    Both are wrapped to the figure's width, so nothing is cut off whatever the class names are.
    """
    title, subtitle = _clean(title.replace(r"\$", "$")), _clean(subtitle.replace(r"\$", "$"))
    width, height = fig.get_size_inches()
    head = _wrap(title, 12.5, "bold", width - 0.2)
    sub = _wrap(subtitle, 9.5, "normal", width - 0.2) if subtitle else []
    line, small = 12.5 * 1.32 / 72, 9.5 * 1.38 / 72  # inches for a line of text
    header = 0.1 + len(head) * line + len(sub) * small + 0.1
    total = height + header
    fig.set_size_inches(width, total)
    if isinstance(engine := fig.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, height / total))
    for texts, size, weight, colour, top, step, gid in (
        (head, 12.5, "bold", INK, 0.1, line, "title"),
        (sub, 9.5, "normal", MUTED, 0.1 + len(head) * line, small, "subtitle"),
    ):
        for i, text in enumerate(texts):
            at = 1 - (top + i * step) / total
            at_text: dict[str, Any] = {
                "size": size,
                "weight": weight,
                "color": colour,
                "va": "top",
                "gid": gid,
                "parse_math": False,
            }
            fig.text(0.1 / width, at, text, None, **at_text)
    return fig


def wrapped(text: object, inches: float, size: float = 9.5) -> str:
    """``text`` as matplotlib shows it literally, broken at spaces into lines of so many inches."""
    return "\n".join(label(line, 200) for line in _wrap(_clean(str(text)), size, "normal", inches))


def title_of(fig: Figure, part: str = "title") -> str:
    """The finding (or the ``"subtitle"``) that :func:`titles` wrote."""
    return " ".join(t.get_text() for t in fig.texts if t.get_gid() == part).replace(_NBSP, " ")


def save_png(fig: Figure, path: Path) -> Path:
    """Write the figure as PNG at 150 dpi and return the path; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(fig))
    return path


def png_bytes(fig: Figure) -> bytes:
    """The figure as PNG, without creation time or version, so equal figures have equal bytes.

    It has 256 colours, unless it shows a map: an octree joins the dark shades of a map.

    A figure is drawn and encoded once: its bytes stay with it, for the file and for the page that shows it too.
    Do not change a figure after it was written.
    """
    drawn: bytes | None = getattr(fig, _DRAWN, None)
    if drawn is None:
        # What ``savefig`` draws, but drawn once: for a constrained layout it draws twice.
        fig.set_dpi(DPI)
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        buffer = BytesIO()
        image = fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        if not any(ax.images for ax in fig.axes):
            image = _palette(image)
        image.save(buffer, "PNG", dpi=(DPI, DPI))
        drawn = buffer.getvalue()
        setattr(fig, _DRAWN, drawn)
    return drawn


def _palette(image: Image) -> Image:
    """256 colours without dithering: a figure has few, and a third of the bytes and of the time of encoding is left.

    An octree moves no channel of a colour by more than 16 of 255 and takes an eighth of the time of the
    median cut, which moved some by 73 on the figures of a run.
    """
    small = image.quantize(256, method=Quantize.FASTOCTREE, dither=Dither.NONE)
    palette = small.getpalette() or []
    small.putpalette([255 if value == 254 else value for value in palette])  # the octree makes white nearly white
    return small


def empty_figure(message: str, title: str, subtitle: str = "") -> Figure:
    """A small figure that says why there is nothing to draw."""
    fig, axes = new_figure(height=0.7)
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0, 0.5, label(message, 110), size=10, color=MUTED, va="center", transform=axes[0, 0].transAxes)
    return titles(fig, title, subtitle)


def bar_height(n: int, per_row: float = 0.3, extra: float = 0.75) -> float:
    """Inches for ``n`` horizontal rows with an axis below them."""
    return max(n, 2) * per_row + extra


def rows_axis(ax: Axes, names: Sequence[object], width: int = 28) -> Axes:
    """Put row names on the y axis, the first on top."""
    ax.set_yticks(range(len(names)), labels(names, width))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    return ax


def rate_axis(ax: Axes, text: str, axis: str = "x", low: float = 0.0, high: float = 1.0) -> Axes:
    """Percent ticks on an axis that holds shares; room for text beyond 100 % has none."""
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_locator(_Shares())
    which.set_major_formatter(FuncFormatter(lambda v, _: f"{round(100 * v, 4):g} %"))
    if axis == "x":
        ax.set_xlim(low, high)
        ax.set_xlabel(text)
    else:
        ax.set_ylim(low, high)
        ax.set_ylabel(text)
    return ax


class PlainLog(LogFormatter):
    """2 and 0.1 on a log axis, where matplotlib writes powers of ten."""

    def _num_to_string(self, x: float, vmin: float, vmax: float) -> str:
        return f"{x:g}"


class _Shares(AutoLocator):
    """Ticks from -100 % to 100 %."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The ticks between two values."""
        ticks = np.asarray(super().tick_values(vmin, vmax), dtype=float)
        return ticks[np.abs(ticks) <= 1 + 1e-9]


def legend_below(fig: Figure, handles: Sequence[Any], *, most: int = 4, left: bool = False) -> None:
    """A legend under the axes in at most ``most`` columns, fewer where the labels of ``handles`` are long."""
    if not handles:
        return
    widest = max(_width(str(handle.get_label()), 9, "normal") for handle in handles)
    fits = int((fig.get_size_inches()[0] - 0.2) / (widest + _LEGEND_ENTRY))
    columns = max(1, min(most, fits, len(handles)))
    corner: Literal["outside lower left", "outside lower center"] = "outside lower center"
    if left:
        corner = "outside lower left"
    fig.legend(handles=handles, loc=corner, ncols=columns, fontsize=9, frameon=False)


def interval_errors(value: Any, low: Any, high: Any) -> NDArray[np.float64]:
    """Errors of shape (2, n) for ``errorbar`` from interval ends; never negative, NaN as none."""
    value, low, high = (np.asarray(a, dtype=float) for a in (value, low, high))
    return np.nan_to_num(np.maximum(np.stack([value - low, high - value]), 0.0))


def ends(table: pd.DataFrame, stem: str = "") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the intervals in columns ``low, high`` (or ``<stem>_low, <stem>_high``), each of shape (rows,).

    Where they are missing (one recording has no cluster bootstrap) the Wilson ends in ``wilson_low,
    wilson_high`` stand in for them; NaN where there is neither.
    """
    lead = f"{stem}_" if stem else ""
    out = []
    for end in ("low", "high"):
        found = np.full(len(table), np.nan)
        for column in (f"{lead}wilson_{end}", f"{lead}{end}"):
            if column in table:
                given = table[column].to_numpy(dtype=float)
                found = np.where(np.isfinite(given), given, found)
        out.append(found)
    return out[0], out[1]


def furthest(table: pd.DataFrame, value: str) -> NDArray[np.float64]:
    """Right end of each row's mark: the interval's end, or the value where there is none; shape (rows,)."""
    return np.fmax(ends(table)[1], table[value].to_numpy(dtype=float))


def more_note(fig: Figure, hidden: int) -> None:
    """Say how many rows are not drawn."""
    if hidden > 0:
        fig.supxlabel(f"and {hidden} more in the table", size=9, color=MUTED, x=0.99, ha="right")


def spread_labels(
    positions: Sequence[float] | NDArray[Any], gap: float, low: float, high: float
) -> NDArray[np.float64]:
    """Move label positions apart until they are ``gap`` from each other, within [low, high]."""
    at = np.asarray(positions, dtype=float)
    order = np.argsort(at, kind="stable")
    placed = at[order].copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    overflow = max(0.0, float(placed[-1]) - high) if len(placed) else 0.0
    placed -= overflow
    for i in range(len(placed) - 2, -1, -1):
        placed[i] = min(placed[i], placed[i + 1] - gap)
    for i in range(len(placed)):
        placed[i] = max(placed[i], low + i * gap)
    out = np.empty_like(placed)
    out[order] = placed
    return out


def markers(names: Sequence[str]) -> Mapping[str, str]:
    """A marker for each name, so that shape repeats what colour says."""
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def _clean(text: str) -> str:
    """``text`` on one line, without control characters; characters that the font lacks are shown as one mark."""
    face = get_font(findfont(FontProperties()))
    printable = (c for c in " ".join(text.split()) if unicodedata.category(c)[0] != "C")
    return "".join(c if face.get_char_index(ord(c)) else "\N{REPLACEMENT CHARACTER}" for c in printable)


def _wrap(text: str, size: float, weight: str, inches: float) -> list[str]:
    """Break ``text`` at spaces so that each line fits into ``inches``.

    What a word takes depends a little on what the font was asked for before, so a line is measured once more whole.
    """
    kept = re.sub(r"(?<=\d) (?=%)|(?<= [pn]) (?==)|(?<= [pn] =) ", _NBSP, text)
    words = [word for word in kept.split(" ") if word]
    space = _width(" ", size, weight)
    lines: list[str] = []
    while words:
        n, used = 1, _width(words[0], size, weight)
        while n < len(words) and (used := used + space + _width(words[n], size, weight)) <= inches:
            n += 1
        while n > 1 and _measured(" ".join(words[:n]), size, weight) > inches:
            n -= 1
        lines.append(" ".join(words[:n]))
        words = words[n:]
    return lines


def _measured(text: str, size: float, weight: str) -> float:
    """Inches that a text takes."""
    font = FontProperties(size=size, weight=weight)
    return float(RendererAgg(1, 1, DPI).get_text_width_height_descent(text, font, ismath=False)[0] / DPI)


@lru_cache(maxsize=4096)
def _width(word: str, size: float, weight: str) -> float:
    """Inches that a word takes; shaping one takes half a millisecond, and titles repeat most of theirs."""
    return _measured(word, size, weight)
