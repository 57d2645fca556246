"""What each source of real data may be told in the ``data:`` section of an experiment file."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

OPERATION_PATTERN = r"^(.+)_\d+$"
"""A recording's operation is the first group: ``face150025_014`` is ``face150025``."""

Fractions = tuple[float, float, float]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""One name or several."""


class _Section(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _sums_to_one(fractions: Fractions) -> Fractions:
    if min(fractions) <= 0:
        raise ValueError(f"fractions {list(fractions)} must all be above 0 (train, val, test)")
    if abs(sum(fractions) - 1.0) > 1e-6:
        raise ValueError(f"fractions {list(fractions)} sum to {sum(fractions):g}, expected 1 (train, val, test)")
    return fractions


class Window(_Section):
    """Rows of a window and the rows between the starts of two training windows."""

    length: int = Field(default=64, ge=1, le=1_000_000)
    stride: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _stride_within_length(self) -> Self:
        if self.stride > self.length:
            raise ValueError(
                f"stride {self.stride} is longer than the window's length {self.length}: "
                f"rows between windows would never be seen; allowed: 1..{self.length}"
            )
        return self


class SplitOptions(_Section):
    """What a split may be told, whatever the source: at most one of ``folds``, ``column`` and ``test``.

    Attributes
    ----------
    folds : parts of a cross-validation; each group is tested in exactly one
    column : column of the words train, val and test
    test : groups that are tested, or the path of a second file of the same source
    val : as ``test``; without it validation is drawn from the groups that are not tested
    all_test : every recording is tested; for data that a trained model is evaluated on
    seed : of everything that is drawn
    """

    folds: int | None = Field(default=None, ge=2)
    column: str | None = None
    test: tuple[str, ...] | str | None = None
    val: tuple[str, ...] | str | None = None
    all_test: bool = False
    seed: int = Field(default=0, ge=0)

    shares: ClassVar[tuple[str, ...]] = ("fractions",)
    """Keys of a split that is drawn, which folds and given splits have no use for."""

    @field_validator("test", "val", mode="before")
    @classmethod
    def _names_are_text(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if not value:
            raise ValueError("the list names no recording; name at least one, or leave the key out")
        return tuple(str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in value)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("folds", "column", "test") if getattr(self, name) is not None]
        given += ["all_test"] if self.all_test else []
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different ways to split; allowed: one of them")
        if self.val is not None and self.test is None:
            raise ValueError("val is given without test; give test as well, a list of names or a file")
        # the defaults are no contradiction: options that were written out in full are read again
        drawn = [name for name in self.shares if getattr(self, name) != type(self).model_fields[name].default]
        if given and drawn:
            raise ValueError(
                f"{given[0]} and {drawn[0]} are different ways to split; allowed: one of them "
                "(validation is drawn from what is not tested, in the proportion of the default)"
            )
        both = sorted(set(self.names.get(1, ())) & set(self.names.get(2, ())))
        if both:
            raise ValueError(f"{both[0]!r} is under test and under val; allowed: one of them")
        return self

    @property
    def files(self) -> dict[int, str]:
        """Side (1 val, 2 test) to the path of the file that holds it."""
        return {side: value for side, value in ((1, self.val), (2, self.test)) if isinstance(value, str)}

    @property
    def names(self) -> dict[int, tuple[str, ...]]:
        """Side (1 val, 2 test) to the groups that are named for it."""
        return {side: value for side, value in ((1, self.val), (2, self.test)) if isinstance(value, tuple)}

    @property
    def drawn(self) -> bool:
        """Whether train, val and test are drawn by their shares."""
        return self.folds is None and self.column is None and self.test is None and not self.all_test


class FractionSplit(SplitOptions):
    """A split that is drawn by the shares of train, val and test."""

    fractions: Fractions = (0.7, 0.15, 0.15)

    _sum = field_validator("fractions")(_sums_to_one)

    @property
    def val_share(self) -> float:
        """Share of validation in what is not tested."""
        return self.fractions[1] / (self.fractions[0] + self.fractions[1])


class RecordingSplit(FractionSplit):
    """How recordings fall into train, val and test.

    ``by: sequence`` shuffles the *windows*, as the legacy preprocessing did: windows of one
    recording then lie on both sides, which is a leak. It exists so that the leak can be shown.
    """

    by: Literal["recording", "sequence"] = "recording"
    stratify: Literal["operation", "none"] = "operation"

    @model_validator(mode="after")
    def _shuffled_by_fractions(self) -> Self:
        if self.by == "sequence" and not self.drawn:
            raise ValueError("by: sequence shuffles windows by fractions; folds, column and test need by: recording")
        return self


class GroupSplit(FractionSplit):
    """How the groups of sequence files and tables fall into train, val and test."""

    stratify: Literal["target", "none"] = "target"


Unlabelled = Literal["error", "mask"]
"""What is done with a position that has no label: refuse the data, or never score it."""


class EncodingOptions(_Section):
    """How a recordings table becomes windows and targets; shared by real and simulated recordings."""

    task: Literal["steps", "tokens"] = "steps"
    window: Window = Window()
    exclude: tuple[str, ...] = ("line", "pos*", "feed", "momo")
    encoding: Literal["masked", "legacy"] = "masked"
    labels: Literal["controller", "text"] = "controller"
    vocabulary: str | None = None
    min_coverage: float = Field(default=0.9, ge=0.0, le=1.0)
    operation: str = OPERATION_PATTERN
    unlabelled: Unlabelled = "mask"
    split: RecordingSplit = RecordingSplit()

    @model_validator(mode="before")
    @classmethod
    def _legacy_split(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("encoding") == "legacy" and "split" not in values:
            return {**values, "split": {"by": "sequence", "stratify": "none"}}
        return values

    @field_validator("operation")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if groups < 1:
            raise ValueError(
                f"{pattern!r} has no group; the first group names the operation, as in {OPERATION_PATTERN!r}"
            )
        return pattern

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.encoding == "legacy" and self.task != "tokens":
            raise ValueError("encoding 'legacy' describes token targets only; set task: tokens, or encoding: masked")
        if self.vocabulary is not None and self.task != "tokens":
            raise ValueError("vocabulary is used by task 'tokens' only; remove it, or set task: tokens")
        return self


class RecordingsOptions(EncodingOptions):
    """Real recordings: a folder of ``*_aligned.csv``, or one file with a ``recording`` column."""

    source: Literal["recordings"]
    path: str


class SequencesOptions(_Section):
    """Processed sequences: one ``.npz``/``.pt`` file, or a folder with train, val and test files.

    ``target`` are arrays of labels that are not called ``<head>_targets``; each is a head of its name.
    """

    source: Literal["sequences"]
    path: str
    target: Names = ()
    vocabulary: str | None = None
    encoding: Literal["masked", "legacy"] = "masked"
    unlabelled: Unlabelled = "error"
    split: GroupSplit = GroupSplit()


_Point = Literal[".", ","]
_GroupSign = Literal[",", ".", " ", "'"]


class TableOptions(_Section):
    """Any table (CSV or Parquet) with one or more target columns.

    ``missing`` are words that mean "no value", beside the empty cell. ``decimal``, ``thousands``,
    ``separator`` and ``encoding`` tell how a text file writes numbers and cells; the first two are a
    sign, or columns with their signs where a file has several notations. ``timestamps`` are
    columns that become seconds. ``target_kind: classes`` takes the numbers of a target as classes
    although they look like a measured quantity.
    """

    source: Literal["table"]
    path: str
    target: Names
    target_kind: Literal["auto", "classes"] = "auto"
    group: str | None = None
    categorical: tuple[str, ...] = ()
    timestamps: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    decimal: _Point | dict[str, _Point] = "."
    thousands: _GroupSign | dict[str, _GroupSign] | None = None
    separator: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"
    unlabelled: Unlabelled = "error"
    split: GroupSplit = GroupSplit()

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError(f"encoding {value!r} is unknown; allowed: utf-8, latin-1, cp1252, utf-16 ...") from None
        return value

    @property
    def notation_columns(self) -> tuple[str, ...]:
        """Columns with a notation of their own."""
        own = (given for given in (self.decimal, self.thousands) if isinstance(given, dict))
        return tuple(sorted({name for given in own for name in given}))

    def notation(self, column: str | None = None) -> tuple[str, str | None]:
        """Sign before the fraction and sign between thousands, of a column or of the file."""
        own_point = self.decimal.get(column or "") if isinstance(self.decimal, dict) else None
        own_group = self.thousands.get(column or "") if isinstance(self.thousands, dict) else None
        point = own_point or (self.decimal if isinstance(self.decimal, str) else ".")
        group = own_group or (self.thousands if isinstance(self.thousands, str) else None)
        if point == group and own_point and not own_group:  # the column's own sign is not the one of the file
            return point, None
        if point == group and own_group and not own_point:
            return ("," if group == "." else "."), group
        return point, group

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.target:
            raise ValueError("target names no column; give one column or a list of columns")
        if len(set(self.target)) != len(self.target):
            raise ValueError(f"target {list(self.target)} names a column twice")
        if self.group in self.target:
            raise ValueError(f"column {self.group!r} is both target and group")
        if self.split.column is not None and self.split.column in {*self.target, self.group}:
            raise ValueError(f"column {self.split.column!r} is target or group and split.column as well")
        for name in (None, *self.notation_columns):
            point, group = self.notation(name)
            if point == group:
                of = f" of column {name!r}" if name else ""
                raise ValueError(
                    f"decimal and thousands{of} are both {point!r}; they must differ (in a file of several notations "
                    "name the columns, as in decimal: {width: ','})"
                )
        both = sorted(set(self.timestamps) & {*self.categorical, *self.target})
        if both:
            raise ValueError(f"column {both[0]!r} is under timestamps and under categorical or target")
        return self


class SeriesOptions(_Section):
    """Long tables of time steps: one row per step, the steps of a recording below each other.

    Attributes
    ----------
    path : a ``.csv`` or ``.parquet`` file, a folder of them, or a pattern such as ``logs/2026-*.parquet``
    recording : column that names the recording of a row; without it each file is a recording, by its name
    order : column of numbers or times that must not fall within a recording; never an input
    target : columns with the label of each step
    include, exclude : patterns of the columns that are inputs
    categorical : columns of categories; other text columns are told by what they hold, as in a table
    channel_groups : name to patterns of the channels that are called together
    slices : columns that errors are told by; the value of a window is that of most of its steps
    min_coverage : share of the train recordings that must have a value of a channel
    missing : words that mean "no value", beside the empty cell
    """

    source: Literal["series"]
    path: str
    recording: str | None = None
    order: str | None = None
    target: Names = Field(min_length=1)
    target_kind: Literal["auto", "classes"] = "auto"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    channel_groups: dict[str, tuple[str, ...]] = {}
    slices: tuple[str, ...] = ()
    window: Window = Window()
    min_coverage: float = Field(default=0.9, ge=0.0, le=1.0)
    missing: tuple[str, ...] = ()
    unlabelled: Unlabelled = "mask"
    split: GroupSplit = GroupSplit()

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Key to the columns that it names and that are no inputs by themselves."""
        one = {"recording": self.recording, "order": self.order, "split.column": self.split.column}
        return {
            **{key: (name,) for key, name in one.items() if name},
            "target": self.target,
            "slices": self.slices,
        }

    @model_validator(mode="after")
    def _one_role(self) -> Self:
        seen: dict[str, str] = {}
        for key, names in {**self.roles, "categorical": self.categorical}.items():
            for name in names:
                if name in seen and {seen[name], key} != {"slices", "categorical"}:
                    raise ValueError(f"column {name!r} is under {seen[name]} and under {key}; allowed: one of them")
                seen[name] = key
        return self


class DigitsSplit(SplitOptions):
    """``test_fraction`` of all images is set aside first; val is a share of the *rest*.

    ``test`` and ``val`` are numbers of images in scikit-learn's data set, written with four digits.
    The defaults are scikit-learn's ``train_test_split(test_size=0.3, random_state=42)``.
    """

    test_fraction: float = Field(default=0.3, gt=0.0, lt=1.0)
    val_fraction: float = Field(default=0.15, gt=0.0, lt=1.0)
    seed: int = Field(default=42, ge=0)

    shares: ClassVar[tuple[str, ...]] = ("test_fraction",)

    @property
    def val_share(self) -> float:
        """Share of validation in what is not tested."""
        return self.val_fraction

    @model_validator(mode="after")
    def _no_file(self) -> Self:
        if self.column is not None or self.files:
            raise ValueError("digits come without a file: split takes folds, or test with a list of image numbers")
        return self


class DigitsOptions(_Section):
    """scikit-learn's digits, made long-tailed.

    Class c of K keeps ``n_max * imbalance_ratio ** (-c / (K - 1))`` images (Cui et al. 2019), so
    digit 9 is the rarest; ratio 1 leaves them as they are. ``imbalance_on: train`` leaves the
    test images balanced (the usual benchmark), ``all`` thins them before the split.
    """

    source: Literal["digits"]
    imbalance_ratio: float = Field(default=20.0, ge=1.0)
    imbalance_on: Literal["train", "all"] = "train"
    split: DigitsSplit = DigitsSplit()
