"""What a method is called, and that its record in results.json gives it back."""

from __future__ import annotations

import json

import pytest

from deft_lightning.common.method import Method


@pytest.mark.parametrize(
    ("method", "label", "is_deft", "is_ablation"),
    [
        (Method("beta-VAE"), "beta-VAE", False, False),
        (Method("beta-VAE", 1, 4), "beta-VAE, piecewise", False, True),  # Fig. 10
        (Method("beta-VAE", 2, 1), "beta-VAE, 2 groups", False, True),  # Fig. 11
        (Method("beta-VAE", 4, 4), "DEFT", True, False),
        (Method("FactorVAE"), "FactorVAE", False, False),
        (Method("FactorVAE", 1, 4), "FactorVAE, piecewise", False, True),
        (Method("FactorVAE", 4, 1), "FactorVAE, 4 groups", False, True),
        (Method("FactorVAE", 4, 4), "DEFT (FactorVAE)", True, False),
        (Method("DEFT (TC)"), "DEFT (TC)", False, False),
        (Method("DEFT (TC)", 4, 4), "DEFT (TC)", True, False),
        (Method("beta-VAE", 4, 4, ["frozen", "Adam reset"]), "DEFT, frozen, Adam reset", True, True),
        (Method("FactorVAE", 4, 4, ["prior"]), "DEFT (FactorVAE), prior", True, True),
        (Method("beta-VAE", 1, 1, ["frozen"]), "beta-VAE", False, False),  # one group has no inactive ones
        (Method("beta-VAE", 4, 4, ["frozen"], name="ours"), "ours", True, False),
        (Method("beta-VAE", 1, 4, name="ours"), "ours", False, False),
        (Method("beta-VAE", 4, 4, likelihood="Gaussian sigma 0.1"), "DEFT, Gaussian sigma 0.1", True, False),
        (Method("beta-VAE", likelihood="continuous Bernoulli"), "beta-VAE, continuous Bernoulli", False, False),
        (Method("beta-VAE", 4, 4, ["frozen"], likelihood="X"), "DEFT, frozen, X", True, True),
        (Method("beta-VAE", 4, 4, likelihood="X", name="ours"), "ours, X", True, False),
    ],
)
def test_label_and_record(method: Method, label: str, is_deft: bool, is_ablation: bool) -> None:
    assert (method.label, method.is_deft, method.is_ablation) == (label, is_deft, is_ablation)
    again = Method.of_record(json.loads(json.dumps(method.record())))
    assert again.record() == method.record()
    assert (again.label, again.is_deft, again.is_ablation) == (label, is_deft, is_ablation)


def test_absent_and_null_fields_of_a_record_have_their_defaults() -> None:
    assert Method.of_record({"objective": "beta-VAE"}) == Method("beta-VAE")
    assert Method.of_record({"objective": "beta-VAE", "groups": None, "name": None}) == Method("beta-VAE")
    assert Method.of_record({}).label == "unknown"
