"""The token vocabulary of the legacy preprocessing: its file, its word rules, its four targets.

The rules are those of the public preprocessing of the gcode_fingerprinting recordings (mode
"hybrid"). They are kept as they are, faults included, so that the audit can be held against them:
the sign of a number is lost (every negative one is ``NUM_X_-``), a word whose number ends in a
point (``Z0.``) is a token of its own, and a target that does not apply is written as 0.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from imbalance_lab.atomic import read_json
from imbalance_lab.data.files import existing
from imbalance_lab.errors import InputError

PRECISION: Mapping[str, float] = MappingProxyType(
    {**dict.fromkeys("XYZABCPQ", 1e-3), **dict.fromkeys("IJKRE", 1e-4), "F": 1.0, "S": 10.0}
)
SPECIAL = ("PAD", "BOS", "EOS", "UNK", "MASK")
TYPES = ("special", "command", "parameter", "numeric")
_WORD = re.compile(r"([A-Z]+)([-+]?\d*\.?\d+(?:E[-+]?\d+)?)?$")
_NUMBER = re.compile(r"NUM_[^_]*_.*", re.DOTALL)
_MOST_DIGITS = 4
_LEAST = 1e-12  # of a precision: steps of a smaller one cannot be counted
_ADDRESSES = frozenset("XYZABCIJKFSRPQE")


@dataclass(frozen=True)
class Vocabulary:
    """Token to id, with the quantisation of its numbers."""

    tokens: Mapping[str, int]
    precision: Mapping[str, float] = field(default_factory=lambda: PRECISION)
    bucket_digits: int = 1

    @property
    def commands(self) -> tuple[str, ...]:
        """Command words (G and M), sorted as text: their place is the legacy command id."""
        return tuple(sorted(t for t in self.tokens if re.fullmatch(r"[GM]\d+", t)))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Words of one or two characters that are no commands, sorted: ``X`` ..., and ``T2``."""
        commands = set(self.commands)
        return tuple(sorted(t for t in self.tokens if len(t) <= 2 and t not in commands))


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary JSON: an object with ``vocab`` (token to id) and optionally ``config``.

    Raises
    ------
    InputError
        If the file is missing, is not JSON, has no ``vocab``, or an id is no integer.
    """
    existing(path, "vocabulary")
    try:
        content = read_json(path)
    except OSError as error:
        raise InputError(f"vocabulary {path} cannot be read: {error}") from error
    tokens = content.get("vocab") if isinstance(content, dict) else None
    if not isinstance(tokens, dict) or not tokens:
        raise InputError(f"vocabulary {path} has no key 'vocab' that maps tokens to ids")
    for token, number in tokens.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 63:
            raise InputError(f"vocabulary {path}, token {token!r}: id {number!r} is not an integer from 0 to 2^63 - 1")
        if token.startswith("NUM_") and not _NUMBER.fullmatch(token):
            raise InputError(
                f"vocabulary {path}, token {token!r}: a number is called NUM_LETTER_DIGITS, as in NUM_X_12"
            )
    config = content.get("config") if isinstance(content.get("config"), dict) else {}
    precision = config.get("precision", dict(PRECISION))
    digits = config.get("bucket_digits", 1)
    if not isinstance(precision, dict) or not all(_is_step(v) for v in precision.values()):
        raise InputError(
            f"vocabulary {path}, key config.precision: expected a mapping of letters to numbers from {_LEAST:g}"
        )
    if digits is not None and (type(digits) is not int or not 1 <= digits <= _MOST_DIGITS):
        raise InputError(
            f"vocabulary {path}, key config.bucket_digits: found {digits!r}, expected an integer from 1 to "
            f"{_MOST_DIGITS} (a number has 10^digits classes)"
        )
    return Vocabulary(tokens, precision, digits or 1)


def _is_step(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _LEAST <= value < math.inf


def build_vocabulary(texts: Mapping[str, int]) -> Vocabulary:
    """The vocabulary that the same rules give for these blocks (text to number of rows).

    Tokens are numbered by falling frequency after the special ones.
    """
    counts: Counter[str] = Counter()
    empty = Vocabulary({})
    for text, rows in texts.items():
        for token in tokenize(text, empty):
            counts[token] += rows
    ordered = [*SPECIAL, *(t for t, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0])))]
    return Vocabulary({token: i for i, token in enumerate(ordered)})


def tokenize(text: str, vocabulary: Vocabulary) -> list[str]:
    """Tokens of one block by the legacy rules: ``G1 X-0.1254`` is ``G1``, ``X``, ``NUM_X_-``."""
    body = re.sub(r"\(.*?\)|;.*?$", "", text)
    body = re.sub(r"(^|\s)N\d+\b", " ", body, flags=re.IGNORECASE).strip().upper()
    tokens: list[str] = []
    for word in body.split():
        match = _WORD.match(word)
        if match is None or match.group(2) is None:
            tokens.append(word)
            continue
        letter, number = match.groups()
        if letter in {"G", "M", "T"}:
            whole = float(number).is_integer()
            tokens += [f"{letter}{int(float(number))}"] if whole else [letter, f"NUM_{letter}_{number}"]
        elif letter in _ADDRESSES:
            tokens += [letter, f"NUM_{letter}_{_bucket(letter, float(number), vocabulary)}"]
        else:
            tokens.append(word)
    return tokens


def _bucket(letter: str, number: float, vocabulary: Vocabulary) -> str:
    """First digits of the quantised number; of a negative one the sign takes the place of a digit."""
    steps = round(number / vocabulary.precision.get(letter, 1e-3))
    digits = vocabulary.bucket_digits
    if steps < 0:
        return "-" + str(-steps).zfill(digits - 1)[: digits - 1]
    return str(steps).zfill(digits)[:digits]


def legacy_targets(token: str, vocabulary: Vocabulary) -> tuple[int, int, int, int]:
    """(type, command, param_type, param_value) of a token; what does not apply is 0."""
    if token not in vocabulary.tokens or token in SPECIAL:
        return 0, 0, 0, 0
    if token in vocabulary.commands:
        return 1, vocabulary.commands.index(token), 0, 0
    parameters = vocabulary.parameters
    if token in parameters:
        return 2, 0, parameters.index(token), 0
    if token.startswith("NUM_"):
        _, letter, value = token.split("_", 2)
        kind = parameters.index(letter) if letter in parameters else 0
        number = abs(int(value)) if re.fullmatch(r"-?\d+", value) else 0
        return 3, 0, kind, min(number, 10**vocabulary.bucket_digits - 1)
    return 0, 0, 0, 0


def unknown_share(tokens: Sequence[Sequence[str]], rows: Sequence[int], vocabulary: Vocabulary) -> float:
    """Share of tokens, weighted by rows, that the vocabulary does not hold."""
    total = sum(len(t) * n for t, n in zip(tokens, rows, strict=True))
    unknown = sum(n for t, n in zip(tokens, rows, strict=True) for token in t if token not in vocabulary.tokens)
    return unknown / total if total else 0.0
