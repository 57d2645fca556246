"""Galleries of the actual inputs: sensor windows and images, wrong beside the nearest right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from imbalance_lab.plots.style import (
    ACCENT,
    ALARM,
    INK,
    MAJORITY,
    MUTED,
    Scope,
    empty_figure,
    label,
    labels,
    legend_below,
    new_figure,
    percent,
    titles,
    wrapped,
)

_PANEL = 3.3  # inches of a window's panel
_TICK_ROOM = 0.09  # share of a band
_MOST_IMAGES = 12


@dataclass(frozen=True)
class WindowExample:
    """One window of sensor readings with its labels.

    Attributes
    ----------
    values : float array of shape (T, C); the channels to draw, in physical units
    true, pred : class names of shape (T,), "" where a step has no label
    span : (first, last) step of the error, both included, or None for the right example
    title : what it is ("recording face_03, row 1,204; confidence 0.97")
    """

    values: NDArray[np.floating]
    true: Sequence[str]
    pred: Sequence[str]
    span: tuple[int, int] | None = None
    title: str = ""


@dataclass(frozen=True)
class ImageExample:
    """One image, its labels, and the nearest correctly classified image of the true class.

    ``image`` and ``neighbour`` are arrays of shape (height, width); ``neighbour`` may be None.
    """

    image: NDArray[np.floating]
    true: str
    pred: str
    confidence: float
    neighbour: NDArray[np.floating] | None = None


def window_gallery(
    wrong: WindowExample,
    right: WindowExample | None,
    channels: Sequence[str],
    scope: Scope,
    *,
    colours: Mapping[str, str] | None = None,
    rate: float | None = None,
) -> Figure:
    """A wrong window beside the nearest correct one of the true class.

    Channels are small multiples that share their scale left and right; the error span is shaded;
    the strips below give the true and the predicted class of each step.

    Parameters
    ----------
    channels : names (with units) of the C channels, those that differ most first
    colours : class name to colour of the strips
    rate : how often the true class is missed as the predicted one, for the title
    """
    examples = [wrong] if right is None else [wrong, right]
    fig, axes = new_figure(
        1, len(examples), width=8.6 if right is not None else 6.0, height=0.82 * len(channels) + 1.15
    )
    limits = [_limits([e.values[:, i] for e in examples]) for i in range(len(channels))]
    for column, (ax, example) in enumerate(zip(axes[0], examples, strict=True)):
        _channels(ax, example, limits, color=ACCENT if column == 0 else MUTED)
        _strips(ax, example, colours or {})
        _shade(ax, example.span)
        _name_bands(ax, channels, limits)
        if column:
            ax.tick_params(axis="y", which="both", labelleft=False)
        title = example.title or ("wrong" if column == 0 else "nearest right")
        ax.set_title(wrapped(title, _PANEL, 10), loc="left", size=10, color=INK)
        ax.set_xlabel("step")
    named = [n for n in dict.fromkeys([*map(str, wrong.true), *map(str, wrong.pred)]) if n][:8]
    texts = labels(named, 30)
    boxes = [
        Rectangle((0, 0), 1, 1, fc=(colours or {}).get(n, MAJORITY), label=t) for n, t in zip(named, texts, strict=True)
    ]
    legend_below(fig, boxes, most=8)
    start, stop = wrong.span if wrong.span is not None else (0, len(wrong.true) - 1)
    true, pred = wrong.true[start], wrong.pred[start]
    often = f", as happens to {percent(rate)} of {label(true)}" if rate is not None else ""
    title = f"{label(true)} read as {label(pred)} for {stop - start + 1} of {len(wrong.true)} steps{often}"
    what = (
        "left: wrong; right: nearest window of the true class that was read correctly"
        if right is not None
        else "no correct window of the true class exists"
    )
    return titles(fig, title, scope.subtitle(what, "shaded: the error"))


def _shade(ax: Axes, span: tuple[int, int] | None) -> None:
    if span is not None:
        ax.axvspan(span[0] - 0.5, span[1] + 0.5, color=ALARM, alpha=0.16, lw=0)


_STRIP, _TRUE, _READ = 0.34, 0.4, 0.0  # height of a strip of labels and where the two begin
_FIRST, _NEXT = 0.88, 1.12  # where the lowest channel begins, and from one to the next; each is 1 high


def _base(i: int, n: int) -> float:
    """Where channel ``i`` of ``n`` begins; the first is on top."""
    return _FIRST + _NEXT * (n - 1 - i)


def _limits(values: Sequence[NDArray[np.floating]]) -> tuple[float, float] | None:
    """Scale of a channel over all windows; None where it is missing in each."""
    both = np.concatenate(values)
    finite = both[np.isfinite(both)]
    if not finite.size:
        return None
    room = 0.08 * float(np.ptp(finite) or abs(finite[0]) or 1.0)
    return float(finite.min()) - room, float(finite.max()) + room


def _channels(ax: Axes, example: WindowExample, limits: Sequence[tuple[float, float] | None], *, color: str) -> None:
    """All channels in one pair of axes, each scaled into its band: a pair of its own takes twenty times as long."""
    steps, n = len(example.values), len(limits)
    for i, found in enumerate(limits):
        if found is None:
            middle = (steps - 1) / 2
            ax.text(middle, _base(i, n) + 0.5, "missing in this recording", ha="center", size=9, color=MUTED)
            continue
        low, high = found
        ax.plot(np.arange(steps), _base(i, n) + (example.values[:, i] - low) / (high - low), color=color, lw=1.3)
    frames = [[(-0.5, _base(i, n) + 1), (-0.5, _base(i, n)), (steps - 0.5, _base(i, n))] for i in range(n)]
    ax.add_collection(LineCollection(frames, colors=MUTED, linewidths=0.8), autolim=False)
    ax.set_xlim(-0.5, steps - 0.5)
    ax.set_ylim(-0.06, _base(0, n) + 1.02)
    ax.spines["left"].set_visible(False)


def _name_bands(ax: Axes, channels: Sequence[str], limits: Sequence[tuple[float, float] | None]) -> None:
    """Values beside each band, and its name left of them."""
    at, texts = [_TRUE + _STRIP / 2, _READ + _STRIP / 2], ["true", "read as"]
    for i, found in enumerate(limits):
        if found is not None:
            low, high = found
            room = _TICK_ROOM * (high - low)  # from the tick of the next band
            ticks = [t for t in MaxNLocator(nbins=2).tick_values(low, high) if low + room <= t <= high - room]
            at += [_base(i, len(limits)) + (t - low) / (high - low) for t in ticks]
            texts += [f"{t:.6g}" for t in ticks]
    ax.set_yticks(at, texts)
    middles = [_base(i, len(limits)) + 0.5 for i in range(len(limits))]
    ax.set_yticks(middles, labels(channels, 18), minor=True)
    ax.tick_params(axis="y", which="minor", length=0, labelsize=9.5, labelcolor=INK, pad=7 + 4.9 * max(map(len, texts)))


def _strips(ax: Axes, example: WindowExample, colours: Mapping[str, str]) -> None:
    """Runs of equal labels as coloured boxes that carry the class's name where it fits."""
    steps = len(example.true)
    boxes = []
    for level, read in ((_TRUE, example.true), (_READ, example.pred)):
        names = np.asarray(read, dtype=object)
        starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
        for start, stop in zip(starts, np.r_[starts[1:], steps], strict=True):
            name = names[start]
            if not name:
                continue
            colour = colours.get(name, MAJORITY)
            boxes.append(Rectangle((start - 0.5, level), stop - start, _STRIP, fc=colour, ec="white", lw=0.8))
            if stop - start >= max(3, 0.028 * steps * len(label(name, 12))):
                ax.text(
                    (start + stop - 1) / 2,
                    level + _STRIP / 2,
                    label(name, 12),
                    ha="center",
                    va="center_baseline",
                    size=9,
                    color=_on(colour),
                )
    ax.add_collection(PatchCollection(boxes, match_original=True), autolim=False)


def _on(colour: str) -> str:
    """Black or white, whichever is readable on ``colour`` (WCAG 2 relative luminance)."""
    from matplotlib.colors import to_rgb

    channel = np.asarray(to_rgb(colour))
    linear = np.where(channel <= 0.03928, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.18 else "black"


def image_gallery(examples: Sequence[ImageExample], scope: Scope) -> Figure:
    """Wrong images, most confident first, each beside the nearest right image of its true class."""
    if not examples:
        return empty_figure("No image was misread.", "Gallery: no errors", scope.subtitle())
    shown = sorted(examples, key=lambda e: -e.confidence)[:_MOST_IMAGES]
    pairs = min(4, len(shown))
    rows = -(-len(shown) // pairs)
    fig, axes = new_figure(rows, 2 * pairs, width=max(5.0, 2.4 * pairs), height=1.75 * rows)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, example in enumerate(shown):
        left, right = axes[i // pairs, 2 * (i % pairs)], axes[i // pairs, 2 * (i % pairs) + 1]
        _image(left, example.image, ALARM)
        left.set_title(
            f"true {label(example.true, 10)}\nread {label(example.pred, 10)}\nat {example.confidence:.2f}",
            size=9,
            color=INK,
            loc="left",
        )
        if example.neighbour is not None:
            _image(right, example.neighbour, MUTED)
            right.set_title(f"a right\n{label(example.true, 12)}", size=9, color=MUTED, loc="left")
    first = shown[0]
    title = (
        f"Most confident error: {label(first.true)} read as {label(first.pred)} with confidence {first.confidence:.2f}"
    )
    note = f"{len(shown)} of {len(examples)} errors" if len(examples) > len(shown) else f"all {len(shown)} errors"
    return titles(fig, title, scope.subtitle(note, "beside each the nearest right image of its class"))


def _image(ax: Axes, image: NDArray[np.floating], frame: str) -> None:
    ax.set_axis_on()
    ax.imshow(image, cmap="gray_r", interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(visible=True, color=frame, linewidth=1.6)
