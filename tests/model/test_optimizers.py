"""Optimisers: the steps they take under Algorithm 1, and which arguments they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deft_lightning import Adam, AdamW, DeftError, FactorDataModule
from deft_lightning.common.conf import config_folder
from deft_lightning.model.optimizers import OptimizerFactory
from tests.helpers import TinySprites, plain_trainer, tiny_module


def test_by_default_it_is_the_adam_of_torch() -> None:
    module = tiny_module(lr=1e-3)
    optimizer, plain = module.configure_optimizers(), torch.optim.Adam([torch.zeros(1)], fused=True)
    assert type(optimizer) is torch.optim.Adam
    for group in optimizer.param_groups:
        assert group["lr"] == 1e-3
        assert {key: group[key] for key in plain.defaults if key != "lr"} == {
            key: value for key, value in plain.defaults.items() if key != "lr"
        }


def test_the_first_step_of_adamw_is_adams_and_a_decay_at_the_rate_of_each_group(tmp_path: Path) -> None:
    """Both from the same weights on the same batch: AdamW moves weight w further by lr x weight_decay x w."""
    before = dict(tiny_module(seed=3).named_parameters())
    after = {}
    for kind in (Adam, AdamW):
        module = tiny_module(seed=3, lr=1e-3, optimizer=kind(weight_decay=0.0 if kind is Adam else 0.5))
        plain_trainer(tmp_path, max_steps=1).fit(module, FactorDataModule(TinySprites(), batch_size=8))
        after[kind] = dict(module.named_parameters())
    for name, weight in before.items():
        inactive = name.startswith("encoder.groups.") and not name.startswith("encoder.groups.0.")
        rate = 1e-4 if inactive else 1e-3  # gamma is 0.1
        decayed = after[Adam][name] - after[AdamW][name]
        torch.testing.assert_close(decayed, rate * 0.5 * weight, rtol=1e-2, atol=1e-7, msg=name)


@pytest.mark.parametrize("file", sorted(path.stem for path in (config_folder() / "optimizer").glob("*.yaml")))
def test_its_file_in_conf_has_the_defaults_of_the_class(file: str) -> None:
    made = instantiate(OmegaConf.load(config_folder() / "optimizer" / f"{file}.yaml"), _convert_="all")
    assert isinstance(made, OptimizerFactory)
    assert vars(made) == vars(type(made)())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"betas": [0.9]}, r"optimizer.betas is \[0.9\]: give two numbers from 0 to below 1"),
        ({"betas": "0.9"}, r"optimizer.betas is '0.9': give two"),
        ({"betas": [0.9, 1]}, r"optimizer.betas is \[0.9, 1\]: give two"),
        ({"eps": -1}, "optimizer.eps is -1: give a number from 0 up"),
        ({"weight_decay": "a bit"}, "optimizer.weight_decay is 'a bit': give a number from 0 up"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence):
        AdamW(**arguments)
