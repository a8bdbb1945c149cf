"""What a run is that has not recorded a choice."""

from __future__ import annotations

from deft_lightning.common import defaults

ADAM = {"name": "adam", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0}


def test_absent_choices_and_absent_fields_are_those_of_conf() -> None:
    whole = {"networks": {"name": "burgess"}, "likelihood": {"name": "bernoulli"}, "optimizer": ADAM}
    assert defaults.completed({}) == whole
    assert defaults.completed({"lr": 1, "optimizer": {"name": "adam"}, "likelihood": None}) == {"lr": 1, **whole}


def test_what_is_recorded_stays() -> None:
    recorded = {
        "networks": {"name": "my_lab:Net", "width": 3},
        "likelihood": {"name": "gaussian", "sigma": 0.3},
        "optimizer": {**ADAM, "eps": 1e-6},
    }
    assert defaults.completed(recorded) == recorded
