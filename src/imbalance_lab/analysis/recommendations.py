"""What to do next, why, and which strategy would test it: the rules of the analyses over their findings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imbalance_lab.analysis import cross_head
from imbalance_lab.analysis.analyses import ANALYSES
from imbalance_lab.analysis.cross_head import CrossHead
from imbalance_lab.analysis.record import Advice, Rule
from imbalance_lab.analysis.results import HeadAnalysis

MAX_EVIDENCE = 10

RULES: tuple[Rule[Any], ...] = (*(rule for record in ANALYSES for rule in record.rules), *cross_head.RULES)


@dataclass(frozen=True)
class Recommendation:
    """One thing to do.

    Attributes
    ----------
    priority : 1 is the most urgent
    category : of its rule
    issue, action, effect : what was seen, with its numbers; what to do; what should change if it works
    evidence : the rows that fired the rule, at most ten
    threshold : the rule, in words with its number
    strategy : catalogue name of the strategy that would test it; "" where none of the catalogue does, or all were tried
    head : the head it is about, "" for all
    tried : strategies that would also have tested it, and were tried already
    rule : name of the rule that fired
    """

    priority: int
    category: str
    issue: str
    action: str
    effect: str
    evidence: tuple[Mapping[str, Any], ...]
    threshold: str
    strategy: str
    head: str = ""
    tried: tuple[str, ...] = ()
    rule: str = ""


def _was_tried(strategy: str, tried: Collection[str]) -> bool:
    """An experiment names its strategies freely (``focal-2``); the catalogue name inside is what counts."""
    plain = strategy.replace("-", "")
    return any(plain in name.lower().replace("-", "").replace("_", "") for name in tried)


def recommendation(
    rule: Rule[Any], advice: Advice, head: str, tried: Collection[str] = (), unfit: Collection[str] = ()
) -> Recommendation:
    """What a rule's advice on a head comes to; see :func:`recommend`."""
    done = tuple(name for name in rule.strategies if _was_tried(name, tried))
    left = [name for name in rule.strategies if name not in done and name not in unfit]
    exhausted = f" Already tried: {', '.join(done)}; more data is what remains." if done and not left else ""
    rows = advice.evidence.head(MAX_EVIDENCE).to_dict("records")
    return Recommendation(
        rule.priority,
        rule.category,
        advice.issue,
        advice.action + exhausted,
        advice.effect,
        tuple({str(key): value for key, value in row.items()} for row in rows),
        advice.threshold,
        left[0] if left else "",
        head,
        done,
        rule.name,
    )


def recommend(
    heads: Mapping[str, HeadAnalysis],
    cross: CrossHead,
    tried: Collection[str] = (),
    unfit: Collection[str] = (),
) -> tuple[Recommendation, ...]:
    """Recommendations of all rules, the most urgent first; rules of analyses that were not computed are silent.

    Parameters
    ----------
    tried : names of the strategies that the same experiment already ran; none of them is recommended again
    unfit : catalogue names that the experiment cannot take (a schedule of more phases than epochs)
    """

    def found() -> Iterator[tuple[Rule[Any], Advice | None, str]]:
        for name, head in heads.items():
            for record in ANALYSES:
                if record.name in head.results:
                    for rule in record.rules:
                        yield rule, rule.find(head.results[record.name], head.results), name
        for rule in cross_head.RULES:
            yield rule, rule.find(cross, {}), ""

    made = [recommendation(rule, advice, head, tried, unfit) for rule, advice, head in found() if advice is not None]
    return tuple(sorted(made, key=lambda r: r.priority))
