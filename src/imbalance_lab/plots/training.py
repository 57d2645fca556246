"""Training curves, with the epoch at which the model collapsed onto few classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imbalance_lab.plots.style import (
    ACCENT,
    ALARM,
    MUTED,
    Scope,
    empty_figure,
    new_figure,
    plural,
    style_axes,
    titles,
)


def training_curves(
    epochs: pd.DataFrame,
    scope: Scope,
    *,
    metric: str,
    collapse_epoch: int | None = None,
    best_epoch: int | None = None,
    label_entropy: float | None = None,
    trivial: float | None = None,
) -> Figure:
    """Loss, validation metric and entropy of the predicted classes by epoch.

    Parameters
    ----------
    epochs : DataFrame with columns ``epoch, train_loss`` and optionally ``val_loss, val_metric, pred_entropy``
        ``pred_entropy`` (nats) of the distribution of predicted classes: 0 means that one class is
        predicted everywhere.
    metric : name of the validation metric, for the axis
    collapse_epoch : epoch from which the predictions have collapsed, or None
    best_epoch : the epoch that was kept
    label_entropy : entropy of the true classes on validation, drawn as the level to reach
    trivial : the validation metric of the best trivial predictor, drawn as a line
    """
    if epochs.empty:
        return empty_figure("No epoch was finished.", "Training: nothing to show", scope.subtitle())
    panels: list[tuple[str, Mapping[str, str]]] = [("loss", {"train_loss": "train", "val_loss": "validation"})]
    panels += [
        (metric, {"val_metric": "validation"}),
        ("entropy of predicted\nclasses (nats)", {"pred_entropy": "predicted"}),
    ]
    panels = [(name, {c: t for c, t in lines.items() if c in epochs}) for name, lines in panels]
    panels = [(name, lines) for name, lines in panels if lines]
    fig, axes = new_figure(len(panels), 1, height=1.55 * len(panels) + 0.4, sharex=True)
    x = epochs["epoch"].to_numpy()
    styles = {
        "train_loss": (MUTED, "-"),
        "val_loss": (ACCENT, "--"),
        "val_metric": (ACCENT, "-"),
        "pred_entropy": ("#009e73", "-"),
    }
    for ax, (name, lines) in zip(axes[:, 0], panels, strict=True):
        style_axes(ax, "y")
        for column, text in lines.items():
            colour, line = styles[column]
            ax.plot(x, epochs[column], color=colour, ls=line, lw=1.8, marker="o", ms=3.5, label=text)
        if len(lines) > 1:
            ax.legend(fontsize=9, frameon=False, loc="upper right")
        ax.set_ylabel(name)
        _marks(ax, collapse_epoch, best_epoch)
    names = [column for _, lines in panels for column in lines]
    if "val_metric" in names:
        ax = axes[1, 0]
        ax.set_ylim(-0.02, max(0.1, 1.1 * float(np.nanmax([*epochs["val_metric"], trivial or 0]))))
        _level(ax, trivial, "always the majority")
    if "pred_entropy" in names:
        ax = axes[-1, 0]
        ax.set_ylim(-0.03, 1.15 * max(0.1, float(np.nanmax(epochs["pred_entropy"])), label_entropy or 0.0))
        _level(ax, label_entropy, "entropy of the true classes")
    axes[-1, 0].set_xlabel("epoch")
    axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_marks(axes[0, 0], collapse_epoch, best_epoch)
    if collapse_epoch is not None:
        title = f"Predictions collapse from epoch {collapse_epoch} on"
    elif "val_metric" in names and epochs["val_metric"].notna().any():
        at = int(np.nanargmax(epochs["val_metric"]))
        title = (
            f"Best validation {metric}: {float(epochs['val_metric'].iloc[at]):.3f} in epoch {int(x[at])}; no collapse"
        )
    else:
        title = f"{plural(len(epochs), 'epoch')} trained; no collapse"
    return titles(fig, title, scope.subtitle())


def _marks(ax: Axes, collapse: int | None, best: int | None) -> None:
    if best is not None:
        ax.axvline(best, color=MUTED, lw=1, ls=":")
    if collapse is not None:
        ax.axvline(collapse, color=ALARM, lw=1.4, ls=(0, (4, 2)))


def _name_marks(ax: Axes, collapse: int | None, best: int | None) -> None:
    for at, text, colour, level in ((best, "kept", MUTED, 1.0), (collapse, "collapse", ALARM, 1.0)):
        if at is not None:
            ax.annotate(
                text,
                (at, level),
                xycoords=ax.get_xaxis_transform(),
                xytext=(3, -1),
                textcoords="offset points",
                size=9,
                color=colour,
                va="top",
            )


def _level(ax: Axes, value: float | None, text: str) -> None:
    if value is not None:
        ax.axhline(value, color=MUTED, lw=1, ls=(0, (4, 3)))
        ax.annotate(
            text,
            (0.995, value),
            xycoords=ax.get_yaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            size=9,
            color=MUTED,
            ha="right",
            bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85},
        )
