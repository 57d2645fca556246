"""The interpretation of one run: its figures and its page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from imbalance_lab.interpretation.interpret import tables
from imbalance_lab.interpretation.results import Interpretation
from imbalance_lab.plots import interpretation as plots
from imbalance_lab.plots import interpretation_maps as maps
from imbalance_lab.plots.style import Scope, class_colours
from imbalance_lab.report.images import FigureView
from imbalance_lab.report.page import Block, Note, Number, Page, Section, Text
from imbalance_lab.report.tables import table_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METRICS = {"macro_f1": "macro F1", "mcc": "MCC", "gmean": "G-mean"}
_BOOT = "Intervals: 95 %, cluster bootstrap over recordings."

_SECTIONS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "Which inputs matter": (
        "Each feature's values are taken from other windows, whole windows at a time with their missing values; the "
        f"loss of the metric is the importance. {_BOOT} They also resample the permutations. A feature whose "
        "information another one repeats looks unimportant alone: see the groups.",
        ("importance_groups", "importance_correlated", "importance_channels", "cumulative"),
        ("permutation", "permutation_base", "permutation_cumulative", "correlated_groups"),
    ),
    "Attribution": (
        "Gradients of the log odds of the true class with respect to scaled inputs (captum). Integrated gradients "
        "start from the training mean of every continuous channel; missing values stay missing. Correlation with "
        f"a randomised network near 1 means that a map shows inputs, not what was learned. {_BOOT}",
        ("attribution_channels", "attribution_heat"),
        ("attribution_sanity", "attribution_channels", "attribution_time", "attribution_cases"),
    ),
    "Which moments matter": (
        "All inputs of a step, or all beyond a distance, come from another explained position, aligned at the scored "
        f"step. Classes in equal parts where possible. {_BOOT}",
        ("moments", "blocks"),
        ("offsets", "context", "blocks"),
    ),
    "Attention": (
        "Weights are computed explicitly. Ablation sets one head's output to zero; the drop is that of the metric. "
        f"{_BOOT} A large weight is not by itself a cause.",
        ("attention_encoder", "attention_decoder", "attention_cases", "ablation"),
        ("attention_heads", "head_ablation", "attention_chosen"),
    ),
    "Features": (
        "Features in front of the classifiers. Neighbour purity and probe use other recordings only; "
        f"maps distort, so read the numbers first. {_BOOT}",
        ("embedding_class", "embedding_slice", "separation"),
        ("embedding_separation", "embedding_maps", "embedding_variance"),
    ),
    "Difficulty of classes": (
        f"Accuracy of a class is its recall. {_BOOT} Wilson where there is one recording.",
        ("difficulty",),
        ("difficulty", "difficulty_trend"),
    ),
    "Heads together": (
        "Only positions where both heads apply; expected: if the errors were independent.",
        (),
        ("heads", "head_pairs"),
    ),
}


def scope_of(i: Interpretation, *, permuted: bool = False) -> Scope:
    """Head, split, and how much data a figure rests on."""
    base = i.permutation.base
    base = base[base["head"] == i.head]
    if permuted and len(base):
        return Scope(i.head, str(i.meta["split"]), int(base["positions"].iloc[0]), int(base["recordings"].iloc[0]))
    return Scope(i.head, str(i.meta["split"]), int(i.meta["positions"]), int(i.meta["recordings"]))


def figures_of(i: Interpretation) -> dict[str, Figure]:
    """Every figure that the interpretation allows, by the name of its file; what does not apply is missing.

    The quick budget leaves three to their tables: drawing them would cost as much as measuring.
    """
    metric = _METRICS.get(i.meta["metric"], str(i.meta["metric"]).replace("_", " "))
    colours = class_colours(i.meta["classes"], i.meta["train_counts"])
    scope, few = scope_of(i), scope_of(i, permuted=True)
    found: dict[str, Figure] = {}
    table = i.permutation.table[i.permutation.table["head"] == i.head]
    base = i.permutation.base.set_index("head")["value"].get(i.head, np.nan)
    for name, what, kinds in (
        ("importance_groups", "group of channels", ("frame",)),
        ("importance_correlated", "group of correlated channels", ("correlated",)),
        ("importance_channels", "channel", ("channel", "categorical")),
    ):
        part = table[table["kind"].isin(kinds)]
        if len(part):
            found[name] = plots.importance(part, few, metric=metric, what=what, base=float(base))
    full = i.meta["budget"] == "full"
    if full and len(i.cumulative) > 1:
        what = (
            "groups of channels"
            if set(i.cumulative["feature"]) & set(table[table["kind"] == "frame"]["feature"])
            else "channels"
        )
        found["cumulative"] = plots.cumulative(i.cumulative, few, metric=metric, what=what)
    profile = None
    if i.attribution is not None:
        a = i.attribution
        cases = {str(c): int(n) for c, n in a.cases["class"].value_counts().items()}
        found["attribution_channels"] = plots.attribution_channels(a.channels, scope, sanity=_sanity(a.sanity))
        if i.meta["steps"] > 1:
            profile = a.time
            found["attribution_heat"] = plots.attribution_heat(
                a.heat, a.channel_names, a.heat_offsets, scope, cases=cases, per_step="offset" in a.time
            )
    if i.offsets is not None or i.context is not None:
        found["moments"] = plots.moments(i.offsets, i.context, profile, scope)
    if i.blocks is not None:
        found["blocks"] = plots.blocks(i.blocks, few, metric=metric)
    found |= _attention(i, few, metric)
    if i.embeddings is not None:
        found |= _embedding(i, scope, colours)
    trend = i.difficulty.trend[i.difficulty.trend["head"] == i.head].iloc[0]
    rows = i.difficulty.table[i.difficulty.table["head"] == i.head]
    found["difficulty"] = maps.difficulty(
        rows, scope, colours=colours, trend=(float(trend["correlation"]), float(trend["p"]))
    )
    return found


def _sanity(table: pd.DataFrame) -> str:
    part = table[(table["method"] == "integrated gradients") & (table["over"] == "channels")]
    value = float(part["correlation"].iloc[0]) if len(part) else float("nan")
    return f"rank correlation with a randomised network {value:.2f}" if np.isfinite(value) else ""


def _attention(i: Interpretation, scope: Scope, metric: str) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    if i.attention is not None:
        a = i.attention
        for layer, mean in a.mean.items():
            profile = a.profile[a.profile["layer"] == layer]
            heads = a.heads[a.heads["layer"] == layer]
            found[f"attention_{layer}"] = maps.attention(heads, mean, scope, profile=profile)
        if i.meta["budget"] == "full" and len(a.chosen):
            found["attention_cases"] = maps.attention_cases(a.cases, a.chosen, scope)
    if i.ablation is not None and i.meta["budget"] == "full":
        part = i.ablation[i.ablation["head"] == i.head].rename(columns={"ablated": "feature"})
        found["ablation"] = plots.importance(part, scope, metric=metric, what="attention head")
    return found


def _embedding(i: Interpretation, scope: Scope, colours: Mapping[str, str]) -> dict[str, Figure]:
    e = i.embeddings
    assert e is not None
    purity = e.separation[e.separation["measure"] == "neighbour purity"]
    of_class = purity[purity["by"] == "class"]
    found = {"embedding_class": maps.embedding(e.points, "class", colours, scope, maps=e.maps, separation=of_class)}
    if i.meta["budget"] == "full":
        found["separation"] = maps.separation(e.separation[e.separation["by"] == "class"], scope)
    slices = [s for s in dict.fromkeys(purity["by"]) if s != "class"]
    if i.meta["budget"] == "full" and slices:
        values = [str(v) for v in e.points[slices[0]].value_counts().index]
        found["embedding_slice"] = maps.embedding(
            e.points,
            slices[0],
            maps.slice_colours(values),
            scope,
            maps=e.maps,
            separation=purity[purity["by"] == slices[0]],
        )
    return found


def render_interpretation(i: Interpretation, figures: Mapping[str, FigureView], *, title: str) -> Page:
    """The page: what was found in sentences, then one section per method, then what is absent and why.

    ``figures`` are those of :func:`figures_of`, drawn, under the same names.
    """
    found = tables(i)
    sections = [Section("What was found", tuple(Text(s) for s in i.summary))]
    opening = next((n for n in ("importance_groups", "importance_channels") if n in figures), None)
    for name, (how, drawn, shown) in _SECTIONS.items():
        blocks: list[Block] = [figures[n] for n in drawn if n in figures and n != opening]
        blocks += [_folded(n, found[n]) for n in shown if n in found]
        if blocks:
            sections.append(Section(name, (*blocks, Note("How this was computed", how))))
    reasons = tuple(Text(f"{name.capitalize()}: {why}.", "absent") for name, why in i.absent.items())
    if reasons:
        sections.append(Section("Not in this report", reasons))
    return Page(
        title=title,
        verdict=headline(i),
        numbers=tuple(_numbers(i)),
        figure=figures[opening] if opening else None,
        sections=tuple(sections),
        facts=tuple((k.replace("_", " "), str(i.meta[k])) for k in _FACTS if k in i.meta),
    )


_FACTS = ("head", "split", "budget", "seed", "windows", "digest", "unknown_categories")


def headline(i: Interpretation) -> str:
    """The finding about inputs, or the first sentence that there is."""
    chosen = [s for s in i.summary if s.startswith(("Among", "No "))]
    return chosen[0] if chosen else i.summary[0] if i.summary else "Nothing could be measured."


def _folded(name: str, table: pd.DataFrame) -> Note:
    caption = name.replace("_", " ").capitalize()
    return Note(
        f"Table: {caption}", "", (table_view(table, caption, most=30, where=f"tables/interpretation_{name}.json"),)
    )


def _numbers(i: Interpretation) -> Iterator[Number]:
    metric = _METRICS.get(i.meta["metric"], str(i.meta["metric"]))
    base = i.permutation.base[i.permutation.base["head"] == i.head]
    if len(base):
        row = base.iloc[0]
        yield Number(f"{row['value']:.3f}", f"{metric} of the windows looked at", _ends(row))
    table = i.permutation.table[i.permutation.table["head"] == i.head].sort_values("drop", ascending=False)
    if len(table):
        row = table.iloc[0]
        yield Number(f"{row['drop']:.3f}", f"lost without {row['feature']}", _ends(row))
    if i.attribution is not None:
        sanity = i.attribution.sanity
        part = sanity[(sanity["method"] == "integrated gradients") & (sanity["over"] == "channels")]
        if len(part):
            note = f"integrated gradients; {_ends(part.iloc[0])}"
            yield Number(f"{part.iloc[0]['correlation']:.2f}", "rank correlation with a randomised network", note)
    if i.embeddings is not None:
        s = i.embeddings.separation
        s = s[(s["measure"] == "probe recall") & (s["verdict"] == "ok")]
        if len(s):
            row = s.iloc[int(np.argmin(s["rate"]))]
            yield Number(f"{row['rate']:.3f}", f"probe recall of {row['value']}, the worst", _ends(row))


def _ends(row: Any) -> str:
    low, high = float(row["low"]), float(row["high"])
    return f"95 %: {low:.3f} to {high:.3f}" if np.isfinite(low) and np.isfinite(high) else "no interval"


def to_json(i: Interpretation) -> str:
    """Summary, facts, what is absent and the tables of at most 200 rows, as JSON without NaN."""
    small = {name: json.loads(t.to_json(orient="records")) for name, t in tables(i).items() if len(t) <= 200}
    meta = {k: list(v) if isinstance(v, tuple) else v for k, v in i.meta.items()}
    plain = {
        "meta": meta,
        "summary": list(i.summary),
        "absent": dict(i.absent),
        "seconds": dict(i.seconds),
        "tables": small,
    }
    if i.attribution is not None:
        delta = i.attribution.relative_delta
        plain["integrated_gradients"] = {
            "steps": i.attribution.steps,
            "relative_convergence_delta": delta if np.isfinite(delta) else None,
        }
    return json.dumps(plain, indent=1, allow_nan=False)
