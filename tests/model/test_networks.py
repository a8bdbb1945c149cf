"""The networks of section 6: shapes, parameter counts, and that joining the encoder groups changes no number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deft_lightning import DEFT, BetaVAE, Constant, Groups
from deft_lightning.common.errors import DeftError
from deft_lightning.model.networks import Burgess, Encoders, Locatello, Networks, Posterior, Residual
from deft_lightning.model.networks.residual import ResidualBlock


@pytest.mark.parametrize("latents", [[10], [5, 5], [3, 3, 2, 2], [3, 3, 3, 3], [2, 2, 2, 2, 2]])
@pytest.mark.parametrize("networks", [Burgess(), Locatello(), Residual(8)])
def test_groups_run_as_one_equal_groups_run_one_by_one(latents: list[int], networks: Networks) -> None:
    torch.manual_seed(0)
    encoder = networks.encoders((3, 64, 64), latents).double()
    images = torch.rand(5, 3, 64, 64, dtype=torch.float64)
    together = encoder(images)
    one_by_one = [group(images) for group in encoder.groups]
    assert together.mean.shape == (5, sum(latents))
    torch.testing.assert_close(together.mean, torch.cat([p.mean for p in one_by_one], dim=1))
    torch.testing.assert_close(together.log_variance, torch.cat([p.log_variance for p in one_by_one], dim=1))


def test_a_group_has_no_influence_on_the_latents_of_another() -> None:
    encoder = Burgess().encoders((1, 64, 64), [3, 3, 2, 2])
    posterior = encoder(torch.rand(4, 1, 64, 64))
    posterior.mean[:, 3:6].sum().backward()  # the latents of group 1
    for index, group in enumerate(encoder.groups):
        moved = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in group.parameters())
        assert moved == (index == 1)


def test_single_encoder_is_the_one_of_the_paper() -> None:
    """4 convolutions of 32 channels, 4x4; FC 256; FC 20: parameters counted by hand."""
    convolutions = (1 * 32 * 16 + 32) + 3 * (32 * 32 * 16 + 32)
    fully_connected = (512 * 256 + 256) + (256 * 20 + 20)
    assert sum(p.numel() for p in Burgess().encoders((1, 64, 64), [10]).parameters()) == convolutions + fully_connected


def test_channels_are_divided_among_the_groups_and_the_fully_connected_layer_is_not() -> None:
    for networks, channels in ((Burgess(), [8, 8, 8, 8]), (Locatello(), [8, 8, 16, 16])):
        for group in networks.encoders((3, 64, 64), [3, 3, 2, 2]).groups:
            assert [c.out_channels for c in group.convolutions] == channels
            assert group.hidden.out_features == 256


def test_decoder_mirrors_the_encoder() -> None:
    logits = Burgess().decoder((3, 64, 64), 10)(torch.randn(2, 10))
    assert logits.shape == (2, 3, 64, 64)
    wide = Locatello().decoder((1, 64, 64), 10)
    assert [d.in_channels for d in wide.deconvolutions] == [64, 64, 32, 32]


def test_kl_of_two_gaussians_by_its_closed_form() -> None:
    mean, log_variance = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(Posterior(mean, log_variance).kl(), torch.distributions.kl_divergence(q, p))


def test_sample_has_the_moments_of_the_posterior() -> None:
    posterior = Posterior(torch.tensor([[2.0, -1.0]]), torch.log(torch.tensor([[0.25, 4.0]])))
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    sample = posterior.sample(noise)
    torch.testing.assert_close(sample.mean(0), torch.tensor([2.0, -1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(sample.std(0), torch.tensor([0.5, 2.0]), atol=0.02, rtol=0)


def test_more_groups_than_channels_is_one_sentence() -> None:
    for refuse in (lambda: Burgess().check(33, 64), lambda: Burgess().encoders((1, 64, 64), [1] * 33)):
        with pytest.raises(DeftError, match=r"33 groups, more than the 32 channels"):
            refuse()


@pytest.mark.parametrize("networks", [Burgess(), Locatello()])
@pytest.mark.parametrize(("size", "layers"), [(32, 3), (64, 4), (128, 5)])
def test_other_sizes_have_a_layer_more_or_less_beside_the_image(networks, size: int, layers: int) -> None:
    shape = (3, size, size)
    encoder, decoder = networks.encoders(shape, [2, 2]), networks.decoder(shape, 4)
    images = torch.rand(2, *shape)
    assert encoder(images).mean.shape == (2, 4)
    assert decoder(torch.zeros(2, 4)).shape == (2, *shape)
    widths = [layer.weight.shape[0] for layer in encoder.groups[0].convolutions]
    assert len(widths) == len(decoder.deconvolutions) == layers
    assert widths[-3:] == [c // 2 for c in networks.encoder_channels[-3:]]  # beside the latents nothing changes
    assert [layer.weight.shape[0] for layer in decoder.deconvolutions][:3] == list(networks.decoder_channels[:3])


def test_images_that_are_not_square_or_of_another_size_are_one_sentence() -> None:
    with pytest.raises(DeftError, match="images of 64 x 32 do not fit the networks: crop or resize them to a square"):
        Burgess().encoders((1, 64, 32), [2])
    with pytest.raises(DeftError, match=r"images of 48 x 48 do not fit .* 32, 64, 128: resize them"):
        Burgess().decoder((1, 48, 48), 2)


# --- Residual networks ---


@pytest.mark.parametrize("size", [32, 64, 128])
def test_residual_networks_take_three_sizes_in_both_halves(size: int) -> None:
    shape, networks = (3, size, size), Residual(8)
    encoder, decoder = networks.encoders(shape, [2, 3]), networks.decoder(shape, 5)
    images = torch.rand(2, *shape)
    posterior = encoder(images)
    assert type(encoder) is Encoders  # the joined call is a matter of the convolutional networks
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 5)
    assert decoder(posterior.mean).shape == (2, *shape)
    encoder(images).mean[:, :2].sum().backward()  # the latents of the first group
    reached = [any(p.grad is not None and bool(p.grad.any()) for p in g.parameters()) for g in encoder.groups]
    assert reached == [True, False]


def test_residual_blocks_begin_as_the_identity_and_learn() -> None:
    model = DEFT(Groups([3, 2]), Constant(pressure=1, epochs=1), BetaVAE(), Residual(8), image_shape=(1, 32, 32))
    blocks = [module for module in model.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == 3 * 3  # three halvings, for two encoders and the decoder
    x = torch.randn(2, blocks[-1].first.in_channels, 4, 4)
    assert torch.equal(blocks[-1](x), x)
    model.compute_loss(torch.rand(4, 1, 32, 32), torch.randn(4, 5), torch.tensor(1.0)).total.backward()
    assert all(float(block.second.weight.grad.abs().max()) > 0 for block in blocks)


def test_residual_networks_refuse_other_sizes_and_more_groups_than_channels() -> None:
    with pytest.raises(DeftError, match=r"images of 48 x 48 do not fit .* 32, 64, 128: resize them"):
        Residual().check(1, 48)
    with pytest.raises(DeftError, match="crop or resize them to a square"):
        Residual().decoder((1, 64, 32), 2)
    with pytest.raises(DeftError, match="5 groups, more than the 4 channels"):
        Residual(4).encoders((1, 64, 64), [1] * 5)
    with pytest.raises(DeftError, match=r"networks.channels is 0: give a whole number from 1 up"):
        Residual(0)


# --- Networks of one's own ---


class Halves(nn.Module):
    """An encoder of a single linear layer."""

    def __init__(self, pixels: int, latents: int) -> None:
        super().__init__()
        self.layer = nn.Linear(pixels, 2 * latents)

    def forward(self, images: torch.Tensor) -> Posterior:
        return Posterior(*self.layer(images.flatten(1)).chunk(2, dim=1))


class Linear(Networks):
    """Linear networks for images of any shape; `fault` breaks the contract."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def encoder(self, image_shape: tuple[int, int, int], latents: int, groups: int) -> nn.Module:
        if self.fault == "tensor":
            return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 2 * latents))
        pixels = math.prod(image_shape) + (self.fault == "pixels")
        return Halves(pixels, latents + (self.fault == "latents"))

    def decoder(self, image_shape: tuple[int, int, int], latents: int) -> nn.Module:
        shape = (1, *image_shape[1:]) if self.fault == "channels" else image_shape
        return nn.Sequential(nn.Linear(latents, math.prod(shape)), nn.Unflatten(1, shape))

    def initialise(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.25)


def model(networks: Networks, image_shape: tuple[int, int, int] = (3, 6, 10)) -> DEFT:
    return DEFT(Groups([3, 2]), Constant(pressure=1, epochs=1), BetaVAE(), networks, image_shape=image_shape)


def test_a_family_of_ones_own_needs_two_methods() -> None:
    """Any shape of image, one encoder a group, weights of its own, and a checkpoint that names it."""
    own = model(Linear())
    images = torch.rand(4, 3, 6, 10)
    assert own.encode(images).mean.shape == (4, 5)
    assert own.reconstruct(images).shape == images.shape
    assert [group["name"] for group in own.configure_optimizers().param_groups] == ["encoder/0", "encoder/1", "decoder"]
    assert {float(value) for p in own.parameters() for value in p.detach().unique()} == {0.25}
    assert own.training  # the check of its shapes leaves it as it was


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "tensor",
            r"the encoder of networks .*:Linear gives the shapes \[\[2, 6\]\] for images \[2, 3, 6, 10\]: return mean",
        ),
        (
            "latents",
            r"gives the shapes \[\[2, 4\], \[2, 4\]\] .*: return mean and log variance of its 3 latents, \[B, 3\] each",
        ),
        (
            "pixels",
            r"encoder .* fails for the shape \[2, 3, 6, 10\] \(RuntimeError: mat1 .*, test_networks.py line \d+\)",
        ),
        ("channels", r"decoder .* gives the shapes \[\[2, 1, 6, 10\]\] for latents \[2, 5\]: .* \[B, 3, 6, 10\]"),
    ],
)
def test_what_breaks_the_contract_is_one_sentence(fault: str, sentence: str) -> None:
    with pytest.raises(DeftError, match=sentence) as caught:
        model(Linear(fault))
    assert "\n" not in str(caught.value)
