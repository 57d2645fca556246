"""Experiment file -> validated, frozen objects."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from imbalance_lab.errors import InputError
from imbalance_lab.load import WITHOUT_FILE, DataOptions, folds_of
from imbalance_lab.models.factory_code import collect_sources
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.names import NAME_RULE, check_name
from imbalance_lab.plain_yaml import read_yaml
from imbalance_lab.predictions import primary_head
from imbalance_lab.randomness import derive_seed
from imbalance_lab.strategies.language.catalogue import chosen_strategies
from imbalance_lab.strategies.language.parse import StrategySpec, parse_strategy
from imbalance_lab.training.training_config import TrainingConfig

_SHOWN = 200  # characters of a wrong value
_SEEDS = 2**32  # NumPy's and scikit-learn's generators take no larger one
LEAST_ROUNDS = 3
"""A race with fewer has nothing left to stop after its first look."""

SELECTION_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "gmean")


@dataclass(frozen=True)
class TrialId:
    """Which trial: a strategy trained with a seed, on one fold where the data are cross-validated."""

    strategy: str
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """``strategy-sN`` or ``strategy-sN-fK``: the name of its run and, as a key, of its files."""
        return f"{self.strategy}-s{self.seed}" + ("" if self.fold is None else f"-f{self.fold}")

    @property
    def randomness(self) -> int:
        """The seed of all that this trial draws.

        Folds draw independently of each other, as the variance of a cross-validated score takes for granted; the
        strategies of one seed and fold share what they draw, as without folds.
        """
        return self.seed if self.fold is None else derive_seed(self.seed, "fold", self.fold) % 2**32


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _off(value: Any) -> Any:
    """YAML 1.1 reads an unquoted ``off`` as false."""
    return "off" if value is False else value


Budget = Annotated[Literal["full", "quick", "off"], BeforeValidator(_off)]


class AuditSection(_Section):
    """What a failed audit does: stop (exit code 3) or warn and go on. ``budget: off`` skips it.

    ``pilot`` is the ``verdict.json`` of an earlier grid on recordings like these: it knows how differences vary.
    """

    on_fail: Literal["stop", "warn"] = "stop"
    budget: Budget = "full"
    pilot: Path | None = None


class InterpretSection(_Section):
    """How much interpretation each child run gets at its end."""

    budget: Budget = "quick"


class SelectionSection(_Section):
    """What is maximised on validation: ``head/metric`` (``auto/macro_f1``: the main head)."""

    metric: str = "auto/macro_f1"
    split: Literal["val"] = "val"

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        head, _, metric = value.rpartition("/")
        if not head or metric not in SELECTION_METRICS:
            raise ValueError(
                f"found {value!r}; expected <head>/<metric> with a metric of {', '.join(SELECTION_METRICS)}"
            )
        return value


class ComparisonSection(_Section):
    """Strategies whose difference in the metric lies within ``margin`` count as equivalent.

    With ``race`` those that are worse than the baseline on validation are stopped before all folds (or seeds) are
    trained, see :mod:`imbalance_lab.comparison.racing`.
    """

    margin: float = Field(0.01, gt=0, lt=1)
    race: bool = False


class AnalysisSection(_Section):
    """What each trial is given: the full error analysis, or its metrics, predictions and model alone.

    None: light with folds, where the analysis is that of the strategy, over all folds; full without.
    """

    trials: Literal["full", "light"] | None = None


class TuneSection(_Section):
    """Trials of each strategy's hyper-parameters, judged on validation by the first seed."""

    trials: int = Field(ge=1, le=10_000)


class ExperimentSpec(_Section):
    """One experiment: what to load, what to train, how to choose.

    ``strategies`` maps a name to its parsed strategy; its order is the order of every table.
    """

    name: str
    description: str = ""
    data: DataOptions
    audit: AuditSection = AuditSection()
    interpret: InterpretSection = InterpretSection()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, max_length=1000)
    baseline: str = "cross-entropy"
    strategies: Mapping[str, StrategySpec]
    selection: SelectionSection = SelectionSection()
    comparison: ComparisonSection = ComparisonSection()
    analysis: AnalysisSection = AnalysisSection()
    costs: Mapping[str, Path] = Field(default_factory=dict)
    tune: TuneSection | None = None

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        try:
            return check_name(name)
        except ValueError as error:
            raise ValueError(f"found {name!r}: {error}; {NAME_RULE}") from None

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        twice = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
        if twice:
            raise ValueError(f"seed {twice[0]} is given twice, each may stand once")
        if not 0 <= min(seeds) <= max(seeds) < _SEEDS:
            raise ValueError(f"found {min(seeds)} to {max(seeds)}; seeds are integers from 0 to {_SEEDS - 1}")
        return seeds

    @model_validator(mode="after")
    def _baseline_exists(self) -> ExperimentSpec:
        if not self.strategies:
            raise ValueError("strategies: found none; name at least one")
        if self.baseline not in self.strategies:
            raise ValueError(f"baseline: found {self.baseline!r}; allowed are {', '.join(self.strategies)}")
        return self

    @model_validator(mode="after")
    def _a_race_has_rounds(self) -> ExperimentSpec:
        parts, count = self.race_rounds
        if self.comparison.race and count < LEAST_ROUNDS:
            raise ValueError(
                f"comparison.race: found true with {count} {parts if count > 1 else parts[:-1]}; a race stops "
                f"strategies from the second on, so it needs at least {LEAST_ROUNDS} folds, or without folds "
                f"{LEAST_ROUNDS} seeds"
            )
        return self

    @model_validator(mode="after")
    def _every_phase_begins(self) -> ExperimentSpec:
        for name, strategy in self.strategies.items():
            if self.training.epochs < strategy.least_epochs:
                raise ValueError(
                    f"training.epochs: found {self.training.epochs}, but strategy {name!r} needs at least "
                    f"{strategy.least_epochs}, so that every part of its schedule begins"
                )
        return self

    def main_head(self, heads: Iterable[str]) -> str:
        """The head that is selected and compared by: that of ``selection.metric``, else :func:`primary_head`."""
        head = self.selection.metric.rpartition("/")[0]
        return primary_head(heads) if head == "auto" else head

    def selected(self, heads: Iterable[str]) -> str:
        """``head/metric`` that is maximised on validation, with the head's own name."""
        return f"{self.main_head(heads)}/{self.selection.metric.rpartition('/')[2]}"

    @property
    def folds(self) -> tuple[int | None, ...]:
        """The folds of the cross-validation; (None,) where there is none."""
        count = folds_of(self.data)
        return (None,) if count is None else tuple(range(count))

    @property
    def race_rounds(self) -> tuple[str, int]:
        """What the rounds of a race are, ``folds`` or else ``seeds``, and how many there are."""
        return ("seeds", len(self.seeds)) if self.folds == (None,) else ("folds", len(self.folds))

    @property
    def analyses_trials(self) -> bool:
        """Whether each trial is analysed in full."""
        return (self.analysis.trials or ("full" if self.folds == (None,) else "light")) == "full"

    def trials(self) -> tuple[TrialId, ...]:
        """All trials of the grid, in the order of its tables: strategy by strategy."""
        return tuple(
            TrialId(strategy, seed, fold) for strategy in self.strategies for seed in self.seeds for fold in self.folds
        )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as an experiment file would hold them (defaults written out)."""
        plain = self.model_dump(mode="json", exclude={"strategies"})
        plain["strategies"] = {name: strategy.to_mapping() for name, strategy in self.strategies.items()}
        return plain


def load_experiment(path: Path | str, overrides: Mapping[str, Any] | None = None) -> ExperimentSpec:
    """Read and validate an experiment file.

    ``overrides`` replaces values by dotted key (``{"training.epochs": 3, "data.path": "x"}``);
    ``strategies`` there chooses: names of the experiment or of the catalogue to what was given with each (None:
    nothing), see :func:`imbalance_lab.strategies.language.catalogue.read_choice`. ``folds`` there cross-validates,
    whatever way to split the file names; its seed and strata stay.

    Raises
    ------
    InputError
        If the file is missing or not YAML, or a key or value is wrong; names file and key.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such experiment file")
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    raw = read_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise InputError(f"{path}: found {type(raw).__name__} at the top, expected a mapping of keys")
    return parse_experiment(raw, where=str(path), overrides=overrides, folder=path.parent)


def parse_experiment(
    raw: Mapping[str, Any], *, where: str, overrides: Mapping[str, Any] | None = None, folder: Path | None = None
) -> ExperimentSpec:
    """Validate a mapping; ``where`` names its origin in errors. See :func:`load_experiment`.

    The code of ``model.factory`` is looked for in ``folder``, then in the working directory, then where Python looks.
    """
    content: dict[str, Any] = {key: dict(v) if isinstance(v, dict) else v for key, v in raw.items()}
    chosen: Mapping[str, Any] | None = None
    for key, value in (overrides or {}).items():
        if key == "strategies":
            chosen = dict(value)
            continue
        if key == "folds":
            content["data"] = _in_folds(content.get("data"), value)
            continue
        section, _, leaf = key.rpartition(".")
        target = content.setdefault(section, {}) if section else content
        if not isinstance(target, dict):
            raise InputError(f"{where}: key {section!r}: found {target!r}, expected a mapping")
        if key == "data.path" and str(target.get("source")) in WITHOUT_FILE:
            raise InputError(f"{where}: source {target['source']!r} reads no file; found {str(value)!r} as its data")
        target[leaf] = value
    content["strategies"] = _strategies(content.get("strategies"), chosen, where)
    if chosen is not None and content.get("baseline", "cross-entropy") not in content["strategies"]:
        content["baseline"] = next(iter(content["strategies"]))
    try:
        spec = ExperimentSpec.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(error)}") from None
    factory = spec.model.factory
    if factory is None or spec.model.sources:
        return spec
    folders = [*([folder] if folder is not None else []), Path.cwd()]
    return spec.model_copy(
        update={"model": spec.model.model_copy(update={"sources": _sources(factory, folders, where)})}
    )


def _sources(factory: str, folders: list[Path], where: str) -> dict[str, str]:
    try:
        return collect_sources(factory, folders)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _in_folds(data: Any, folds: Any) -> Any:
    """The ``data:`` section with a split in folds; a section that is no mapping is told of when it is validated."""
    if not isinstance(data, dict):
        return data
    split = data.get("split")
    kept = {key: split[key] for key in ("seed", "stratify") if key in split} if isinstance(split, dict) else {}
    return {**data, "split": {**kept, "folds": folds}}


def _strategies(section: Any, choice: Mapping[str, Any] | None, where: str) -> dict[str, StrategySpec]:
    if not isinstance(section, dict):
        raise InputError(f"{where}: key 'strategies': found {section!r}, expected a mapping of name to strategy")
    section = {str(name): value for name, value in section.items()}
    if choice is not None:
        section = chosen_strategies(choice, section, where)
    for name in section:
        try:
            check_name(str(name))
        except ValueError as error:
            raise InputError(f"{where}: key 'strategies': found the name {name!r}: {error}; {NAME_RULE}") from None
    folded: dict[str, str] = {}
    for name in map(str, section):
        other = folded.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            raise InputError(
                f"{where}: key 'strategies': found {other!r} and {name!r}, which some file systems take for one; "
                "names must differ in more than case"
            )
    return {name: parse_strategy(name, {} if value is None else value, where=where) for name, value in section.items()}


def _sentence(error: ValidationError) -> str:
    """The first fault of a pydantic error as one sentence: key, what was found, what is allowed."""
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in fault["loc"])
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_near(fault['loc'])}{tail}"
    if fault["type"] == "missing":
        return f"key {key!r} is missing{tail}"
    message = fault["msg"].removeprefix("Value error, ")
    found = "" if fault["type"] == "value_error" else f"found {_short(fault['input'])}; "
    return f"key {key!r}: {found}{message}{tail}" if key else f"{message}{tail}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _near(location: tuple[int | str, ...]) -> str:
    """The keys that are allowed beside a wrong one, the nearest first."""
    model: Any = ExperimentSpec
    for part in location[:-1]:
        fields = getattr(model, "model_fields", {})
        model = fields[part].annotation if part in fields else model
    allowed = sorted(getattr(model, "model_fields", {}))
    if not allowed:
        return ""
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    return (f"; did you mean {close[0]!r}?" if close else ";") + f" allowed are {', '.join(allowed)}"
