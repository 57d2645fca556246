"""MLflow's page of an experiment, prepared for the question of a grid: which strategy?

MLflow 3.17 keeps the views that were saved in its page as tags of the experiment
(``mlflow.sharedViewState.<key>``: JSON with ``name, createdAt, updatedAt, state``, where ``state`` is ``deflate;`` and
base64 of the zlib-compressed JSON of the page). :func:`save_views` writes such tags; they stand in the menu *Views*
for everyone, and ``?viewStateShareKey=<key>`` opens one. A page that does not know a key of the state ignores it; one
that does not know views at all opens as it always does.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imbalance_lab.names import key

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TAG = "mlflow.sharedViewState."
MAX_TAG = 5000  # characters of a tag's value that every store takes
_MAX_RARE = 6  # classes whose bars fit on one screen

Json = dict[str, Any]


@dataclass(frozen=True)
class GridFacts:
    """What a view is made from.

    Attributes
    ----------
    grid, parent_id : name and run id of the grid
    started : start of the parent run in ms since 1970; with the id it is the key of the view, so that a resumed grid
        replaces its own view and no other
    head : the main head
    rare : its rare classes, the rarest first
    figures : keys of logged images that are shown side by side
    calibrated : whether the trials have probabilities
    role : tag of the runs that are shown; "strategy" in a grid with folds, where each strategy has a run of its own
    """

    grid: str
    parent_id: str
    started: int
    head: str
    rare: tuple[str, ...]
    figures: tuple[str, ...] = ()
    calibrated: bool = True
    role: str = ""

    @property
    def key(self) -> str:
        """Key of the view by run: milliseconds and eight letters or digits, as the page makes them."""
        return f"{self.started}{uuid.uuid5(uuid.NAMESPACE_OID, self.parent_id).hex[:8]}"

    @property
    def filter(self) -> str:
        """MLflow's filter of the runs that are shown."""
        return grid_filter(self.parent_id, self.role)

    def metric(self, name: str) -> str:
        """Key of a test metric of the main head."""
        return f"test/{key(self.head)}/{name}"


def grid_filter(parent_id: str, role: str = "") -> str:
    """MLflow's filter of the child runs of a grid, or of those with this role."""
    children = f"tags.`mlflow.parentRunId` = '{parent_id}'"
    return f"{children} and tags.`role` = '{role}'" if role else children


def view_state(facts: GridFacts) -> Json:
    """State of the page: the trials of one grid, the columns that matter, sections in the order of a meeting."""
    rare = facts.rare[:_MAX_RARE]
    recalls = [facts.metric(f"recall/{key(c)}") for c in rare]
    precisions = [facts.metric(f"precision/{key(c)}") for c in rare]
    main = [facts.metric(m) for m in ("macro_f1", "balanced_accuracy")]
    calibration = [facts.metric("ece"), facts.metric("nll")] if facts.calibrated else []
    over_folds = facts.role == "strategy"  # such a run has no epochs of its own
    spread = [f"{main[0]}/sd_folds"] if over_folds else []
    sections: list[tuple[str, list[Json]]] = [
        ("Which strategy?", [_bar(m) for m in main]),
        ("Recall of the rare classes", [_bar(m) for m in recalls]),
        ("Precision of the rare classes", [_bar(m) for m in precisions]),
        ("Found against false alarms", [_scatter(r, p) for r, p in zip(recalls, precisions, strict=True)]),
        ("Calibration", [_bar(m) for m in calibration]),
        ("Training", [] if over_folds else [_line(m) for m in (f"val/{key(facts.head)}/macro_f1", "train/loss")]),
        ("Confusion", [_images(facts.figures)] if facts.figures else []),
    ]
    kept = [(name, charts) for name, charts in sections if charts]
    columns = [
        "tags.`strategy`",
        "params.`seed`",
        *(f"metrics.`{m}`" for m in (*main, *spread, *recalls, *calibration[:1])),
    ]
    return {
        "searchFilter": facts.filter,
        "orderByKey": f"metrics.`{main[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {c: max(110, 8 * len(c) - 30) for c in columns},  # pixels: headers are read whole
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # sections that the page adds by itself come after these
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": [_section(name) for name, _ in kept],
        "compareRunCharts": [chart | _place(name, chart) for name, charts in kept for chart in charts],
    }


def save_views(client: MlflowClient, experiment_id: str, facts: GridFacts, grouped: bool) -> str:
    """Write the view of a grid (with ``grouped`` also the one by strategy) and return the key that opens the first."""
    by = f"{facts.started}{uuid.uuid5(uuid.NAMESPACE_OID, facts.parent_id + ' by strategy').hex[:8]}"
    client.set_experiment_tag(experiment_id, TAG + facts.key, view_of(facts, by_strategy=False))
    if grouped:
        client.set_experiment_tag(experiment_id, TAG + by, view_of(facts, by_strategy=True))
    return facts.key


def view_of(facts: GridFacts, *, by_strategy: bool) -> str:
    """Value of the tag of a view: at most :data:`MAX_TAG` characters; where it is longer, rare classes are left out."""
    name = f"Which strategy? {facts.grid[:80]}" + (", by strategy" if by_strategy else "")
    while True:
        state = view_state(facts)
        if by_strategy:
            # The page shows the mean over the runs of a group as one row and one bar.
            keys = [{"mode": "tag", "groupByData": "strategy"}]
            state |= {"groupBy": {"aggregateFunction": "average", "groupByKeys": keys}}
        packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode("ascii")
        about = {"name": name, "createdAt": facts.started, "updatedAt": facts.started, "state": f"deflate;{packed}"}
        value = json.dumps(about)
        if len(value) <= MAX_TAG or not facts.rare:
            return value
        facts = replace(facts, rare=facts.rare[: min(len(facts.rare), _MAX_RARE) - 1])


def view_path(experiment_id: str, view: str) -> str:
    """Address of a view within MLflow's page."""
    page = f"#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={view}&compareRunsMode=CHART&workflowType=machine_learning"


def _id(*names: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(names)))


def _section(name: str) -> Json:
    return {
        "uuid": _id(name), "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False,
        "columns": 2, "cardHeight": 300,  # two to a row: the keys of metrics are read whole
    }  # fmt: skip


def _place(section: str, chart: Json) -> Json:
    """What places a chart in a section; equal charts of two sections stay apart."""
    return {
        "uuid": _id(section, json.dumps(chart, sort_keys=True)), "metricSectionId": _id(section),
        "deleted": False, "isGenerated": False,
    }  # fmt: skip


def _bar(metric: str) -> Json:
    return {"type": "BAR", "metricKey": metric, "displayName": _title(metric), "runsCountToCompare": 100}


def _scatter(recall: str, precision: str) -> Json:
    return {
        "type": "SCATTER", "runsCountToCompare": 100, "displayName": f"{_title(recall)} and {_title(precision)}",
        "xaxis": {"key": recall, "type": "METRIC"}, "yaxis": {"key": precision, "type": "METRIC"},
    }  # fmt: skip


def _line(metric: str) -> Json:
    return {
        "type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric], "displayName": metric,
        "runsCountToCompare": 100, "lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear",
        "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [], "range": {},
        "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
    }  # fmt: skip


def _images(keys: tuple[str, ...]) -> Json:
    return {
        "type": "IMAGE", "imageKeys": list(keys), "step": 0, "showRunParams": True, "displayName": "Confusion",
        "runsCountToCompare": 100,
    }  # fmt: skip


def _title(metric: str) -> str:
    """``test/command/recall/G2`` as ``command recall G2``."""
    return " ".join(metric.split("/")[1:]).replace("_", " ")
