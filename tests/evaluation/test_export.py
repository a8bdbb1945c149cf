"""Exported programs compute what the model does, and need no deft_lightning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from deft_lightning import DEFT, ContinuousBernoulli, DeftError, Groups
from deft_lightning import export as command
from deft_lightning.evaluation import export as exporting
from deft_lightning.training import run
from tests.conftest import MakeOnce
from tests.helpers import BARE, TinySprites, compose_run, tiny_module

pytestmark = pytest.mark.slow  # traces networks

onnx = pytest.importorskip("onnx", reason="pip install 'deft-lightning[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'deft-lightning[export]'")

WITHOUT_PACKAGE = """
import sys

class NoPackage:
    def find_spec(name, path=None, target=None):
        assert name.split(".")[0] != "deft_lightning", name

sys.meta_path.insert(0, NoPackage)
import torch
folder = sys.argv[1]
encoder, decoder = (torch.export.load(f"{folder}/{name}.pt2").module() for name in ("encoder", "decoder"))
images = torch.load(f"{folder}/images.pt")
mean, log_variance = encoder(images)
torch.save((mean, log_variance, decoder(mean)), f"{folder}/outputs.pt")
"""


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return TinySprites().images(torch.arange(0, 96, 8), torch.Generator())


@pytest.fixture(scope="module")
def model() -> DEFT:
    torch.manual_seed(0)
    model = tiny_module()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def folder(make_once: MakeOnce) -> Path:
    """A finished run of four stages."""
    return make_once("to_export", lambda folder: run.train(*compose_run(folder, *BARE)))


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_the_exported_decoder_gives_the_mean_of_the_likelihood(kind: str, images: torch.Tensor, tmp_path: Path) -> None:
    """For the continuous Bernoulli it is not the sigmoid: checked when exported, and different from it."""
    model = tiny_module(likelihood=ContinuousBernoulli()).eval()
    model.decoder.deconvolutions[-1].bias.data.fill_(3.0)
    _, differences = exporting.export(model, images, tmp_path, kind, {})
    assert differences.pixel < 1e-4
    assert float((model.reconstruct(images) - torch.sigmoid(model(images).parameters)).abs().max()) > 0.1


def test_onnx_programs_compute_what_the_model_does_for_any_batch(
    model: DEFT, images: torch.Tensor, tmp_path: Path
) -> None:
    model.latent_names[3] = "posX"
    (encoder, decoder), differences = exporting.export(model, images, tmp_path, "onnx", {"run_id": "1234"})
    assert max(differences) < 1e-4
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    for count in (1, 5, 12):
        mean, log_variance = session.run(None, {"images": images[:count].numpy()})
        posterior = model.encode(images[:count])
        torch.testing.assert_close(torch.from_numpy(mean), posterior.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(log_variance), posterior.log_variance, rtol=1e-4, atol=1e-5)
        (pixels,) = onnxruntime.InferenceSession(decoder).run(None, {"latents": mean})
        torch.testing.assert_close(torch.from_numpy(pixels), model.decode(mean), rtol=1e-4, atol=1e-5)
    content = onnx.load(encoder)
    metadata = {entry.key: entry.value for entry in content.metadata_props}
    assert metadata["run_id"] == "1234"
    assert json.loads(metadata["latent_names"])[3] == "posX"
    assert "divide uint8 images by 255" in metadata["images"]
    operators = {node.domain for node in content.graph.node} | {opset.domain for opset in content.opset_import}
    assert operators <= {"", "ai.onnx"}  # plain operators only


def test_torch_programs_load_without_the_package(model: DEFT, images: torch.Tensor, tmp_path: Path) -> None:
    exporting.export(model, images, tmp_path, "torch", {"run_id": "1234"})
    torch.save(images[:3], tmp_path / "images.pt")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    mean, log_variance, pixels = torch.load(tmp_path / "outputs.pt")
    expected = model.encode(images[:3])
    torch.testing.assert_close(mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_variance, expected.log_variance, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pixels, model.decode(expected.mean), rtol=1e-4, atol=1e-5)
    extra = {"about.json": ""}
    torch.export.load(tmp_path / "encoder.pt2", extra_files=extra)
    assert json.loads(extra["about.json"])["run_id"] == "1234"


def test_latents_of_groups_that_have_not_begun_stay_at_the_prior(
    model: DEFT, images: torch.Tensor, tmp_path: Path
) -> None:
    waiting = DEFT(
        Groups([2, 2], inactive="prior"),
        model.schedule.__class__([1, 1], [2, 1]),
        model.objective,
        image_shape=(1, 64, 64),
    )
    (encoder, _), _ = exporting.export(waiting, images, tmp_path, "torch", {})
    mean, log_variance = torch.export.load(encoder).module()(images[:2])
    assert torch.equal(mean[:, 2:], torch.zeros(2, 2))
    assert torch.equal(log_variance[:, 2:], torch.zeros(2, 2))


class Noisy(nn.Module):
    """A decoder whose output is different each time."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(latents) + torch.rand_like(latents).mean()


def test_programs_that_differ_are_not_written_and_old_ones_stay(images: torch.Tensor, tmp_path: Path) -> None:
    model = tiny_module().eval()
    model.decoder = Noisy(model.decoder)
    (tmp_path / "encoder.pt2").write_text("old")
    with pytest.raises(DeftError, match="the exported programs differ from the model by"):
        exporting.export(model, images, tmp_path, "torch", {})
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.pt2"]
    assert (tmp_path / "encoder.pt2").read_text() == "old"


class Untraceable(nn.Module):
    """A decoder whose path depends on its values."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 1, 64, 64) if float(latents.sum()) > 0 else torch.ones(len(latents), 1, 64, 64)


def test_networks_that_cannot_be_traced_are_one_sentence(images: torch.Tensor, tmp_path: Path) -> None:
    model = tiny_module().eval()
    model.decoder = Untraceable()
    with pytest.raises(DeftError, match="the decoder cannot be exported"):
        exporting.export(model, images, tmp_path, "torch", {})


def test_the_command_exports_a_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(folder), "--to", "onnx", "--stage", "2", "--out", str(tmp_path), "--trust"]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path}/encoder.onnx" in printed
    assert "Largest differences from the model on 64 images: means" in printed
    assert command.main([str(tmp_path), "--to", "onnx"]) == 1
    assert "there is no run in" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    model: DEFT, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeftError, match=r"pip install 'deft-lightning\[export\]'"):
        exporting.export(model, images, tmp_path, "onnx", {})
