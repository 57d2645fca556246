"""The space in front of the classifiers: maps of it, and numbers for how well classes separate."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from imbalance_lab.interpretation.scored import Cases, Floats, Ints, ScoredSet, cluster_mean
from imbalance_lab.randomness import derive_seed

NEIGHBOURS = 10
FOLDS = 5
_MIN_TSNE = 30
_MIN_OF_CLASS = 20


@dataclass(frozen=True)
class Embeddings:
    """Result of :func:`embeddings`.

    Attributes
    ----------
    points : class, one column per slice, recording, pca_1, pca_2, and tsne_1, tsne_2 where t-SNE was run
    variance : component, explained, cumulative (shares of the variance)
    maps : map ("PCA", "t-SNE"), trustworthiness, neighbours, points
    separation : measure ("neighbour purity", "probe recall"), by ("class" or a slice), value, rate, low, high,
        chance, n, recordings, verdict
    """

    points: pd.DataFrame
    variance: pd.DataFrame
    maps: pd.DataFrame
    separation: pd.DataFrame


@torch.inference_mode()
def features_at(data: ScoredSet, cases: Cases) -> NDArray[np.float32]:
    """Features in front of the classifiers at each case, shape (n, H)."""
    out = np.empty((len(cases), 0), dtype=np.float32)
    size = data.rows_per_pass()
    windows, at = np.unique(cases.window, return_inverse=True)
    for start in range(0, len(windows), size):
        block = windows[start : start + size]
        features = data.network.run(data.take(block)).features.float().cpu().numpy()
        if not out.shape[1]:
            out = np.empty((len(cases), features.shape[2]), dtype=np.float32)
        mine = np.flatnonzero((at >= start) & (at < start + len(block)))
        out[mine] = features[at[mine] - start, cases.position[mine]]
    return out


def embeddings(
    data: ScoredSet,
    cases: Cases,
    classes: tuple[str, ...],
    slices: Mapping[str, NDArray[np.str_]],
    *,
    tsne_iterations: int = 0,
    seed: int = 0,
) -> Embeddings:
    """Map the features of ``cases`` and measure how far classes and slices are apart.

    Neighbour purity is the share of a point's 10 nearest neighbours *from other recordings* that have
    its class, in all dimensions: neighbours from the same recording are alike whatever they are.
    The probe is a logistic regression with balanced class weights, trained and tested on different
    recordings. Both come with the value that chance would give.

    Parameters
    ----------
    slices : slice name to the value of each window of ``data``, str arrays of shape (n,)
    tsne_iterations : 0 leaves t-SNE out

    References
    ----------
    Venna and Kaski (2001), trustworthiness; van der Maaten and Hinton (2008), t-SNE; Alain and Bengio
    (2017), linear probes.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE, trustworthiness

    x = features_at(data, cases).astype(np.float64)
    recording = data.recording[cases.window]
    n = len(x)
    components = min(10, *x.shape)
    pca = PCA(components, svd_solver="full").fit(x)
    flat = pca.transform(x)[:, :2]
    if flat.shape[1] < 2:
        flat = np.column_stack([flat, np.zeros(n)])
    maps = {"PCA": flat}
    if tsne_iterations and n >= _MIN_TSNE:
        maps["t-SNE"] = TSNE(
            init="pca", perplexity=min(30, (n - 1) / 4), max_iter=tsne_iterations, random_state=seed, n_jobs=1
        ).fit_transform(x)
    k = min(NEIGHBOURS, max(1, (n - 1) // 2))
    names = {"class": np.asarray(classes)[cases.label], **{s: v[cases.window] for s, v in slices.items()}}
    points = pd.DataFrame(
        names
        | {"recording": recording, "window": data.rows[cases.window], "position": cases.position}
        | {f"{m.lower().replace('-', '')}_{i + 1}": y[:, i] for m, y in maps.items() for i in (0, 1)}
    )
    order = [classes[c] for c in np.unique(cases.label)]
    separation = [_purity(x, names["class"], order, recording, "class", seed)]
    separation += [_purity(x, names[s], sorted(set(names[s])), recording, s, seed) for s in slices]
    separation.append(_probe(x, names["class"], order, recording, seed))
    return Embeddings(
        points=points,
        variance=pd.DataFrame(
            {
                "component": np.arange(1, components + 1),
                "explained": pca.explained_variance_ratio_,
                "cumulative": np.cumsum(pca.explained_variance_ratio_),
            }
        ),
        maps=pd.DataFrame(
            [(m, float(trustworthiness(x, y, n_neighbors=k)) if n > 3 else np.nan, k, n) for m, y in maps.items()],
            columns=["map", "trustworthiness", "neighbours", "points"],
        ),
        separation=pd.concat([s for s in separation if len(s)], ignore_index=True)
        if any(len(s) for s in separation)
        else pd.DataFrame(columns=_COLUMNS),
    )


_COLUMNS = ["measure", "by", "value", "rate", "low", "high", "chance", "n", "recordings", "verdict"]


def _purity(x: Floats, names: NDArray[np.str_], order: list[str], recording: Ints, by: str, seed: int) -> pd.DataFrame:
    from sklearn.metrics import pairwise_distances

    own, chance = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for start in range(0, len(x), 1024):
        block = slice(start, start + 1024)
        distance = pairwise_distances(x[block], x)
        foreign = recording[block, None] != recording[None, :]
        distance[~foreign] = np.inf
        k = min(NEIGHBOURS, len(x) - 1)
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        usable = np.take_along_axis(foreign, nearest, axis=1)
        same = (names[nearest] == names[block, None]) & usable
        count, pool = usable.sum(axis=1), foreign.sum(axis=1)
        alike = ((names[block, None] == names[None, :]) & foreign).sum(axis=1)
        np.divide(same.sum(axis=1), count, out=own[block], where=count > 0)
        np.divide(alike, pool, out=chance[block], where=pool > 0)
    return _by_value("neighbour purity", by, own, chance, names, order, recording, seed)


def _probe(x: Floats, names: NDArray[np.str_], order: list[str], recording: Ints, seed: int) -> pd.DataFrame:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(FOLDS, len(np.unique(recording)))
    if folds < 2 or len(order) < 2:
        return pd.DataFrame(columns=_COLUMNS)
    hit = np.full(len(x), np.nan)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=derive_seed(seed, "probe") % 2**32)
    _, code = np.unique(names, return_inverse=True)
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        # A class with fewer points than folds makes scikit-learn warn; its verdict says "insufficient" instead.
        splits = list(splitter.split(x, code, recording))
    for train, test in splits:
        if len(np.unique(code[train])) < 2 or not len(test):
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
        hit[test] = probe.fit(x[train], code[train]).predict(x[test]) == code[test]
    chance = np.full(len(x), 1 / len(order))
    return _by_value("probe recall", "class", hit, chance, names, order, recording, seed)


def _by_value(
    measure: str,
    by: str,
    value: Floats,
    chance: Floats,
    names: NDArray[np.str_],
    order: list[str],
    recording: Ints,
    seed: int,
) -> pd.DataFrame:
    rows = []
    for name in order:
        mine = names == name
        known = mine & np.isfinite(value)
        mean, low, high = cluster_mean(value[mine], recording[mine], seed)
        n, recordings = int(known.sum()), len(np.unique(recording[known]))
        enough = n >= _MIN_OF_CLASS and recordings >= 3
        expected = float(np.nanmean(chance[known])) if n else float("nan")
        rows.append(
            (
                *(measure, by, str(name), float(mean), float(low), float(high), expected, n, recordings),
                "ok" if enough else "n/a" if n == 0 else "insufficient",
            )
        )
    return pd.DataFrame(rows, columns=_COLUMNS)
