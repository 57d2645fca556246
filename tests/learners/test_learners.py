"""Every learner: trained, saved, read back and asked through the protocol alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from strategies.test_wiring import rows, table_trial
from training_cases import selection, tiny, trial_of

from imbalance_lab.learners.all_learners import read_model
from imbalance_lab.learners.protocol import Learner


def learner_of(kind: str) -> Learner:
    if kind == "classical":
        return table_trial("table: plain", rows())
    return trial_of("{}", tiny(), epochs=1)


@pytest.mark.parametrize("kind", ["network", "classical"])
def test_what_is_read_back_gives_the_scores_of_what_was_saved(kind: str, tmp_path) -> None:
    learner = learner_of(kind)
    loaded = learner.loaded
    epochs = list(learner.train(selection(loaded)))
    folder = tmp_path / learner.folder_name
    learner.save(folder, {})
    stored = read_model(folder)
    assert stored.heads == {head: tuple(classes) for head, classes in loaded.dataset.heads.items()}
    assert learner.has_course == math.isfinite(epochs[-1].loss)
    own, test = learner.predictor.eval(), loaded.splits.test
    inputs = [torch.from_numpy(x[test]) for x in (loaded.dataset.continuous, loaded.dataset.categorical)]
    with torch.inference_mode():
        before, after = own(*inputs), stored.model(*inputs)
    for head, classes in loaded.dataset.heads.items():
        assert before[head].shape[-1] == own.n_classes(head) == stored.model.n_classes(head) == len(classes)
        np.testing.assert_array_equal(before[head].numpy(), after[head].numpy())


@pytest.mark.parametrize("kind", ["network", "classical"])
def test_a_model_has_what_it_says(kind: str) -> None:
    learner = learner_of(kind)
    loaded = learner.loaded
    list(learner.train(selection(loaded)))
    model, test = learner.predictor.eval(), loaded.splits.test
    inputs = model.prepare(
        *(torch.from_numpy(x[test]) for x in (loaded.dataset.continuous, loaded.dataset.categorical))
    )
    with torch.inference_mode():
        output = model.run(inputs, attention=True)
    assert model.has_attention == (output.attention is not None)
    assert model.has_features == (output.features.shape[-1] > 0)
    assert (model.as_network is not None) == (kind == "network")
    if model.as_network is not None:
        values = inputs.values.clone().requires_grad_()
        model.as_network.run(inputs._replace(values=values)).logits["command"].sum().backward()
        assert values.grad is not None
        assert (values.grad != 0).any()
