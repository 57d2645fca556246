"""All methods on one trained network, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from imbalance_lab.data.dataset import IGNORE, LoadedData
from imbalance_lab.errors import InputError
from imbalance_lab.interpretation import attribution as attr
from imbalance_lab.interpretation.ablation import head_ablation
from imbalance_lab.interpretation.attention_maps import AttentionMaps, attention_maps
from imbalance_lab.interpretation.contents import BUDGETS, Attribution, Budget, Interpretation
from imbalance_lab.interpretation.difficulty import token_difficulty
from imbalance_lab.interpretation.embeddings import Embeddings, embeddings
from imbalance_lab.interpretation.head_pairs import head_association
from imbalance_lab.interpretation.passes import Counting, counting_for
from imbalance_lab.interpretation.permutation import (
    PermutationImportance,
    cumulative_importance,
    permutation_importance,
    ranked_features,
    steps_of,
)
from imbalance_lab.interpretation.permuted_inputs import Feature, channels, correlated, frames
from imbalance_lab.interpretation.randomised import randomised, sanity_check
from imbalance_lab.interpretation.scored import (
    Cases,
    Ints,
    ScoredSet,
    choose_cases,
    choose_windows,
    make_scored,
    scored_windows,
    subset,
)
from imbalance_lab.interpretation.sentences import sentences
from imbalance_lab.interpretation.temporal import block_importance, context_curve, offset_importance
from imbalance_lab.models.predictor import Predictor
from imbalance_lab.predictions import primary_head
from imbalance_lab.training.precision import matrix_products
from imbalance_lab.training.predict import to_predictions
from imbalance_lab.training.resident import Resident
from imbalance_lab.training.validating import predict_scores

_CORRELATION_ROWS = 4000
_HEAT_REACH = 12
_POSITIONS = 64  # steps of the windows that the budgets are made for


@dataclass(frozen=True)
class _Setting:
    """What every part needs."""

    loaded: LoadedData
    data: ScoredSet
    few: ScoredSet
    counting: Counting
    head: str
    classes: tuple[str, ...]
    target: Ints
    metric: str
    budget: Budget
    seed: int


@matrix_products(tf32=False)
def interpret(
    network: Predictor,
    loaded: LoadedData,
    budget: Literal["quick", "full"] = "quick",
    seed: int = 0,
    head: str | None = None,
    metric: str = "macro_f1",
    progress: Callable[[str], None] | None = None,
    split: str = "test",
) -> Interpretation:
    """Interpret a trained network, or classical classifiers, on one split of its data.

    What does not apply to the model is absent with a reason. The model is used as it was trained, before
    any post-hoc correction, in float32 on the device that it is on; it is left in evaluation mode.

    Parameters
    ----------
    budget : ``quick`` looks at a part of the windows and permutes frames before channels; ``full`` at all
    head : head that single-head methods explain; default ``command``, or the first with scored positions
    metric : whose drop is importance; a name of :func:`imbalance_lab.metrics.counts.metric_by_name`
    progress : called with the name of each part before it starts

    Raises
    ------
    InputError
        If ``budget``, ``head``, ``metric`` or ``split`` is unknown, or the split has no scored position.
    """
    from imbalance_lab.metrics.counts import metric_by_name

    metric_by_name(metric)
    if budget not in BUDGETS:
        raise InputError(f"interpretation budget: found {budget!r}; allowed are {', '.join(BUDGETS)}")
    index = dict(loaded.splits.items()).get(split)
    if index is None:
        raise InputError(f"interpretation split: found {split!r}; allowed are train, val, test")
    say = progress or (lambda _: None)
    seconds: dict[str, float] = {}
    absent: dict[str, str] = {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        say(name)
        begun = time.perf_counter()
        yield
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun

    dataset = loaded.dataset
    with part("predict"):
        rows = index[scored_windows({h: np.asarray(t[index]) for h, t in dataset.targets.items()})]
        chosen = _choose_head(loaded, rows, head, split)
        data = make_scored(network, dataset, rows)
        # A row of a table is one position, a window is many.
        most = BUDGETS[budget].windows * max(1, _POSITIONS // data.steps)
        few = subset(data, choose_windows(data.recording, most, seed))
        scores = predict_scores(network, Resident(data.source, data.targets))
        predictions = to_predictions(dataset, loaded.splits, rows, scores, {"split": split})
    target = data.targets[chosen].cpu().numpy()
    setting = _Setting(
        loaded, data, few, counting_for(few), chosen, dataset.heads[chosen], target, metric, BUDGETS[budget], seed
    )
    with part("difficulty"):
        difficulty = token_difficulty(predictions, seed=seed)
        association = head_association(
            predictions,
            {h: _confidence(s) for h, s in scores.items()},
            {h: t.cpu().numpy() for h, t in data.targets.items()},
            seed=seed,
        )
    with part("attribution"):
        attribution = _attribution(setting, absent)
    with part("permutation"):
        permutation, cumulative, groups = _permutation(setting, attribution, absent)
    with part("attention"):
        attention, ablation = _attention(setting, absent)
    with part("temporal"):
        offsets, context, blocks = _temporal(setting, absent)
    with part("embeddings"):
        mapped = _embeddings(setting, absent)
    result = Interpretation(
        meta={
            "head": chosen,
            "classes": setting.classes,
            "train_counts": dataset.class_counts(chosen, loaded.splits.train).tolist(),
            "split": split,
            "metric": metric,
            "budget": budget,
            "seed": seed,
            "windows": len(data),
            "windows_permuted": len(few),
            "positions": int((target != IGNORE).sum()),
            "recordings": data.recordings,
            "steps": data.steps,
            "baseline": attr.BASELINE,
            "digest": dataset.digest,
            "unknown_categories": dataset.facts.get("unknown_categories", "none"),
            "simulated": bool(dataset.facts.get("simulated", False)),
        },
        permutation=permutation,
        cumulative=cumulative,
        groups=groups,
        attention=attention,
        ablation=ablation,
        attribution=attribution,
        offsets=offsets,
        context=context,
        blocks=blocks,
        embeddings=mapped,
        difficulty=difficulty,
        association=association,
        summary=(),
        absent=absent,
        seconds=seconds,
    )
    return replace(result, summary=tuple(sentences(result)))


def _choose_head(loaded: LoadedData, rows: Ints, head: str | None, split: str) -> str:
    targets = loaded.dataset.targets
    if head is not None and head not in targets:
        raise InputError(f"interpretation head: found {head!r}; allowed are {', '.join(targets)}")
    scored = [h for h in targets if (np.asarray(targets[h][rows]) != IGNORE).any()]
    if not scored or (head is not None and head not in scored):
        raise InputError(f"interpretation: the {split} split has no scored position{f' of {head!r}' if head else ''}")
    return head or primary_head(scored)


def _confidence(scores: Any) -> Any:
    z = scores - scores.max(axis=-1, keepdims=True)
    return 1.0 / np.exp(z).sum(axis=-1)


def _rows_in(data: ScoredSet, few: ScoredSet) -> Ints:
    """Places of ``few``'s windows in ``data``."""
    order = np.argsort(data.rows)
    return order[np.searchsorted(data.rows, few.rows, sorter=order)]


def _attribution(s: _Setting, absent: dict[str, str]) -> Attribution | None:
    names = s.loaded.dataset.channels
    k = len(s.classes)
    network = s.data.network.as_network
    if network is None:
        absent["attribution"] = f"{s.data.network.words} has no gradients; permutation measures its inputs"
        return None
    if not names or k < 2:
        absent["attribution"] = "there is no continuous channel" if not names else "the head has one class"
        return None
    if s.data.shape[2]:
        absent["attribution of categorical channels"] = "codes have no gradient; permutation measures them"
    cases = choose_cases(s.target, s.data.recording, k, s.budget.cases, s.seed)
    counts = s.loaded.dataset.class_counts(s.head, s.loaded.splits.train)
    present = np.unique(cases.label)
    kept = present[np.argsort(counts[present], kind="stable")][: s.budget.case_classes]
    cases = cases.take(np.flatnonzero(np.isin(cases.label, kept)))
    steps = s.budget.steps
    found = attr.attribute(s.data, s.head, cases, steps=steps)
    if found.relative_delta > attr.LOOSE:
        steps *= 4
        found = attr.attribute(s.data, s.head, cases, steps=steps)
    random = attr.attribute(
        replace(s.data, network=randomised(network, s.seed)), s.head, cases, steps=s.budget.random_steps
    )
    per_step = s.data.per_step
    reach = min(_HEAT_REACH, s.data.steps - 1)
    heat = {}
    for c in np.unique(cases.label):
        if per_step:
            heat[s.classes[c]] = attr.heat(found, attr.INTEGRATED, int(c), reach)
        else:
            heat[s.classes[c]] = np.abs(found.values[attr.INTEGRATED][cases.label == c]).mean(axis=0).T
    return Attribution(
        channels=attr.channel_table(found, names, s.classes, s.seed),
        time=attr.time_table(found, per_step, s.seed),
        cases=attr.case_table(found, s.data, names, s.classes),
        heat=heat,
        heat_offsets=np.arange(-reach, reach + 1) if per_step else np.arange(s.data.steps),
        channel_names=names,
        relative_delta=found.relative_delta,
        steps=steps,
        sanity=sanity_check(found, random, s.seed),
    )


def _permutation(
    s: _Setting, attribution: Attribution | None, absent: dict[str, str]
) -> tuple[PermutationImportance, pd.DataFrame, pd.DataFrame]:
    dataset = s.loaded.dataset
    single, grouped = channels(dataset), frames(dataset)
    has_frames = len(dataset.channel_groups) > 0
    options: dict[str, Any] = {"metric": s.metric, "repeats": s.budget.repeats, "seed": s.seed}
    first: list[Feature] = list(grouped) if has_frames else []
    if not has_frames:
        absent["permutation of sensor frames"] = "the data set has no groups of channels"
    clusters: tuple[Feature, ...] = ()
    if s.budget.correlated and len(dataset.channels) > 1:
        flat = s.few.inputs.values.reshape(-1, len(dataset.channels))
        step = max(1, len(flat) // _CORRELATION_ROWS)
        clusters = correlated(flat[::step].cpu().numpy(), dataset.channels)
    elif not s.budget.correlated:
        absent["permutation of correlated groups"] = "the quick budget leaves it out"
    members = pd.DataFrame(
        [(f.name, dataset.channels[i]) for f in clusters for i in f.continuous], columns=["group", "channel"]
    )
    if s.budget.all_channels:
        found = permutation_importance(s.few, [*first, *clusters, *single], s.counting, **options)
    elif has_frames:
        found = permutation_importance(s.few, first, s.counting, **options)
        top = ranked_features(found.table, first, s.head, ["frame"])[:2]
        order, by = _screening(s, single, attribution, options)
        inside = {i for f in top for i in f.continuous}
        codes = {i for f in top for i in f.categorical}
        screened = [f for f in order if set(f.continuous) & inside or set(f.categorical) & codes][: s.budget.channels]
        more = permutation_importance(s.few, screened, s.counting, **options)
        found = PermutationImportance(pd.concat([found.table, more.table], ignore_index=True), found.base)
        absent["permutation of every channel"] = (
            f"the quick budget permutes {len(screened)} channels, those that come first by {by} "
            f"in the two most important groups ({', '.join(f.name for f in top)})"
        )
    else:
        order, by = _screening(s, single, attribution, options)
        screened = order[: 4 * s.budget.channels]
        found = permutation_importance(s.few, screened, s.counting, **options)
        if len(screened) < len(single):
            absent["permutation of every channel"] = (
                f"the quick budget permutes the {len(screened)} channels that come first by {by}"
            )
    kinds = ["frame"] if has_frames and not s.budget.all_channels else ["channel", "categorical"]
    ranked = ranked_features(found.table, [*first, *single], s.head, kinds)
    cumulative = cumulative_importance(
        s.few,
        ranked,
        s.counting,
        head=s.head,
        metric=s.metric,
        repeats=s.budget.cumulative_repeats,
        seed=s.seed,
        at=steps_of(len(ranked)),
    )
    return found, cumulative, members


def _screening(
    s: _Setting, single: tuple[Feature, ...], attribution: Attribution | None, options: Mapping[str, Any]
) -> tuple[list[Feature], str]:
    """Single channels, those to look at first in front, and by what; categorical ones last under gradients."""
    if attribution is None:
        once = permutation_importance(s.few, single, s.counting, **{**options, "repeats": 1})
        return ranked_features(once.table, single, s.head, ["channel", "categorical"]), "one permutation of each"
    table = attribution.channels
    table = table[(table["method"] == attr.INTEGRATED) & (table["class"] == "all")]
    share = dict(zip(table["channel"], table["share"], strict=True))
    order = sorted(single, key=lambda f: -share.get(f.name, 0.0) if f.continuous else 0.0)
    return order, "integrated gradients"


def _attention(s: _Setting, absent: dict[str, str]) -> tuple[AttentionMaps | None, pd.DataFrame | None]:
    cases = choose_cases(s.target[_rows_in(s.data, s.few)], s.few.recording, len(s.classes), 1, s.seed)
    attention = attention_maps(s.few, s.head, s.classes, cases, s.seed)
    ablation = head_ablation(s.few, s.counting, metric=s.metric, seed=s.seed)
    if attention is None:
        for name in ("attention", "ablation"):
            absent[name] = f"{s.data.network.words} has no attention layer"
    return attention, ablation


def _embeddings(s: _Setting, absent: dict[str, str]) -> Embeddings | None:
    if not s.data.network.has_features:
        absent["embeddings"] = f"{s.data.network.words} has no hidden features"
        return None
    points = choose_cases(s.target, s.data.recording, len(s.classes), s.budget.points, s.seed, one_per_window=False)
    if len(points) <= 3:
        absent["embeddings"] = f"only {len(points)} scored positions"
        return None
    slices = {name: values[s.data.rows] for name, values in s.loaded.dataset.slices.items()}
    return embeddings(s.data, points, s.classes, slices, tsne_iterations=s.budget.tsne, seed=s.seed)


def _temporal(
    s: _Setting, absent: dict[str, str]
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, pd.DataFrame | None]:
    if s.data.steps == 1:
        for name in ("offsets", "context"):
            absent[name] = "a row has one step: there is no time"
        return None, None, None
    if not s.data.per_step:
        absent["offsets"] = absent["context"] = "target positions have no input step of their own; see the blocks"
        blocks = block_importance(
            s.few, s.counting, head=s.head, metric=s.metric, repeats=s.budget.repeats, seed=s.seed
        )
        return None, None, blocks
    cases: Cases = choose_cases(s.target, s.data.recording, len(s.classes), s.budget.temporal_cases, s.seed)
    steps = [k for k in s.budget.offsets if abs(k) < s.data.steps]
    repeats = 1 if s.budget.cumulative_repeats == 1 else 5
    offsets = offset_importance(s.data, s.head, cases, steps, repeats=repeats, seed=s.seed)
    context = context_curve(s.data, s.head, cases, s.budget.reaches, repeats=repeats, seed=s.seed)
    return offsets[offsets["n"] > 0].reset_index(drop=True), context, None
