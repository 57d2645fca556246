"""The parts of an interpretation: how each was computed, its tables and its figures, under one heading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from imbalance_lab.analysis.record import Table
from imbalance_lab.interpretation.contents import Interpretation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imbalance_lab.plots.style import Scope

_METRICS = {"macro_f1": "macro F1", "mcc": "MCC", "gmean": "G-mean"}
_BOOT = "Intervals: 95 %, cluster bootstrap over recordings."


@dataclass(frozen=True)
class Part:
    """A section of the page.

    Attributes
    ----------
    how : how its results were computed
    tables : a table without a section is a file only
    figures : names in the order of the page
    draw : those that the interpretation allows; the quick budget, which every trial of a grid has, leaves all but the
        importance and the moments to their tables, because drawing takes longer than measuring
    """

    key: str
    heading: str
    how: str
    tables: tuple[Table, ...]
    figures: tuple[str, ...] = ()
    draw: Callable[[Interpretation], Mapping[str, Figure]] = lambda _: {}


def _tables(section: str, **at: str) -> tuple[Table, ...]:
    """Tables by name; ``at`` says where an interpretation holds each."""
    words = {name: name.replace("_", " ").capitalize() for name in at}
    return tuple(Table(name, where, section, words[name], (), most=30, fold=True) for name, where in at.items())


def metric_words(i: Interpretation) -> str:
    """The metric whose loss is an importance, in words."""
    return _METRICS.get(i.meta["metric"], str(i.meta["metric"]).replace("_", " "))


def _full(i: Interpretation) -> bool:
    return bool(i.meta["budget"] == "full")


def _scope(i: Interpretation, *, permuted: bool = False) -> Scope:
    """Head, split, and how much data a figure rests on."""
    from imbalance_lab.plots.style import Scope

    base = i.permutation.base
    base = base[base["head"] == i.head]
    if permuted and len(base):
        return Scope(i.head, str(i.meta["split"]), int(base["positions"].iloc[0]), int(base["recordings"].iloc[0]))
    return Scope(i.head, str(i.meta["split"]), int(i.meta["positions"]), int(i.meta["recordings"]))


def _colours(i: Interpretation) -> dict[str, str]:
    from imbalance_lab.plots.style import class_colours

    return class_colours(i.meta["classes"], i.meta["train_counts"])


def _importance(i: Interpretation) -> dict[str, Figure]:
    from imbalance_lab.plots import interpretation as plots

    metric, few = metric_words(i), _scope(i, permuted=True)
    found: dict[str, Figure] = {}
    table = i.permutation.table[i.permutation.table["head"] == i.head]
    base = i.permutation.base.set_index("head")["value"].get(i.head, np.nan)
    for name, what, kinds in (
        ("importance_groups", "group of channels", ("frame",)),
        ("importance_correlated", "group of correlated channels", ("correlated",)),
        ("importance_channels", "channel", ("channel", "categorical")),
    ):
        part = table[table["kind"].isin(kinds)]
        if len(part) and (_full(i) or not found):
            found[name] = plots.importance(part, few, metric=metric, what=what, base=float(base))
    if _full(i) and len(i.cumulative) > 1:
        grouped = set(i.cumulative["feature"]) & set(table[table["kind"] == "frame"]["feature"])
        what = "groups of channels" if grouped else "channels"
        found["cumulative"] = plots.cumulative(i.cumulative, few, metric=metric, what=what)
    return found


def _attribution(i: Interpretation) -> dict[str, Figure]:
    from imbalance_lab.plots import interpretation as plots

    if i.attribution is None or not _full(i):
        return {}
    a, scope = i.attribution, _scope(i)
    cases = {str(c): int(n) for c, n in a.cases["class"].value_counts().items()}
    found = {"attribution_channels": plots.attribution_channels(a.channels, scope, sanity=_sanity(a.sanity))}
    if i.meta["steps"] > 1:
        found["attribution_heat"] = plots.attribution_heat(
            a.heat, a.channel_names, a.heat_offsets, scope, cases=cases, per_step="offset" in a.time
        )
    return found


def _sanity(table: pd.DataFrame) -> str:
    part = table[(table["method"] == "integrated gradients") & (table["over"] == "channels")]
    value = float(part["correlation"].iloc[0]) if len(part) else float("nan")
    return f"rank correlation with a randomised network {value:.2f}" if np.isfinite(value) else ""


def _moments(i: Interpretation) -> dict[str, Figure]:
    from imbalance_lab.plots import interpretation as plots

    found: dict[str, Figure] = {}
    if i.offsets is not None or i.context is not None:
        profile = i.attribution.time if i.attribution is not None and i.meta["steps"] > 1 else None
        found["moments"] = plots.moments(i.offsets, i.context, profile, _scope(i))
    if i.blocks is not None:
        found["blocks"] = plots.blocks(i.blocks, _scope(i, permuted=True), metric=metric_words(i))
    return found


def _attention(i: Interpretation) -> dict[str, Figure]:
    from imbalance_lab.plots import interpretation as plots
    from imbalance_lab.plots import interpretation_maps as maps

    found: dict[str, Figure] = {}
    scope = _scope(i, permuted=True)
    if not _full(i):
        return found
    if i.attention is not None:
        a = i.attention
        for layer, mean in a.mean.items():
            profile = a.profile[a.profile["layer"] == layer]
            heads = a.heads[a.heads["layer"] == layer]
            found[f"attention_{layer}"] = maps.attention(heads, mean, scope, profile=profile)
        if len(a.chosen):
            found["attention_cases"] = maps.attention_cases(a.cases, a.chosen, scope)
    if i.ablation is not None:
        part = i.ablation[i.ablation["head"] == i.head].rename(columns={"ablated": "feature"})
        found["ablation"] = plots.importance(part, scope, metric=metric_words(i), what="attention head")
    return found


def _embedding(i: Interpretation) -> dict[str, Figure]:
    from imbalance_lab.plots import interpretation_maps as maps

    if i.embeddings is None or not _full(i):
        return {}
    e, scope = i.embeddings, _scope(i)
    purity = e.separation[e.separation["measure"] == "neighbour purity"]
    of_class = purity[purity["by"] == "class"]
    found = {"embedding_class": maps.embedding(e.points, "class", _colours(i), scope, maps=e.maps, separation=of_class)}
    found["separation"] = maps.separation(e.separation[e.separation["by"] == "class"], scope)
    slices = [s for s in dict.fromkeys(purity["by"]) if s != "class"]
    if slices:
        name = slices[0]
        colours = maps.slice_colours([str(v) for v in e.points[name].value_counts().index])
        own = purity[purity["by"] == name]
        found["embedding_slice"] = maps.embedding(e.points, name, colours, scope, maps=e.maps, separation=own)
    return found


def _difficulty(i: Interpretation) -> dict[str, Figure]:
    from imbalance_lab.plots import interpretation_maps as maps

    if not _full(i):
        return {}
    d = i.difficulty
    trend = d.trend[d.trend["head"] == i.head].iloc[0]
    line = (float(trend["correlation"]), float(trend["p"]))
    rows = d.table[d.table["head"] == i.head]
    return {"difficulty": maps.difficulty(rows, _scope(i), colours=_colours(i), trend=line)}


PARTS: tuple[Part, ...] = (
    Part(
        "importance",
        "Which inputs matter",
        "Each feature's values are taken from other windows, whole windows at a time with their missing values; the "
        f"loss of the metric is the importance. {_BOOT} They also resample the permutations. A feature whose "
        "information another one repeats looks unimportant alone: see the groups.",
        _tables(
            "importance",
            permutation="permutation.table",
            permutation_base="permutation.base",
            permutation_cumulative="cumulative",
            correlated_groups="groups",
        ),
        ("importance_groups", "importance_correlated", "importance_channels", "cumulative"),
        _importance,
    ),
    Part(
        "attribution",
        "Attribution",
        "Gradients of the log odds of the true class with respect to scaled inputs (captum). Integrated gradients "
        "start from the training mean of every continuous channel; missing values stay missing. Correlation with "
        f"a randomised network near 1 means that a map shows inputs, not what was learned. {_BOOT}",
        _tables(
            "attribution",
            attribution_sanity="attribution.sanity",
            attribution_channels="attribution.channels",
            attribution_time="attribution.time",
            attribution_cases="attribution.cases",
        ),
        ("attribution_channels", "attribution_heat"),
        _attribution,
    ),
    Part(
        "moments",
        "Which moments matter",
        "All inputs of a step, or all beyond a distance, come from another explained position, aligned at the scored "
        f"step. Classes in equal parts where possible. {_BOOT}",
        _tables("moments", offsets="offsets", context="context", blocks="blocks"),
        ("moments", "blocks"),
        _moments,
    ),
    Part(
        "attention",
        "Attention",
        "Weights are computed explicitly. Ablation sets one head's output to zero; the drop is that of the metric. "
        f"{_BOOT} A large weight is not by itself a cause.",
        (
            *_tables(
                "attention",
                attention_heads="attention.heads",
                head_ablation="ablation",
                attention_chosen="attention.chosen",
            ),
            *_tables("", attention_profile="attention.profile", attention_cases="attention.cases"),
        ),
        ("attention_encoder", "attention_decoder", "attention_cases", "ablation"),
        _attention,
    ),
    Part(
        "features",
        "Features",
        "Features in front of the classifiers. Neighbour purity and probe use other recordings only; "
        f"maps distort, so read the numbers first. {_BOOT}",
        (
            *_tables(
                "features",
                embedding_separation="embeddings.separation",
                embedding_maps="embeddings.maps",
                embedding_variance="embeddings.variance",
            ),
            *_tables("", embedding_points="embeddings.points"),
        ),
        ("embedding_class", "embedding_slice", "separation"),
        _embedding,
    ),
    Part(
        "difficulty",
        "Difficulty of classes",
        f"Accuracy of a class is its recall. {_BOOT} Wilson where there is one recording.",
        _tables("difficulty", difficulty="difficulty.table", difficulty_trend="difficulty.trend"),
        ("difficulty",),
        _difficulty,
    ),
    Part(
        "heads",
        "Heads together",
        "Only positions where both heads apply; expected: if the errors were independent.",
        _tables("heads", heads="association.heads", head_pairs="association.pairs"),
    ),
)
"""Every part, in the order of the page."""


def tables(interpretation: Interpretation) -> dict[str, pd.DataFrame]:
    """Every table by name; what was not measured is missing (see ``interpretation.absent``)."""
    found = [table.of(interpretation) for part in PARTS for table in part.tables]
    return {name: frame for each in found for name, frame in each.items() if len(frame)}


def figures_of(interpretation: Interpretation) -> dict[str, Figure]:
    """Every figure that the interpretation allows, by the name of its file; what does not apply is missing."""
    return {name: figure for part in PARTS for name, figure in part.draw(interpretation).items()}
