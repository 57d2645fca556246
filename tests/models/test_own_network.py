"""A network of the team's own: built from its file, trained, resumed, interpreted, served without that file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from training_cases import config, selection, tiny

from imbalance_lab.errors import InputError
from imbalance_lab.interpretation.interpreting import interpret
from imbalance_lab.learners.all_learners import prepare_learner, read_model
from imbalance_lab.learners.network_learner import NetworkLearner
from imbalance_lab.models.model_config import ModelConfig
from imbalance_lab.models.own_network import OwnNetwork
from imbalance_lab.predictions import primary_head
from imbalance_lab.run.binding import check_spec_against_data
from imbalance_lab.run.trial import run_trial
from imbalance_lab.spec import ExperimentSpec, load_experiment
from imbalance_lab.strategies.bind import bind
from imbalance_lab.strategies.language.catalogue import catalogue
from imbalance_lab.strategies.language.parse import parse_strategy

EXAMPLES = Path(__file__).parents[2] / "examples" / "own_network"
LINEAR = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, facts, width=8):
        super().__init__()
        self.facts = facts
        self.body = nn.Linear(len(facts.channels), width)
        self.layers = nn.ModuleList(nn.Linear(width, k) for k in facts.classes.values())

    def forward(self, continuous, categorical):
        hidden = torch.tanh(self.body(continuous))
        return {head: layer(hidden) for head, layer in zip(self.facts.classes, self.layers)}

def build(facts, width=8):
    return Plain(facts, width)
"""


def model_of(folder: Path, text: str, factory: str = "own_code:build", **options: Any) -> ModelConfig:
    """The model section of an experiment file beside a file ``own_code.py``."""
    (folder / "own_code.py").write_text(text, encoding="utf-8")
    return spec_of(folder, factory, options).model


def spec_of(folder: Path, factory: str, options: dict[str, Any], **more: Any) -> ExperimentSpec:
    content = {
        "name": "own",
        "data": {"source": "simulated"},
        "model": {"factory": factory, "options": options},
        "training": {"epochs": 2, "batch_size": 8, "device": "cpu"},
        "interpret": {"budget": "off"},
        "strategies": {"cross-entropy": {}},
        **more,
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_experiment(folder / "experiment.yaml")


def learner_of(model: ModelConfig, text: str = "{}", **changes: Any) -> NetworkLearner:
    """A strategy on the tiny data with a network of one's own."""
    loaded = tiny()
    strategy = parse_strategy("s", yaml.safe_load(text), where="test")
    heads = loaded.dataset.heads
    targets = {h: t[loaded.splits.train] for h, t in loaded.dataset.targets.items()}
    bound = bind(strategy, heads=heads, targets=targets, primary=primary_head(heads), seed=0)
    made = prepare_learner(loaded, strategy, bound, model, config(**{"epochs": 2, **changes}), 0)
    assert isinstance(made, NetworkLearner)
    return made


def example(name: str) -> ModelConfig:
    return load_experiment(EXAMPLES / f"{name}.yaml").model


def scores(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    data = tiny().dataset
    with torch.inference_mode():
        found = model.eval()(torch.from_numpy(data.continuous), torch.from_numpy(data.categorical))
    return {head: z.numpy() for head, z in found.items()}


@pytest.mark.parametrize("name", ["gru", "pair"])
def test_what_was_trained_is_served_where_its_file_is_not(name: str, tmp_path: Path) -> None:
    model = example(name)
    learner = learner_of(model)
    before = scores(learner.predictor)
    epochs = list(learner.train(selection()))
    after = scores(learner.predictor)
    assert len(epochs) == 2
    assert any((before[h] != after[h]).any() for h in before)
    learner.save(tmp_path / "network", {})
    assert sorted(p.name for p in (tmp_path / "network" / "code").iterdir()) == sorted(model.sources)
    np.savez(tmp_path / "scores.npz", **after)
    d = tiny().dataset
    np.savez(tmp_path / "inputs.npz", continuous=d.continuous, categorical=d.categorical)
    code = (
        "import sys, numpy as np, torch; from pathlib import Path\n"
        "from imbalance_lab.learners.all_learners import read_model\n"
        "given, wanted = np.load('inputs.npz'), np.load('scores.npz')\n"
        "model = read_model(Path('network')).model\n"
        "found = model(torch.from_numpy(given['continuous']), torch.from_numpy(given['categorical']))\n"
        "for h in wanted: np.testing.assert_allclose(found[h].detach().numpy(), wanted[h], atol=1e-6)\n"
        "assert not [m for m in sys.modules if m in ('gru_network', 'pair_network', 'team_parts')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_imports_within_the_folder_go_along_and_nothing_else() -> None:
    assert set(example("pair").sources) == {"pair_network.py", "team_parts.py"}
    assert set(example("gru").sources) == {"gru_network.py"}


def test_two_versions_of_a_file_serve_in_one_process(tmp_path: Path) -> None:
    models = []
    for i, text in enumerate((LINEAR, LINEAR.replace("torch.tanh", "torch.relu"))):
        learner = learner_of(model_of(tmp_path, text))
        learner.save(tmp_path / str(i), {})
        models.append((scores(learner.predictor), tmp_path / str(i)))
    assert any((models[0][0][h] != models[1][0][h]).any() for h in models[0][0])
    for own, folder in reversed(models):
        again = scores(read_model(folder).model)
        assert all((own[h] == again[h]).all() for h in own)


def test_packages_and_relative_imports(tmp_path: Path) -> None:
    package = tmp_path / "team" / "nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "plain.py").write_text("from ..parts import Plain\n\ndef build(facts):\n    return Plain(facts)\n")
    (tmp_path / "team" / "parts.py").write_text(LINEAR, encoding="utf-8")
    model = spec_of(tmp_path, "team.nets.plain:build", {}).model
    assert set(model.sources) == {"team/nets/__init__.py", "team/nets/plain.py", "team/parts.py"}
    assert scores(learner_of(model).predictor)["command"].shape == (48, 6, 3)


def _works_alone(name: str) -> bool:
    spec = parse_strategy(name, catalogue()[name])
    return spec.table is None


NEEDY = {"ldam", "ldam-drw", "influence-balanced", "crt", "lws", "cosine", "tau-norm"}


@pytest.mark.parametrize("name", [name for name in catalogue() if _works_alone(name)])
def test_every_strategy_trains_or_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(dict(catalogue()[name]))
    if name in NEEDY:
        with pytest.raises(InputError, match=r"strategy 's', key .*no method features and no method last_layer"):
            learner_of(example("pair"), text)
    else:
        assert list(learner_of(example("pair"), text).train(selection()))[-1].number == 2
    learner = learner_of(example("gru"), text)
    epochs = list(learner.train(selection()))
    learner.after_training("macro_f1")
    assert epochs[-1].number == 2
    assert np.isfinite(epochs[-1].loss)
    learner.save(tmp_path, {})
    own, again = scores(learner.predictor), scores(read_model(tmp_path).model)
    for head in own:
        np.testing.assert_array_equal(own[head], again[head])


def test_a_frozen_phase_leaves_the_body_and_what_the_team_froze_stays(tmp_path: Path) -> None:
    learner = learner_of(example("gru"), "schedule: {crt: {start: 0.5}}", epochs=2)
    body = learner.network.module.gru.weight_ih_l0  # type: ignore[union-attr]
    states, layers = [], []
    for _ in learner.train(selection()):
        states.append(body.detach().clone())
        layers.append(learner.network.classifier("command").weight.detach().clone())
    assert (states[0] == states[1]).all()
    assert (layers[0] != layers[1]).any()

    text = LINEAR.replace("self.layers =", "self.body.weight.requires_grad_(False)\n        self.layers =")
    learner = learner_of(model_of(tmp_path, text))
    assert isinstance(learner.network, OwnNetwork)
    before = learner.network.module.body.weight.detach().clone()  # type: ignore[union-attr]
    list(learner.train(selection()))
    assert (learner.network.module.body.weight == before).all()  # type: ignore[union-attr]


def test_a_training_is_taken_up_again_bit_by_bit_and_not_with_other_code(tmp_path: Path) -> None:
    model = example("gru")
    whole = learner_of(model, epochs=3)
    list(whole.train(selection()))
    halves = learner_of(model, epochs=3)
    steps = halves.train(selection(), tmp_path / "c.pt", "f")
    next(steps)
    del steps
    again = learner_of(model, epochs=3)
    epochs = list(again.train(selection(), tmp_path / "c.pt", "f"))
    assert len(epochs) == 3
    own, found = scores(whole.predictor), scores(again.predictor)
    assert all((own[h] == found[h]).all() for h in own)

    (tmp_path / "own_code.py").write_text(LINEAR, encoding="utf-8")
    first = spec_of(tmp_path, "own_code:build", {})
    run_trial(first, "cross-entropy", 0, data=tiny(), folder=tmp_path / "work")
    (tmp_path / "own_code.py").write_text(LINEAR.replace("tanh", "relu"), encoding="utf-8")
    second = spec_of(tmp_path, "own_code:build", {})
    assert first.model.sources != second.model.sources
    assert first.model.described()["code"] != second.model.described()["code"]
    assert first.to_mapping()["model"] != second.to_mapping()["model"]  # what the checkpoint's fingerprint holds


def test_interpretation_has_gradients_and_embeddings_where_there_are_features() -> None:
    for name, embedded in (("gru", True), ("pair", False)):
        learner = learner_of(example(name))
        list(learner.train(selection()))
        found = interpret(learner.predictor, learner.loaded)
        assert found.attribution is not None
        assert len(found.permutation.table)
        assert (found.embeddings is not None) == embedded
        assert ("embeddings" in found.absent) == (not embedded)
        # A randomised network attributes otherwise: its weights were really drawn afresh.
        assert (found.attribution.sanity["correlation"] < 0.999).all()


def replaced(old: str, new: str) -> str:
    assert old in LINEAR
    return LINEAR.replace(old, new)


BAD = {
    "does not import": ("import no_such_module_anywhere\n" + LINEAR, "which does not import: ModuleNotFoundError"),
    "raises": (
        replaced("return Plain(facts, width)", "raise KeyError('gap')"),
        r"raised KeyError: 'gap' \(own_code.py",
    ),
    "no module": (replaced("return Plain(facts, width)", "return 3"), "returned int, expected a torch.nn.Module"),
    "no parameters": (replaced("return Plain(facts, width)", "return nn.ReLU()"), "no parameter that can be trained"),
    "unknown head": (
        replaced("zip(self.facts.classes, self.layers)}", "zip(['command', 'colour'], self.layers)}"),
        "unknown head 'colour'; the data have command, side",
    ),
    "head missing": (
        replaced("zip(self.facts.classes, self.layers)}", "zip(['command'], self.layers)}"),
        "no logits of head 'side'; the data have command, side",
    ),
    "shape": (
        replaced("hidden = torch.tanh(self.body(continuous))", "hidden = torch.tanh(self.body(continuous))[:, -1]"),
        r"logits of head 'command' of shape \(2, 3\), expected \(B, L, classes\) = \(2, 6, 3\)",
    ),
    "integers": (replaced("layer(hidden) for", "layer(hidden).argmax(-1) for"), "as torch.int64, expected a tensor"),
    "nan": (replaced("layer(hidden) for", "layer(hidden) / 0 * 0 for"), "that are NaN or infinite on the first rows"),
    "nan in training": (
        replaced("hidden = torch.tanh(self.body(continuous))", "hidden = self.body(continuous) / (not self.training)"),
        "in training mode .* gives logits that are NaN or infinite",
    ),
    "nan in a gradient": (
        replaced("torch.tanh(self.body(continuous))", "(self.body(continuous) * 0).abs().sqrt()"),
        "in training mode .* gives gradients that are NaN or infinite",
    ),
    "detached": (replaced("layer(hidden) for", "layer(hidden).detach() for"), "have no gradient"),
    "raises in forward": (
        replaced("self.body(continuous)", "self.body(categorical)"),
        "forward of .* raised on inputs",
    ),
}


@pytest.mark.parametrize("case", [c for c in BAD if BAD[c][1]])
def test_bad_code_is_one_sentence_before_training(case: str, tmp_path: Path) -> None:
    text, sentence = BAD[case]
    assert sentence is not None
    (tmp_path / "own_code.py").write_text(text, encoding="utf-8")
    spec = spec_of(tmp_path, "own_code:build", {})
    with pytest.raises(InputError, match=f"model.factory: .*{sentence}") as caught:
        check_spec_against_data(spec, tiny())
    assert "\n" not in str(caught.value)


def test_bad_settings_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "own_code.py").write_text(LINEAR, encoding="utf-8")
    for factory, options, sentence in (
        ("own_code:make", {}, "has no function 'make'; it has build"),
        ("own_code:build", {"widht": 3}, "model.options: found unknown option 'widht'; allowed: width"),
    ):
        with pytest.raises(InputError, match=sentence):
            check_spec_against_data(spec_of(tmp_path, factory, options), tiny())
    (tmp_path / "broken.py").write_text("def build(:\n", encoding="utf-8")
    for factory, sentence in (
        ("nowhere_at_all:build", r"experiment.yaml: model.factory: .*no module 'nowhere_at_all'; looked in "),
        ("broken:build", r"broken.py, line 1: not Python"),
        ("own_code", "expected package.module:function"),
    ):
        with pytest.raises(InputError, match=sentence):
            spec_of(tmp_path, factory, {})
    with pytest.raises(InputError, match="found 'hidden' beside a factory"):
        spec_of(tmp_path, "x:y", {}, model={"factory": "own_code:build", "hidden": 16})
    with pytest.raises(InputError, match="options without a factory"):
        spec_of(tmp_path, "x:y", {}, model={"options": {"width": 16}})


def test_last_layers_that_are_not_those_of_forward_are_refused(tmp_path: Path) -> None:
    text = LINEAR.replace(
        "\ndef build",
        "\n    def features(self, continuous, categorical):\n        return self.body(continuous)\n"
        "\n    def last_layer(self, head):\n        return self.layers[list(self.facts.classes).index(head)]\n"
        "\ndef build",
    )
    with pytest.raises(InputError, match=r"gives other logits of head 'command' than last_layer\('command'\)"):
        learner_of(model_of(tmp_path, text))


def test_probing_changes_nothing(tmp_path: Path) -> None:
    text = LINEAR.replace("torch.tanh(self.body(continuous))", "self.norm(self.body(continuous).transpose(1, 2)).mT")
    text = text.replace("self.body =", "self.norm = nn.BatchNorm1d(width)\n        self.body =")
    learner = learner_of(model_of(tmp_path, text))
    norm = learner.network.module.norm  # type: ignore[union-attr]
    assert int(norm.num_batches_tracked) == 0
    assert all(p.grad is None for p in learner.network.parameters())
