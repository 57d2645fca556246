"""The interpretation in sentences: measured numbers with their intervals, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from imbalance_lab.formats import percent
from imbalance_lab.interpretation.attribution import INTEGRATED, LOOSE, SALIENCY
from imbalance_lab.interpretation.contents import Interpretation
from imbalance_lab.metrics.curves import enough

_ALIKE = 0.5  # rank correlation with a randomised network from which a map shows inputs, not learning


def sentences(i: Interpretation) -> Iterator[str]:
    """One sentence per finding, in the order of the report."""
    if i.meta["simulated"]:
        yield "These are simulated recordings; nothing here was measured on a machine."
    yield from _permutation(i)
    yield from _cumulative(i)
    yield from _attribution(i)
    yield from _time(i)
    yield from _attention(i)
    yield from _embeddings(i)
    yield from _difficulty(i)
    yield from _association(i)


def interval(low: float, high: float, digits: int = 3) -> str:
    """`` (95 % interval 0.100 to 0.200)``, or a statement that there is none."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return " (no interval: one recording)"
    return f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"


def _name(metric: str) -> str:
    return {"macro_f1": "macro F1", "mcc": "MCC", "gmean": "G-mean"}.get(metric, metric.replace("_", " "))


def _permutation(i: Interpretation) -> Iterator[str]:
    base = i.permutation.base
    base = base[base["head"] == i.head]
    if base.empty:
        return
    row = base.iloc[0]
    metric = _name(i.meta["metric"])
    yield (
        f"On {int(row['windows'])} windows of {int(row['recordings'])} recordings ({int(row['positions']):,} scored "
        f"positions) the {metric} of {i.head} is {row['value']:.3f}{interval(row['low'], row['high'])}."
    )
    for kinds, what, one, only in (
        (("frame",), "groups of channels", "group", "group of channels"),
        (("channel", "categorical"), "single channels", "channel", "channel"),
    ):
        table = i.permutation.table
        table = table[(table["head"] == i.head) & table["kind"].isin(kinds)].sort_values("drop", ascending=False)
        if table.empty:
            continue
        first, counted = table.iloc[0], int(table["counts"].sum())
        if counted == 0:
            yield (
                f"No {one} of {len(table)} permuted loses {metric} with an interval above 0; the largest drop is "
                f"{first['drop']:.3f}{interval(first['low'], first['high'])}, {first['feature']}."
            )
            continue
        lost = f"{first['drop']:.3f}{interval(first['low'], first['high'])}"
        if len(table) == 1:
            yield f"Permuting the only {only}, {first['feature']}, costs {lost} of {metric}."
            continue
        yield (
            f"Among {len(table)} {what}, permuting {first['feature']} costs the most {metric}: "
            f"{lost}; {counted} of {len(table)} have an interval "
            f"above 0, where chance alone would give about {0.025 * len(table):.1f}."
        )


def _cumulative(i: Interpretation) -> Iterator[str]:
    c = i.cumulative
    if len(c) < 3:
        return
    first, last = c.iloc[0], c.iloc[-1]
    every = f"all {int(last['k'])} together leave {last['left']:.3f}{interval(last['low'], last['high'])}"
    k = enough(c)
    if k is None:
        yield f"Of {first['left']:.3f}, {every} when they are permuted."
        return
    yield (
        f"The first {int(k['k'])} permuted together leave {k['left']:.3f}{interval(k['low'], k['high'])} of "
        f"{first['left']:.3f}; {every}."
    )


def _attribution(i: Interpretation) -> Iterator[str]:
    a = i.attribution
    if a is None:
        return
    table = a.channels[(a.channels["method"] == INTEGRATED) & (a.channels["class"] == "all")]
    row = table.iloc[0]
    if not np.isfinite(row["share"]):
        return
    yield (
        f"Integrated gradients give {row['channel']} the largest share of the attribution, {row['share']:.3f}"
        f"{interval(row['low'], row['high'])}, over {int(row['cases'])} positions of {int(row['recordings'])} "
        f"recordings, against {1 / len(a.channel_names):.3f} were all channels alike."
    )
    if np.isfinite(a.relative_delta):
        quality = "" if a.relative_delta <= LOOSE else ": too few steps for exact contributions"
        yield (
            f"With {a.steps} steps the contributions miss the change of the score by {percent(a.relative_delta, 1)} "
            f"of it{quality}."
        )
    for method in (INTEGRATED, SALIENCY):
        part = a.sanity[(a.sanity["method"] == method) & (a.sanity["over"] == "channels")]
        if len(part) and np.isfinite(part.iloc[0]["correlation"]):
            s = part.iloc[0]
            verdict = (
                "so much of the ranking comes from inputs and architecture, not from training"
                if s["correlation"] >= _ALIKE
                else "so the ranking depends on what was learned"
            )
            yield (
                f"The channel ranking of {method} correlates {s['correlation']:.2f}"
                f"{interval(s['low'], s['high'], 2)} with that of a randomised network, {verdict}."
            )


def _time(i: Interpretation) -> Iterator[str]:
    if i.offsets is not None and len(i.offsets):
        row = i.offsets.iloc[int(np.argmax(i.offsets["drop"]))]
        at = "the scored step itself" if row["offset"] == 0 else f"the step at offset {int(row['offset']):+d}"
        yield (
            f"Exchanging {at} costs the true class the most probability, {row['drop']:.3f}"
            f"{interval(row['low'], row['high'])}, over {int(row['n'])} positions of {int(row['recordings'])} "
            "recordings, classes in equal parts where possible."
        )
    if i.context is not None and len(i.context) > 1:
        whole = i.context.iloc[-1]
        near = i.context[i.context["probability"] >= 0.95 * whole["probability"]].iloc[0]
        if near["reach"] == whole["reach"]:  # nothing less does: show how much the widest part does
            near = i.context.iloc[-2]
        yield (
            f"Inputs within {int(near['reach'])} steps alone give the true class a probability of "
            f"{near['probability']:.3f}{interval(near['low'], near['high'])}; the whole window gives "
            f"{whole['probability']:.3f}{interval(whole['low'], whole['high'])}."
        )
    if i.blocks is not None and len(i.blocks):
        row = i.blocks.iloc[int(np.argmax(i.blocks["drop"]))]
        yield (
            f"Of {len(i.blocks)} blocks of the window, steps {int(row['first_step'])} to {int(row['last_step'])} cost "
            f"the most {_name(i.meta['metric'])} when exchanged: {row['drop']:.3f}{interval(row['low'], row['high'])}."
        )


def _attention(i: Interpretation) -> Iterator[str]:
    if i.attention is not None:
        heads = i.attention.heads
        heads = heads[heads["layer"] == "encoder"]
        sharp = heads.iloc[int(np.argmin(heads["entropy"]))]
        yield (
            f"The sharpest of {len(heads)} attention heads is number {int(sharp['attention_head'])}, entropy "
            f"{sharp['entropy']:.2f} nats{interval(sharp['low'], sharp['high'], 2)} of {sharp['entropy_uniform']:.2f} "
            f"for uniform weights; it looks {sharp['distance']:.1f} steps away on average"
            f"{interval(sharp['distance_low'], sharp['distance_high'], 1)}, uniform weights "
            f"{sharp['distance_uniform']:.1f}."
        )
    if i.ablation is not None:
        part = i.ablation[i.ablation["head"] == i.head]
        row = part.iloc[int(np.argmax(part["drop"]))]
        above = "" if row["low"] > 0 else ", not told apart from 0"
        yield (
            f"Removing {row['ablated']} costs the most {_name(i.meta['metric'])}: {row['drop']:.3f}"
            f"{interval(row['low'], row['high'])}{above}."
        )


def _embeddings(i: Interpretation) -> Iterator[str]:
    if i.embeddings is None:
        return
    table = i.embeddings.separation
    for measure, text in (
        ("neighbour purity", "of the nearest neighbours from other recordings have the same class"),
        ("probe recall", "are read by a linear probe that was trained on other recordings"),
    ):
        part = table[(table["measure"] == measure) & (table["by"] == "class") & (table["verdict"] == "ok")]
        if part.empty:
            continue
        worst, best = part.iloc[int(np.argmin(part["rate"]))], part.iloc[int(np.argmax(part["rate"]))]
        yield (
            f"In the features, {_share(best)} {text} for {best['value']} (best; {best['chance']:.3f} by chance) and "
            f"{_share(worst)} for {worst['value']} (worst; {worst['chance']:.3f} by chance)."
        )


def _share(row: Any) -> str:
    return f"{row['rate']:.3f}{interval(row['low'], row['high'])}"


def _difficulty(i: Interpretation) -> Iterator[str]:
    table = i.difficulty.table
    judged = table[(table["head"] == i.head) & (table["verdict"] == "ok")]
    if len(judged) > 1:
        hard, easy = judged.iloc[0], judged.iloc[-1]
        yield (
            f"The hardest class is {hard['class']}: {hard['accuracy']:.3f}{interval(hard['low'], hard['high'])} of "
            f"{int(hard['n']):,} positions right, {int(hard['train_count']):,} in training; the easiest is "
            f"{easy['class']}: {easy['accuracy']:.3f}{interval(easy['low'], easy['high'])} of {int(easy['n']):,}, "
            f"{int(easy['train_count']):,} in training."
        )
    trend: pd.DataFrame = i.difficulty.trend
    trend = trend[trend["head"] == i.head]
    if len(trend) and np.isfinite(trend.iloc[0]["correlation"]):
        row = trend.iloc[0]
        yield (
            f"Over {int(row['classes'])} classes accuracy and training count have a rank correlation of "
            f"{row['correlation']:.2f} (p = {row['p']:.2g})."
        )


def _association(i: Interpretation) -> Iterator[str]:
    pairs = i.association.pairs
    if not len(pairs):
        return
    pairs = pairs[(pairs["verdict"] == "ok") & pairs["phi"].notna()]
    if len(pairs):
        row = pairs.iloc[int(np.argmax(pairs["phi"].abs()))]
        yield (
            f"Where both apply ({int(row['n']):,} positions), {row['head_a']} and {row['head_b']} are wrong together "
            f"{int(row['joint']):,} times, {row['expected']:.1f} expected if independent (phi {row['phi']:.2f}, "
            f"q = {row['q']:.2g})."
        )
