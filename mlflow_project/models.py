"""Logging of models."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import mlflow
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType
from mlflow.utils import environment

import imbalance_lab
from imbalance_lab.data.coding import Coding
from imbalance_lab.data.dataset import SequenceDataset
from imbalance_lab.errors import InputError
from imbalance_lab.learners.all_learners import read_model
from imbalance_lab.learners.stored import StoredModel, files_digest
from imbalance_lab.models.factory_code import reachable
from imbalance_lab.serving import UNKNOWN
from mlflow_project.tracking import RunLogger, origin_of, skipping_gone

MODEL_NAME = "model"

MODEL_DIGEST = "model.digest"
"""Tag of a run: digest of the files of its model, see :func:`imbalance_lab.learners.stored.files_digest`."""

_SERVED = ("imbalance_lab.learners.all_learners", "imbalance_lab.serving")  # what serving_model.py imports

_REQUIREMENTS = ("mlflow", "torch", "numpy", "pydantic", "pandas", "scipy", "scikit-learn")
_STEPS = 8
"""Rows of the example of a model that reads recordings; MLflow writes it twice."""
_TYPES = {"double": DataType.double, "boolean": DataType.boolean}


def log_model(logger: RunLogger, folder: Path, example: Any, params: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Log the model of ``folder`` as a pyfunc model of a run that goes on; returns its id, and tags for the run.

    The files are those of ``mlflow.pyfunc.save_model``. ``mlflow.pyfunc.log_model`` would begin and end the run, ask
    for the history of each of its metrics and load the model once more to score the example.

    Parameters
    ----------
    folder : as a learner saves it
    example : a few raw rows or windows, see :func:`example_of`
    params : parameters of the logged model, beside those of the run
    """
    client, stored, digest = logger.client, read_model(folder), files_digest(folder)
    foreign = bool(stored.model.packages) or any(folder.rglob("*.py"))  # code that may import any of the library
    run = client.get_run(logger.run_id)
    with tempfile.TemporaryDirectory() as temporary:
        package = packed(Path(temporary), whole=foreign)
        with logger.store.writing():
            model = client.create_logged_model(
                run.info.experiment_id,
                MODEL_NAME,
                source_run_id=logger.run_id,
                tags=origin_of(run),
                params={name: str(value) for name, value in {**params, **run.data.params}.items()},
            )
        with _pins_unchecked():
            mlflow.pyfunc.save_model(
                path=str(Path(temporary, "model")),
                mlflow_model=Model(
                    artifact_path=model.artifact_location,
                    model_uuid=model.model_id,
                    run_id=logger.run_id,
                    model_id=model.model_id,
                ),
                python_model=str(Path(__file__).with_name("serving_model.py")),
                # Not as ``code_paths``: MLflow puts those before what is installed, and writes each of 200 files.
                artifacts={"model": str(folder), "package": str(package)},
                model_config={"digest": digest, "package": sha256(package.read_bytes()).hexdigest()},
                signature=ModelSignature(inputs=Schema(_inputs(stored)), outputs=Schema(_outputs(stored))),
                input_example=example,
                pip_requirements=requirements((*_REQUIREMENTS, *stored.model.packages)),
            )
        client.log_model_artifacts(model.model_id, str(Path(temporary, "model")))
    with logger.store.writing():
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        client.log_outputs(logger.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id), {MODEL_DIGEST: digest}


@contextmanager
def _pins_unchecked() -> Iterator[None]:
    """Within the block MLflow does not compare the pins of a model with what is installed: they were read from it.

    For that it would look through the files of every installed package, a quarter of a second in each process. Where
    its function has another name, it does.
    """
    name = "warn_dependency_requirement_mismatches"
    check = vars(environment).get(name)
    if check is None:
        yield
        return
    setattr(environment, name, lambda _: None)
    try:
        yield
    finally:
        setattr(environment, name, check)


def packed(folder: Path, *, whole: bool) -> Path:
    """The library as one archive in ``folder``, for environments that have it not; equal code, equal bytes.

    Not ``whole``: what :mod:`mlflow_project.serving_model` imports, and what these modules import.
    """
    archive = folder / "imbalance_lab.zip"
    archive.write_bytes(_archive(whole))
    return archive


@lru_cache
def _archive(whole: bool) -> bytes:
    package = Path(imbalance_lab.__file__).parent
    root, buffer = package.parent, BytesIO()
    files = (p for p in package.rglob("*") if p.is_file() and p.suffix != ".md" and "__pycache__" not in p.parts)
    names = [p.relative_to(root).as_posix() for p in files] if whole else reachable(root, _SERVED, named=named_by_lines)
    with ZipFile(buffer, "w", ZIP_DEFLATED) as file:
        for name in sorted(names):
            file.writestr(ZipInfo(name), (root / name).read_bytes(), ZIP_DEFLATED)
    return buffer.getvalue()


def named_by_lines(text: str, *_: object) -> Iterator[str]:
    """What the library's own modules import of it, a tenth of the work of ``named_by_grammar``.

    They do so by ``from`` and by whole names, so that lines are enough.
    """
    for parent, names in _IMPORT.findall(_FOR_TYPES.sub("", text)):
        yield parent
        yield from (f"{parent}.{name}" for name in re.findall(r"\w+", names))


_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?: .*\n|\n)+", re.MULTILINE)
_IMPORT = re.compile(rf"^ *from ({imbalance_lab.__name__}[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


def model_of(client: MlflowClient, run: Run) -> LoggedModel:
    """The model of a trial's last start.

    A trial that was killed after its model was logged has logged another since: MLflow lists the deleted one
    among the run's outputs all the same.

    Raises
    ------
    InputError
        If the run has no whole model.
    """
    whole = [model for model in logged_models(client, run) if model.status == LoggedModelStatus.READY]
    if not whole:
        raise InputError(
            f"run {run.info.run_id!r} holds no model: it trained none, did not come to its end, or it was deleted"
        )
    return max(whole, key=lambda model: model.creation_timestamp)


def logged_models(client: MlflowClient, run: Run) -> list[LoggedModel]:
    """The models of a run that were not deleted, those among them that a kill left half logged."""
    named = [output.model_id for output in (run.outputs.model_outputs if run.outputs else ())]
    begun = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    found = {model.model_id: model for model in begun}
    for model_id in named:
        if model_id not in found:  # a model that another run began
            with skipping_gone():
                found[model_id] = client.get_logged_model(model_id)
    return list(found.values())


def _inputs(stored: StoredModel) -> list[ColSpec | TensorSpec]:
    """Columns of the file where the model reads rows, arrays of windows otherwise."""
    coding = stored.coding
    if coding.rows:
        named = [name for name in (coding.rows.recording, coding.rows.order) if name is not None]
        further = [ColSpec(AnyType(), name, required=False) for name in named]
        return [*further, *(ColSpec(_column_type(coding, name), name) for name in coding.columns)]
    if coding.types:
        return [ColSpec(_column_type(coding, name), name) for name in coding.columns]
    shape = (-1, stored.steps)
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(np.float64), (*shape, len(coding.channels)), "continuous")
    ]
    if coding.categorical_channels:
        kind = np.dtype(np.float64 if _numeric(coding) else np.str_)
        inputs.append(TensorSpec(kind, (*shape, len(coding.categorical_channels)), "categorical"))
    return inputs


def _column_type(coding: Coding, name: str) -> Any:
    """MLflow's type of a column; "any" where the type that pandas reads depends on the batch.

    MLflow refuses 64-bit integers for ``double`` and floats for ``long``, and whole numbers are read
    as either, depending on whether one is missing in the batch.
    """
    kind = coding.types.get(name)
    if name in coding.categorical_channels and kind != "boolean":
        texts = coding.categories[coding.categorical_channels.index(name)]
        return AnyType() if _all_numbers(texts) or {*texts} <= {"True", "False"} else DataType.string
    return _TYPES.get(kind or "", AnyType())


def _numeric(coding: Coding) -> bool:
    return all(_all_numbers(texts) for texts in coding.categories)


def _all_numbers(texts: Sequence[str]) -> bool:
    try:
        return all(np.isfinite(float(text)) for text in texts)
    except ValueError:
        return False


def _outputs(stored: StoredModel) -> list[ColSpec | TensorSpec]:
    outputs: list[ColSpec | TensorSpec] = []
    for head, classes in stored.heads.items():
        shape = (-1, stored.answered)
        outputs.append(TensorSpec(np.dtype(str), shape, head))
        outputs.append(TensorSpec(np.dtype(np.float32), (*shape, len(classes)), f"{head}_probabilities"))
    if stored.coding.categorical_channels:
        outputs.append(TensorSpec(np.dtype(np.int64), (-1,), UNKNOWN))
    return outputs


def example_of(dataset: SequenceDataset, rows: Any) -> Any:
    """The sequences at ``rows`` as a model's user would send them: rows of the file, or windows in its units."""
    coding = dataset.coding
    columns = coding.decode(dataset.continuous[rows], dataset.categorical[rows])
    if coding.rows:
        import pandas as pd

        real = dataset.unit_position[rows] >= 0
        shown = {name: values[real][:_STEPS] for name, values in columns.items()}
        if coding.rows.recording is not None:
            names = np.broadcast_to(dataset.groups[rows][:, None], real.shape)
            shown = {coding.rows.recording: names[real][:_STEPS], **shown}
        return pd.DataFrame(shown).infer_objects()
    if coding.types:
        import pandas as pd

        return pd.DataFrame({name: values[:, 0] for name, values in columns.items()}).infer_objects()
    windows = [np.nan_to_num(columns[name]) for name in coding.channels]
    shape = (*dataset.continuous[rows].shape[:2], 0)
    batch = {"continuous": np.stack(windows, axis=-1) if windows else np.zeros(shape)}
    if coding.categorical_channels:
        texts = np.stack([columns[name] for name in coding.categorical_channels], axis=-1)
        batch["categorical"] = texts.astype(np.float64) if _numeric(coding) else texts.astype(np.str_)
    return batch


@lru_cache
def requirements(packages: tuple[str, ...] = _REQUIREMENTS) -> list[str]:
    """Pins of what a logged model needs, without local build tags (``+cpu``)."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in packages]
