"""A change to a run as settings: what they say of it, and what they have no word for."""

from __future__ import annotations

from typing import Any

import pytest

from chainrule.cli.repair import repair
from chainrule.diagnose.pasted import pasted
from chainrule.diagnose.setup import Setup
from chainrule.diagnose.task import task_of
from chainrule.runs import job
from chainrule.runs.config import Settings
from chainrule.runs.start import start


def setup(**given: Any) -> tuple[Setup, Settings]:
    settings = Settings(data="iris", **{"epochs": 20, "hidden": (16, 8), **given})
    it = start(job.read(settings), settings)
    task = task_of(it.loss, it.y, 3)
    return (
        Setup(it.model, it.X, it.y, it.loss, it.optimizer, 20, it.settings.batch_size, 0, task),
        it.settings,
    )


@pytest.mark.parametrize(
    ("given", "code", "found", "unsaid"),
    [
        ({}, "epochs = 80", {"epochs": 80}, 0),
        ({}, "batch_size = 8", {"batch_size": 8}, 0),
        ({}, "batch_size = None", {"batch_size": 120}, 0),
        ({}, "optimizer.lr = 0.5", {"lr": 0.5, "schedule": "constant"}, 0),
        ({"schedule": "constant"}, "optimizer.lr = 0.5", {"lr": 0.5}, 0),
        ({}, "f = optimizer.lr\noptimizer.lr = lambda k: 30 * f(k)", {"lr": 0.09}, 0),
        ({}, "optimizer.lr = optim.steps(0.1, 5)", {}, 1),
        ({}, "optimizer.clip_norm = 1.0", {"clip_norm": 1.0}, 0),
        ({"ema": 0.9}, "optimizer.clip_norm = 1.0", {"clip_norm": 1.0}, 0),
        ({"weight_decay": 0.5}, "optimizer.weight_decay = 0.0", {"weight_decay": 0.0}, 0),
        ({"optimizer": "sgd", "momentum": 0.99}, "optimizer.momentum = 0.0", {"momentum": None}, 0),
        ({}, "optimizer.eps = 1e-3", {}, 1),
        ({}, "optimizer = optim.SGD(lr=0.1, momentum=0.9)",
         {"optimizer": "sgd", "lr": 0.1, "schedule": "constant", "momentum": 0.9}, 0),
        ({}, "X = X / 2", {}, 1),
        ({}, "y = 2 - y", {}, 1),
        ({}, "loss = losses.nll", {}, 1),
        ({}, "model = nn.Sequential(*list(model)[:4], nn.Linear(8, 3), nn.Softmax())", {}, 1),
        ({}, "parts = list(model)\nparts[1] = nn.Tanh()\nmodel = nn.Sequential(*parts)",
         {"activation": ("tanh", "relu"), "init": "he_uniform"}, 0),
        ({}, "parts = list(model)\nparts[1] = nn.LeakyReLU(0.3)\nmodel = nn.Sequential(*parts)",
         {}, 1),
        ({}, "parts = list(model)\nparts[0] = nn.Linear(4, 64)\nparts[2] = nn.Linear(64, 64)\n"
         "parts[4] = nn.Linear(64, 3)\nmodel = nn.Sequential(*parts)", {"hidden": (64, 64)}, 0),
        ({"hidden": ()}, "model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3))",
         {"hidden": (32,), "activation": "tanh"}, 0),
        ({"batch_norm": True}, "model = nn.Sequential(*[model[k] for k in (0, 2, 3, 5, 6)])",
         {"batch_norm": False}, 0),
        ({"dropout": 0.5}, "parts = list(model)\nparts[2] = parts[5] = nn.Dropout(0.1)\n"
         "model = nn.Sequential(*parts)", {"dropout": 0.1}, 0),
        ({"init": "lecun_normal"}, "p = dict(model.named_parameters())\n"
         "for name in ('0.weight', '2.weight'):\n"
         "    drawn = nn.initializers.he_normal(np.random.default_rng(1), p[name].shape[::-1])\n"
         "    p[name].rebind(drawn.T)", {"init": "he_normal"}, 0),
        ({}, "p = dict(model.named_parameters())['0.weight']\n"
         "p.rebind(nn.initializers.he_uniform(np.random.default_rng(1), (4, 16)).T)", {}, 1),
        ({}, "p = dict(model.named_parameters())['0.bias']\np.rebind(np.ones(16))", {}, 1),
    ],
)  # fmt: skip
def test_what_settings_say_of_a_change(
    given: dict[str, Any], code: str, found: dict[str, Any], unsaid: int
) -> None:
    before, settings = setup(**given)
    repaired = repair(before, pasted("it", code).apply(before), settings)
    assert {name: getattr(repaired.settings, name) for name in repaired.changed} == found
    assert len(repaired.unsaid) == unsaid
