"""Strategies for tables: imbalanced-learn's samplers and ensembles with scikit-learn's classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from imbalance_lab.errors import InputError
from imbalance_lab.strategies.option_types import TableOptions
from imbalance_lab.strategies.own_estimator import ESTIMATOR, OwnEstimator, make_estimator
from imbalance_lab.strategies.search_space import OneOf

Floats = NDArray[np.float64]
Classifier = Literal["logistic-regression", "random-forest", "gradient-boosting", "nearest-neighbours"]

RESAMPLERS: Mapping[str, tuple[str, str, str]] = {
    # name: (module of imblearn, class, name of its neighbours argument)
    "random-over-sampling": ("over_sampling", "RandomOverSampler", ""),
    "smote": ("over_sampling", "SMOTE", "k_neighbors"),
    "borderline-smote": ("over_sampling", "BorderlineSMOTE", "k_neighbors"),
    "svm-smote": ("over_sampling", "SVMSMOTE", "k_neighbors"),
    "kmeans-smote": ("over_sampling", "KMeansSMOTE", "k_neighbors"),
    "adasyn": ("over_sampling", "ADASYN", "n_neighbors"),
    "random-under-sampling": ("under_sampling", "RandomUnderSampler", ""),
    "near-miss": ("under_sampling", "NearMiss", "n_neighbors"),
    "tomek-links": ("under_sampling", "TomekLinks", ""),
    "edited-nearest-neighbours": ("under_sampling", "EditedNearestNeighbours", "n_neighbors"),
    "cluster-centroids": ("under_sampling", "ClusterCentroids", ""),
    "smote-enn": ("combine", "SMOTEENN", ""),
    "smote-tomek": ("combine", "SMOTETomek", ""),
}
ENSEMBLES: Mapping[str, str] = {
    "balanced-random-forest": "BalancedRandomForestClassifier",
    "balanced-bagging": "BalancedBaggingClassifier",
    "easy-ensemble": "EasyEnsembleClassifier",
    "rus-boost": "RUSBoostClassifier",
}


_NEIGHBOURS = 5  # that SMOTE and its kin look for unless told


def make_resampler(name: str, seed: int, neighbours: int | None = None, sampling_strategy: Any = "auto") -> Any:
    """An imbalanced-learn sampler by its name in :data:`RESAMPLERS`.

    Raises
    ------
    InputError
        If the name is unknown, or ``neighbours`` is given for a sampler that has none.
    """
    import importlib
    import inspect

    if name not in RESAMPLERS:
        raise InputError(f"resampler {name!r} is unknown; allowed: {', '.join(RESAMPLERS)}")
    module, cls, argument = RESAMPLERS[name]
    if neighbours is not None and not argument:
        raise InputError(f"resampler {name!r} has no option 'neighbours'")
    make = getattr(importlib.import_module(f"imblearn.{module}"), cls)
    options: dict[str, Any] = {"sampling_strategy": sampling_strategy}
    if "random_state" in inspect.signature(make).parameters:
        options["random_state"] = seed
    if neighbours is not None:
        options[argument] = neighbours
    return make(**options)


def rows_needed(name: str, neighbours: int | None = None) -> int:
    """Rows of a class that a resampler must have to add others: one more than the neighbours it looks for."""
    module, _, argument = RESAMPLERS[name]
    searches = module == "combine" or (module == "over_sampling" and argument)
    return ((_NEIGHBOURS if neighbours is None else neighbours) + 1) if searches else 1


def too_few_rows(name: str, counts: ArrayLike, classes: Sequence[str], neighbours: int | None = None) -> list[str]:
    """A sentence for each class with too few rows for a resampler; such a class keeps the rows it has."""
    needed = rows_needed(name, neighbours)
    return [
        f"class {c!r} has {n} row(s) in train, {name} needs {needed} of a class that it adds to: it keeps what it has"
        for c, n in zip(classes, np.asarray(counts).tolist(), strict=True)
        if 0 < n < needed
    ]


def sizes_within_reach(name: str, labels: NDArray[Any], neighbours: int | None = None) -> str | dict[int, int]:
    """What a resampler can aim at: its own choice, but a class with too few rows keeps the rows it has."""
    needed = rows_needed(name, neighbours)
    classes, counts = np.unique(labels, return_counts=True)
    if (counts >= needed).all():
        return "auto"
    return {int(c): int(counts.max()) for c, n in zip(classes, counts, strict=True) if n >= needed}


def resample_features(
    name: str,
    X: ArrayLike,
    y: ArrayLike,
    seed: int,
    neighbours: int | None = None,
    sampling_strategy: Any = "auto",
    classes: Sequence[str] | None = None,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Resample features (n, H) and labels (n,) once; the second stage of crt may train on the result.

    ``sampling_strategy`` as in imbalanced-learn, see :func:`sizes_within_reach`; ``classes`` names the
    classes in errors.

    Raises
    ------
    InputError
        If the sampler is unknown or cannot work on these data (too few neighbours in a class ...).
    """
    labels = np.asarray(y)
    try:
        Xr, yr = make_resampler(name, seed, neighbours, sampling_strategy).fit_resample(np.asarray(X), labels)
    except InputError:
        raise
    except (ValueError, RuntimeError) as error:
        raise _refused(name, labels, neighbours, classes, error) from None
    return np.asarray(Xr), np.asarray(yr)


def _refused(
    name: str, labels: NDArray[Any], neighbours: int | None, classes: Sequence[str] | None, error: Exception
) -> InputError:
    found, counts = np.unique(labels, return_counts=True)
    least = "none"
    if len(found):
        c = int(found[counts.argmin()])
        least = f"class {c if classes is None else repr(classes[c])} has {counts.min()} examples"
    needed = f"it needs {rows_needed(name, neighbours)} of each class that it adds to"
    return InputError(f"resampler {name!r} cannot work on these data ({least}); {needed}: {_sentence(error)}")


_CLEANERS = {"smote": None, "smote-enn": "edited-nearest-neighbours", "smote-tomek": "tomek-links"}


def _resample_rows(
    name: str,
    rows: Floats,
    labels: NDArray[np.int64],
    seed: int,
    neighbours: int | None,
    sizes: Any,
    classes: Sequence[str] | None,
    blocks: Sequence[tuple[int, int]],
) -> tuple[Floats, NDArray[np.int64]]:
    """Resample numbers and the 0/1 columns of categories.

    SMOTE, alone or before a cleaner, becomes SMOTENC (SMOTEN where all columns are categories): a new
    row has the category that most of its neighbours have. Other samplers have no such form: what they
    make between rows takes the category that it lies nearest to.
    """
    if not blocks or name not in _CLEANERS:
        made, found = resample_features(name, rows, labels, seed, neighbours, sizes, classes)
        for first, stop in blocks:
            made[:, first:stop] = made[:, first:stop].argmax(axis=1)[:, None] == np.arange(stop - first)
        return made, found
    from imblearn.over_sampling import SMOTEN, SMOTENC

    numbers = blocks[0][0]
    codes = np.stack([rows[:, first:stop].argmax(axis=1) for first, stop in blocks], axis=1)
    shared: dict[str, Any] = {
        "sampling_strategy": sizes,
        "random_state": seed,
        "k_neighbors": neighbours or _NEIGHBOURS,
    }
    sampler = SMOTENC(list(range(numbers, numbers + len(blocks))), **shared) if numbers else SMOTEN(**shared)
    try:
        mixed, found = sampler.fit_resample(np.concatenate([rows[:, :numbers], codes], axis=1), labels)
    except (ValueError, RuntimeError) as error:
        raise _refused(name, labels, neighbours, classes, error) from None
    made = np.empty((len(mixed), rows.shape[1]))
    made[:, :numbers] = mixed[:, :numbers]
    for k, (first, stop) in enumerate(blocks):
        made[:, first:stop] = mixed[:, numbers + k][:, None] == np.arange(stop - first)
    cleaner = _CLEANERS[name]
    return resample_features(cleaner, made, found, seed, None, "all", classes) if cleaner else (made, found)


def _resampled(
    name: str,
    inputs: Floats,
    labels: NDArray[np.int64],
    seed: int,
    neighbours: int | None,
    classes: Sequence[str] | None,
    blocks: Sequence[tuple[int, int]],
) -> tuple[Floats, NDArray[np.int64]]:
    """Rows resampled among standardised features, and back in their units."""
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    for first, stop in blocks:  # 0 and 1 as they are
        mean[first:stop], scale[first:stop] = 0.0, 1.0
    sizes = sizes_within_reach(name, labels, neighbours)
    made, found = _resample_rows(name, (inputs - mean) / scale, labels, seed, neighbours, sizes, classes, blocks)
    return made * scale + mean, found


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def make_classifier(name: Classifier, seed: int, class_weight: str | None = None) -> Any:
    """A scikit-learn classifier by its name; ``class_weight`` where the classifier has it."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "random-forest":
        return RandomForestClassifier(100, class_weight=class_weight, random_state=seed)
    if name == "gradient-boosting":
        return HistGradientBoostingClassifier(class_weight=class_weight, random_state=seed)
    if name == "nearest-neighbours":
        return make_pipeline(StandardScaler(), KNeighborsClassifier())
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight=class_weight))


def fit_table_model(
    name: str,
    options: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    seed: int,
    classes: Sequence[str] | None = None,
    category_blocks: Sequence[tuple[int, int]] = (),
) -> tuple[Any, NDArray[np.int64]]:
    """Fit one table strategy; returns the fitted estimator and the labels (m,) that it was given.

    Resamplers look for neighbours among standardised features; the estimator takes raw ones.

    Parameters
    ----------
    name : of :data:`RESAMPLERS` or :data:`ENSEMBLES`, or ``"plain"``
    options : see :class:`Resampled`, :class:`Ensemble` and :class:`Plain`
    X : finite floats of shape (n, F)
    y : int array of shape (n,)
    seed : of the sampler and of the classifier
    classes : names of the classes, for errors
    category_blocks : first column, and the one after the last, of the 0/1 columns of each category; they come
        after the numbers. A row that a sampler makes has one category, never fractions of several.

    Raises
    ------
    InputError
        Unknown name or option, values that are not finite, or data that the sampler refuses.
    """
    inputs, labels = np.asarray(X, dtype=np.float64), np.asarray(y)
    if not np.isfinite(inputs).all():
        raise InputError(f"table strategy {name!r}: the inputs hold NaN or infinite values; impute them first")
    if name == "plain":
        plain = Plain.model_validate(dict(options))
        model = make_classifier(plain.classifier, seed, plain.class_weight)
    elif name == ESTIMATOR:
        own = OwnEstimator.model_validate(dict(options))
        if own.resample is not None:
            inputs, labels = _resampled(own.resample, inputs, labels, seed, None, classes, category_blocks)
        model, fitting = make_estimator(own, seed, labels)
        try:
            return model.fit(inputs, labels, **fitting), labels
        except Exception as error:  # a class of another package may raise anything
            raise InputError(f"{own.path} cannot be fitted: {type(error).__name__}: {_sentence(error)}") from error
    elif name in RESAMPLERS:
        resampled = Resampled.model_validate(dict(options))
        inputs, labels = _resampled(name, inputs, labels, seed, resampled.neighbours, classes, category_blocks)
        model = make_classifier(resampled.classifier, seed)
    elif name in ENSEMBLES:
        from imblearn import ensemble

        count = Ensemble.model_validate(dict(options)).estimators
        model = getattr(ensemble, ENSEMBLES[name])(n_estimators=count, random_state=seed)
    else:
        raise InputError(
            f"table strategy {name!r} is unknown; allowed: {', '.join(['plain', ESTIMATOR, *RESAMPLERS, *ENSEMBLES])}"
        )
    return model.fit(inputs, labels), labels


def class_probabilities(model: Any, rows: ArrayLike, n_classes: int) -> Floats:
    """Probabilities (m, n_classes) of a fitted classifier; 0 for classes that it was never shown."""
    inputs = np.asarray(rows, dtype=np.float64)
    out = np.zeros((len(inputs), n_classes))
    out[:, np.asarray(model.classes_)] = model.predict_proba(inputs)
    return out


class Plain(TableOptions):
    """A scikit-learn classifier on the data as they are: the baseline of tables.

    What: logistic regression, random forest, gradient boosting or nearest neighbours.
    When: tables and images; compare every resampler with it.
    Suggested values: classifier random-forest (100 trees); class_weight balanced for the weighted form.
    Cost: that of the classifier.
    Source: scikit-learn.
    """

    classifier: Annotated[Classifier, OneOf(("logistic-regression", "random-forest", "gradient-boosting"))] = (
        "random-forest"
    )
    class_weight: Literal["balanced"] | None = None


class Resampled(TableOptions):
    """Resample the training rows, then fit a scikit-learn classifier (tables only).

    What: imbalanced-learn's sampler of that name, every class to the size that it chooses ("auto").
    When: tables and images with a few thousand rows; SMOTE needs k + 1 rows of every class.
    Suggested values: neighbours is imbalanced-learn's own unless given (5 for SMOTE).
    Cost: that of a nearest-neighbour search, and of more (or fewer) rows.
    Source: imbalanced-learn; Chawla et al. 2002 (SMOTE), He et al. 2008 (ADASYN), Batista et al. 2004 (combined).
    """

    classifier: Classifier = "random-forest"
    neighbours: Annotated[Annotated[int, Field(ge=1, le=100)] | None, OneOf((3, 5, 9))] = None


class Ensemble(TableOptions):
    """An ensemble whose every member sees balanced data (tables only).

    What: imbalanced-learn's balanced random forest, balanced bagging, EasyEnsemble or RUSBoost.
    When: tables with strong imbalance; a strong and cheap comparison for any network.
    Suggested values: estimators 100 for forests, 10 for EasyEnsemble.
    Cost: that of the members, each on a balanced part of the data.
    Source: imbalanced-learn; Chen et al. 2004, Liu et al. 2009, Seiffert et al. 2010.
    """

    estimators: Annotated[int, Field(ge=1, le=10_000), OneOf((10, 50, 100, 200))] = 50
