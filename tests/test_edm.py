"""EDM against its closed forms: printed levels, exact denoisers and flows of Gaussians, and the published network."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job
from robustprune.core.randomness import BatchNoise
from robustprune.core.sample_noise import per_sample
from robustprune.core.stage import ImageShape
from robustprune.core.stage_file import write_spec
from robustprune.core.team import Team
from robustprune.generation.generator import GeneratorStage
from robustprune.generation.network import NO_CLASS, Attention, Block, Dropout, build_network
from robustprune.generation.preconditioning import (
    SIGMA_DATA,
    coefficients,
    denoise,
    denoising_losses,
    in_precision,
    loss_weight,
    sigma_of,
)
from robustprune.generation.sampler import Denoiser, churned_level, draw_images, heun, make_churn, sigmas, to_bytes
from robustprune.generation.settings import GeneratorSettings, SamplerSettings
from robustprune.generation.training import GeneratorTraining, averaging_beta, learning_rate
from robustprune.images.pool import open_pool
from robustprune.images.writing import write_pool
from robustprune.networks.weights import load_weights
from robustprune.planning.config import load_config

MakeTraining = Callable[..., tuple[Job, GeneratorStage]]
POOL = "digits-train-0000000000"
SHAPE = (1, 8, 8)
TINY = {"base_channels": 8, "channel_multipliers": (1, 2), "blocks": 1, "dropout": 0.2, "steps": 7, "batch_size": 8}

# The noise levels for N = 18.
PRINTED_SIGMAS = (
    80, 57.59, 40.79, 28.37, 19.35, 12.91, 8.40, 5.32, 3.26, 1.92, 1.088, 0.585, 0.296, 0.1395, 0.0599, 0.0229, 0.0075,
    0.002, 0,
)  # fmt: skip


def test_noise_levels() -> None:
    levels = sigmas(SamplerSettings(steps=18))
    assert levels == pytest.approx(PRINTED_SIGMAS, rel=6e-3)
    assert (levels[0], levels[17], levels[18]) == pytest.approx((80, 0.002, 0), rel=1e-12)
    assert sigmas(SamplerSettings(steps=5, sigma_min=1, sigma_max=9, rho=1)) == pytest.approx((9, 7, 5, 3, 1, 0))


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        (SIGMA_DATA, [0.5, SIGMA_DATA * math.sqrt(0.5), 1 / (SIGMA_DATA * math.sqrt(2)), math.log(0.5) / 4]),
        (1e-6, [1, 1e-6, 2, math.log(1e-6) / 4]),  # D keeps a clean image as it is
        (1e6, [0, 0.5, 1e-6, math.log(1e6) / 4]),  # D is the network's output
    ],
)
def test_preconditioning_at_its_limits(sigma: float, expected: list[float]) -> None:
    found = coefficients(torch.tensor([sigma], dtype=torch.float64))
    assert [float(value) for value in found] == pytest.approx(expected, abs=1e-9)


def test_preconditioning_has_unit_variances() -> None:
    """Karras et al. (2022), appendix B.6: equations 114 and 138, from which the coefficients are derived."""
    sigma = torch.tensor([0.002, 0.1, 0.5, 3.0, 80.0], dtype=torch.float64)
    c_skip, c_out, c_in, _ = coefficients(sigma)
    torch.testing.assert_close(c_in**2 * (SIGMA_DATA**2 + sigma**2), torch.ones_like(sigma))
    target_variance = ((1 - c_skip) ** 2 * SIGMA_DATA**2 + c_skip**2 * sigma**2) / c_out**2
    torch.testing.assert_close(target_variance, torch.ones_like(sigma))
    torch.testing.assert_close(loss_weight(sigma) * c_out**2, torch.ones_like(sigma))


def test_denoiser_is_made_of_network_and_skip() -> None:
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma, labels = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), torch.arange(3)
    seen: list[Tensor] = []

    def network(scaled: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:
        seen.extend([scaled, c_noise, labels])
        return torch.ones_like(scaled)

    result = denoise(network, x, sigma, labels)
    for row, level in enumerate(sigma.tolist()):
        root = math.sqrt(level**2 + 0.25)
        torch.testing.assert_close(result[row], 0.25 / root**2 * x[row] + level * 0.5 / root)
        torch.testing.assert_close(seen[0][row], (x[row] / root).float())
    assert result.dtype == torch.float64
    assert seen[0].dtype == seen[1].dtype == torch.float32
    torch.testing.assert_close(seen[1].double(), sigma.log() / 4, rtol=1e-6, atol=1e-7)
    assert torch.equal(seen[2], labels)


def test_loss_of_a_perfect_network_is_0_and_of_a_silent_one_near_1_a_pixel() -> None:
    source = torch.Generator().manual_seed(0)
    y = SIGMA_DATA * torch.randn(4000, 1, 2, 2, generator=source)
    noise, labels = torch.randn(y.shape, generator=source), torch.zeros(len(y), dtype=torch.int64)
    sigma = sigma_of(torch.randn(len(y), generator=source))
    c_skip, c_out, _, _ = (value.view(-1, 1, 1, 1) for value in coefficients(sigma))
    perfect = (y - c_skip * (y + sigma.view(-1, 1, 1, 1) * noise)) / c_out

    def losses(output: Tensor) -> Tensor:
        return denoising_losses(lambda x, c_noise, labels: output, y, labels, sigma=sigma, noise=noise)

    assert losses(perfect).max() < 1e-6
    assert losses(torch.zeros_like(y)).mean() / 4 == pytest.approx(1, abs=0.05)


def test_loss_by_hand() -> None:
    """One pixel y = 1, noise 2, sigma 0.5: x = 2, D = 1 + F c_out = 1 + 0.3 / sqrt(8) ... the error is 0.3 c_out."""
    y, noise, sigma = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0), torch.tensor([0.5])
    loss = denoising_losses(lambda x, c_noise, labels: 0.3 + 0 * x, y, torch.tensor([0]), sigma=sigma, noise=noise)
    assert loss.item() == pytest.approx(0.3**2)


def test_training_noise_is_log_normal() -> None:
    logs = sigma_of(torch.tensor([-1.0, 0.0, 1.0])).log()
    torch.testing.assert_close(logs, torch.tensor([-2.4, -1.2, 0.0]))


def gaussian_denoiser(mean: float, deviation: float) -> Denoiser:
    """E[y | x] for y ~ N(mean, deviation^2)."""
    return lambda x, sigma: (deviation**2 * x + sigma**2 * mean) / (deviation**2 + sigma**2)


def heun_error(steps: int) -> float:
    """Distance from the exact flow of a Gaussian, which shrinks distances from the mean like the total deviation."""
    latents = torch.randn(64, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = 0.3 + (80 * latents - 0.3) * 0.5 / math.sqrt(0.5**2 + 80**2)
    levels = sigmas(SamplerSettings(steps=steps))
    return float((heun(gaussian_denoiser(0.3, 0.5), latents, levels) - exact).abs().max())


def test_heun_converges_to_the_exact_flow_of_a_gaussian_at_second_order() -> None:
    errors = [heun_error(steps) for steps in (17, 33, 65, 129)]  # each has half the last one's step in sigma^(1/rho)
    assert heun_error(18) < 0.1
    assert errors[-1] < 2e-3
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4, abs=0.4)


def test_heun_step_by_hand() -> None:
    """D = 0 makes x shrink with sigma: exactly, and the last step, Euler's, ends at D."""
    latents = torch.tensor([1.5, -2.0]).view(2, 1, 1, 1)
    calls: list[float] = []

    def to_nothing(x: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        torch.testing.assert_close(x, latents.double() * sigma)
        return torch.zeros_like(x)

    result = heun(to_nothing, latents, (4.0, 2.0, 1.0, 0.0))
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, torch.zeros_like(result))
    assert calls == [4.0, 2.0, 2.0, 1.0, 1.0]  # 2 N - 1


# Algorithm 2, lines 4 to 6, with N = 4: S_churn 1 makes 1 / 4 of each level, S_churn 40 would make 10 and gets 0.4142.
@pytest.mark.parametrize(
    ("settings", "level", "churned"),
    [
        ({"churn": 1}, 2.0, 2.5),
        ({"churn": 40}, 2.0, 2 * math.sqrt(2)),
        ({"churn": 1, "churn_from": 0.5, "churn_to": 3}, 3.0, 3.75),
        ({"churn": 1, "churn_from": 0.5, "churn_to": 3}, 3.1, 3.1),
        ({"churn": 1, "churn_from": 0.5, "churn_to": 3}, 0.4, 0.4),
    ],
)
def test_churned_levels_by_hand(settings: dict[str, float], level: float, churned: float) -> None:
    assert churned_level(level, SamplerSettings.model_validate({"steps": 4, **settings})) == pytest.approx(churned)


def test_churn_brings_images_to_the_level_it_states() -> None:
    ids = torch.arange(4000)
    churn = make_churn(ids, SamplerSettings(steps=4, churn=1, churn_noise=1.5))
    assert churn is not None
    x, level = churn(torch.zeros(4000, 1, 1, 1, dtype=torch.float64), 2.0, 0)
    assert level == 2.5
    assert float(x.std()) == pytest.approx(1.5 * math.sqrt(2.5**2 - 2**2), rel=0.03)
    again, _ = churn(torch.zeros(4000, 1, 1, 1, dtype=torch.float64), 2.0, 1)
    assert abs(float((x * again).mean())) < 0.2  # the noise of two steps has nothing to do with each other
    assert make_churn(ids, SamplerSettings()) is None


def test_stochastic_sampler_draws_from_the_gaussian_that_its_denoiser_knows() -> None:
    """Only the noise that churn puts in keeps the distribution, so mean and deviation tell it from any other."""
    settings, ids = SamplerSettings(steps=40, churn=20, sigma_max=20), torch.arange(3000)
    latents = per_sample("normal", (1, 1, 1), ids, 0, "latent")
    churn = make_churn(ids, settings)
    drawn = heun(gaussian_denoiser(0.3, 0.5), latents, sigmas(settings), churn)
    assert (float(drawn.mean()), float(drawn.std())) == pytest.approx((0.3, 0.5), abs=0.03)
    deterministic = heun(gaussian_denoiser(0.3, 0.5), latents, sigmas(settings))
    assert float(torch.corrcoef(torch.stack([drawn.flatten(), deterministic.flatten()]))[0, 1]) < 0.7


def test_bytes_go_there_and_back() -> None:
    pixels = torch.arange(256)
    assert torch.equal(to_bytes(pixels.float() / 127.5 - 1), pixels.to(torch.uint8))
    assert to_bytes(torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])).tolist() == [0, 0, 128, 255, 255]


@pytest.fixture
def network() -> torch.nn.Module:
    return drawn_network()


def drawn_network(**changes: object) -> torch.nn.Module:
    """A tiny network with all weights drawn anew, so that its output is not near 0."""
    torch.manual_seed(0)
    network = build_network(GeneratorSettings.model_validate({**TINY, **changes}), SHAPE, 10)
    for parameter in network.eval().requires_grad_(False).parameters():
        parameter.normal_(std=0.15)
    return network


@pytest.mark.parametrize("churn", [0, 3])
def test_an_image_depends_on_its_id_and_label_only(churn: float, network: torch.nn.Module) -> None:
    settings, ids = SamplerSettings(steps=6, churn=churn), torch.arange(12)
    together = draw_images(network, ids, ids % 10, settings, SHAPE)
    single = torch.cat([draw_images(network, ids[[i]], ids[[i]] % 10, settings, SHAPE) for i in ids.tolist()])
    turned = draw_images(network, ids.flip(0), ids.flip(0) % 10, settings, SHAPE).flip(0)
    assert together.dtype == torch.uint8
    assert together.float().std() > 10
    for other in (single, turned):  # arithmetic may differ in the last bit, and so the rounding of a pixel
        assert (together.int() - other.int()).abs().max() <= 1
        assert (together == other).float().mean() > 0.99


def test_images_differ_by_id_label_and_seed(network: torch.nn.Module) -> None:
    def draw(sample: int, label: int, seed: int) -> Tensor:
        settings = SamplerSettings(steps=4, seed=seed)
        return draw_images(network, torch.tensor([sample]), torch.tensor([label]), settings, SHAPE)

    assert all(not torch.equal(draw(0, 0, 0), draw(*other)) for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


@pytest.mark.parametrize("guidance", [0, 2, 5])
def test_guidance_goes_from_the_image_without_class_to_the_one_with_it_and_on(
    guidance: float, network: torch.nn.Module
) -> None:
    ids = labels = torch.arange(6)

    def denoised(x: Tensor, sigma: float, labels: list[int]) -> Tensor:
        images = [
            denoise(network, one[None], one.new_full((1,), sigma), torch.tensor([label]))
            for one, label in zip(x, labels, strict=True)
        ]
        return torch.cat(images)

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        without = denoised(x, sigma, [NO_CLASS] * 6)
        return without + guidance * (denoised(x, sigma, labels.tolist()) - without)

    network.get_parameter("embedding.label.weight").normal_(std=3)
    settings = SamplerSettings(steps=5, guidance=guidance)
    expected = to_bytes(heun(denoiser, per_sample("normal", SHAPE, ids, 0, "latent"), sigmas(settings)))
    found = draw_images(network, ids, labels, settings, SHAPE)
    assert (found.int() - expected.int()).abs().max() <= 1
    plain = draw_images(network, ids, labels, SamplerSettings(steps=5), SHAPE)
    assert (found.int() - plain.int()).abs().max() > 1
    assert settings.evaluations == 2 * SamplerSettings(steps=5).evaluations == 18


def test_without_a_class_the_network_knows_none_of_them(network: torch.nn.Module) -> None:
    inputs = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.2]), torch.full((2,), NO_CLASS)
    before = network(*inputs)
    network.get_parameter("embedding.label.weight").normal_()
    torch.testing.assert_close(network(*inputs), before)


@pytest.mark.parametrize(
    ("image_shape", "multipliers", "attention"),
    [
        ((1, 8, 8), (1, 2), ()),
        ((1, 28, 28), (1, 2, 2), (7, 14)),
        ((3, 32, 32), (2, 2, 2), (16,)),
        ((2, 8, 4), (1,), ()),
    ],
)
def test_output_has_the_images_shape_and_is_first_near_0(
    image_shape: ImageShape, multipliers: tuple[int, ...], attention: tuple[int, ...]
) -> None:
    content = {**TINY, "channel_multipliers": multipliers, "attention_resolutions": attention}
    torch.manual_seed(0)
    network = build_network(GeneratorSettings.model_validate(content), image_shape, 10).eval()
    x = torch.randn(3, *image_shape)
    output = network(x, torch.tensor([-1.5, 0.0, 1.1]), torch.tensor([0, 5, 9]))
    assert output.shape == x.shape
    assert output.abs().max() < 1e-3


def test_with_patches_it_is_the_network_of_their_pixels_as_channels() -> None:
    settings = GeneratorSettings(base_channels=8, channel_multipliers=(1, 2), blocks=1, steps=1, patch=2)
    torch.manual_seed(0)
    network = build_network(settings, (3, 8, 12), 10).requires_grad_(False)
    torch.nn.init.normal_(network.state_dict()["last.2.weight"])
    inner = build_network(settings.model_copy(update={"patch": 1}), (12, 4, 6), 10).requires_grad_(False)
    inner.load_state_dict(network.state_dict())
    x, level, labels = torch.randn(2, 3, 8, 12), torch.tensor([-1.0, 0.5]), torch.tensor([0, 5])
    channels = [x[:, channel, row::2, column::2] for channel in range(3) for row in (0, 1) for column in (0, 1)]
    output, expected = network(x, level, labels), inner(torch.stack(channels, 1), level, labels)
    for number in range(12):
        channel, row, column = number // 4, number // 2 % 2, number % 2
        torch.testing.assert_close(output[:, channel, row::2, column::2], expected[:, number])


def test_parameter_count_is_that_of_edm_for_cifar10() -> None:
    """55,735,299, of which 9 x 128 belong to the augmentation labels."""
    settings = load_config({"preset": "cifar10"}).synthetic.generator
    for probability, count in ((settings.augmentation_probability, 55_735_299), (0, 55_735_299 - 9 * 128)):
        with torch.device("meta"):
            chosen = settings.model_copy(update={"augmentation_probability": probability})
            network = build_network(chosen, (3, 32, 32), 10)
        assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_a_block_is_at_first_its_skip() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 16, 8, 8)
    block = Block(16, 16, embedding=32, attention=True, dropout=0.0)
    torch.testing.assert_close(block(x, torch.randn(4, 32)), x / 2, rtol=0, atol=1e-3)  # sqrt(1/2), and by attention


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    attention, x = Attention(16), torch.randn(2, 16, 4, 4)
    torch.nn.init.normal_(attention.proj.weight)
    q, k, v = attention.qkv(attention.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).view_as(x)
    torch.testing.assert_close(attention(x), (attention.proj(attended) + x) * math.sqrt(0.5))


def test_dropout_scales_what_is_left_and_is_the_same_in_any_share_of_the_batch() -> None:
    dropout, x = Dropout(0.25), torch.ones(8, 3, 16, 16)
    dropout.noise = BatchNoise(torch.Generator().manual_seed(0), 8)
    whole = dropout(x)
    assert whole.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(whole.mean()) == pytest.approx(1, abs=0.05)
    dropout.noise = BatchNoise(torch.Generator().manual_seed(0), 8, slice(1, None, 3))
    assert torch.equal(dropout(x[1::3]), whole[1::3])
    assert torch.equal(dropout.eval()(x), x)


def test_the_network_knows_the_augmentation_and_0_is_none() -> None:
    network = drawn_network(augmentation_probability=0.1)
    inputs = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    plain = network(*inputs)
    assert torch.equal(plain, network(*inputs, augmentation=torch.zeros(2, 9)))
    assert not torch.allclose(plain, network(*inputs, augmentation=torch.ones(2, 9)), atol=1e-3)


def test_bfloat16_stays_within_the_network(network: torch.nn.Module) -> None:
    seen: list[torch.dtype] = []
    last = next(module for module in reversed(list(network.modules())) if isinstance(module, torch.nn.Conv2d))
    last.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    x, sigma, labels = torch.randn(4, 1, 8, 8).double(), torch.full((4,), 0.5).double(), torch.arange(4)
    exact, narrow = (
        denoise(in_precision(network, precision, x.device), x, sigma, labels) for precision in ("float32", "bfloat16")
    )
    assert seen == [torch.float32, torch.bfloat16]
    assert narrow.dtype == torch.float64
    assert 1e-5 < float((narrow - exact).abs().max()) < 0.1


def test_network_attends_to_label_and_noise_level(network: torch.nn.Module) -> None:
    x = torch.randn(1, 1, 8, 8).expand(3, -1, -1, -1)
    same, label, level = network(x, torch.tensor([0.1, 0.1, 0.9]), torch.tensor([1, 2, 1]))
    assert not torch.allclose(same, label, atol=1e-3)
    assert not torch.allclose(same, level, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_multipliers": (1, 1, 1, 1, 1)}, r"channel_multipliers = \[1, 1, 1, 1, 1\] .* of 16"),
        ({"channel_multipliers": (1, 1), "patch": 8}, "patch = 8 .* of 16"),
        ({"attention_resolutions": (16,)}, "attention_resolutions has 16, .* are 8, 4$"),
        ({"attention_resolutions": (8,), "patch": 2}, "attention_resolutions has 8, .* are 4, 2$"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        drawn_network(**changes)


def test_learning_rates_by_hand() -> None:
    ramp = GeneratorSettings(steps=1, learning_rate=0.01, ramp_images=1000)
    rates = [learning_rate(seen, ramp) for seen in (0, 250, 999, 1000, 5000)]
    assert rates == pytest.approx([0, 0.0025, 0.00999, 0.01, 0.01])
    assert learning_rate(0, GeneratorSettings(steps=1, learning_rate=0.01)) == 0.01
    linear = GeneratorSettings(steps=10, batch_size=100, learning_rate=0.01, ramp_images=200, schedule="linear")
    rates = [learning_rate(seen, linear) for seen in (0, 100, 200, 500, 900, 1000)]
    assert rates == pytest.approx([0, 0.5 * 0.009, 0.008, 0.005, 0.001, 0])


def test_averaging_beta_by_hand() -> None:
    """Batches of 100: the half-life is 5 % of the images seen until it is 500, at 10,000 images."""
    settings = GeneratorSettings(steps=1, batch_size=100, averaging_half_life_images=500)
    betas = {0: 0.0, 100: 0.5**20, 2000: 0.5, 4000: 0.5**0.5, 10_000: 0.5**0.2, 50_000: 0.5**0.2}
    for seen, beta in betas.items():
        assert averaging_beta(seen, settings) == pytest.approx(beta)


@pytest.fixture
def make_training(make_job: Callable[..., Job]) -> MakeTraining:
    """A function that makes a job of the stage ``generators`` beside a pool of 200 digits."""
    digits = load_digits()
    pool_job = make_job("pools", POOL)
    images = np.round(digits.images[:200, None] * 255 / 16).astype(np.uint8)
    write_pool(pool_job, images, digits.target[:200], dataset="digits", source="scikit-learn", classes=10)

    def make(name: str, **changes: object) -> tuple[Job, GeneratorStage]:
        settings = GeneratorSettings.model_validate({**TINY, **changes})
        spec = GeneratorStage(dataset="digits", pool=POOL, classes=10, image_shape=SHAPE, settings=settings)
        return make_job("generators", name), spec

    return make


def training_of(job: Job, spec: GeneratorStage, *team: Team) -> GeneratorTraining:
    return GeneratorTraining(job, spec, open_pool(job.upstream("pools", POOL)), *team)


class StopAt(Checkpoints):
    """Saves and interrupts at this tick."""

    def __init__(self, tick: int) -> None:
        super().__init__(1e9)
        self.left = tick

    def tick(self, save: Callable[[], None]) -> None:
        self.left -= 1
        if not self.left:
            save()
            raise Interrupted("stopped by a test")


def test_a_resumed_training_ends_in_the_same_bytes(
    make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustprune.generation.training.HISTORY_STEPS", 3)
    whole, spec = make_training("whole", flip=True, ramp_images=20, augmentation_probability=0.5, label_dropout=0.3)
    spec.run(whole)
    broken, _ = make_training("broken")
    for stop in (2, 3):  # after 2 steps, then after 5
        broken.checkpoints = StopAt(stop)
        with pytest.raises(Interrupted):
            spec.run(broken)
        torch.manual_seed(stop)  # a new process has another global state
    broken.checkpoints = Checkpoints(1e9)
    facts = spec.run(broken)
    for name in ("weights.safetensors", "history.parquet"):
        assert (whole.directory / name).read_bytes() == (broken.directory / name).read_bytes()
    history = pd.read_parquet(broken.directory / "history.parquet")
    assert history["step"].tolist() == [3, 6, 7]
    assert facts["loss"] == history["loss"].iloc[-1]
    assert (facts["steps"], facts["images_seen"]) == (7, 56)


def test_the_published_weights_are_the_average_by_hand(make_training: MakeTraining) -> None:
    job, spec = make_training("average", steps=4)
    training = training_of(job, spec)
    expected = [parameter.detach().clone() for parameter in training.network.parameters()]
    for step in range(4):
        training.one_step()
        beta = averaging_beta(8 * step, spec.settings)
        for mean, parameter in zip(expected, training.network.parameters(), strict=True):
            mean.copy_(beta * mean + (1 - beta) * parameter.detach())
    torch.testing.assert_close(list(training.average.parameters()), expected, rtol=1e-5, atol=1e-7)


def test_batches_depend_on_the_step_alone(make_training: MakeTraining) -> None:
    job, spec = make_training("batches", flip=True, batch_size=64)
    first, second = training_of(job, spec), training_of(job, spec)
    second.step = 1
    assert not torch.equal(first.draw_batch().images, second.draw_batch().images)
    first.step = 1
    batch, again = first.draw_batch(), second.draw_batch()
    for mine, other in zip(batch, again, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)
    assert batch.images.min() == -1
    assert batch.images.max() == 1
    pool = open_pool(job.upstream("pools", POOL))
    known = {(image.tobytes(), int(label)) for image, label in zip(pool.images[:], pool.labels, strict=True)}
    rows = list(zip(to_bytes(batch.images).numpy(), batch.labels.tolist(), strict=True))
    plain = [(image.tobytes(), label) in known for image, label in rows]
    mirrored = [(image[..., ::-1].tobytes(), label) in known for image, label in rows]
    assert all(one or other for one, other in zip(plain, mirrored, strict=True))
    assert 15 < sum(mirrored) < 49


def test_the_class_of_a_share_of_the_images_is_dropped(make_training: MakeTraining) -> None:
    whole, dropped = (
        training_of(*make_training(f"share {share}", batch_size=1000, label_dropout=share)).draw_batch()
        for share in (0, 0.25)
    )
    without = dropped.labels == NO_CLASS
    assert 200 < without.sum() < 300
    assert torch.equal(dropped.labels[~without], whole.labels[~without])
    assert torch.equal(dropped.images, whole.images)
    assert NO_CLASS not in whole.labels


def test_training_lowers_the_loss(make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.generation.training.HISTORY_STEPS", 20)
    job, spec = make_training("learns", steps=120, batch_size=16, learning_rate=5e-3, dropout=0.0)
    spec.run(job)
    losses = pd.read_parquet(job.directory / "history.parquet")["loss"]
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_a_loss_that_is_not_finite_stops_before_the_update(make_training: MakeTraining) -> None:
    job, spec = make_training("diverged", learning_rate=0.02)
    training = training_of(job, spec)
    training.one_step()
    torch.nn.init.constant_(list(training.network.parameters())[-1], math.inf)
    before = [parameter.clone() for parameter in training.network.parameters()]
    training.one_step()
    for stopped in (training.state, training.run):
        with pytest.raises(UserError, match=rf"{spec.id} .* step 2 of 7.*learning_rate than 0\.02"):
            stopped()
    assert all(torch.equal(old, new) for old, new in zip(before, training.network.parameters(), strict=True))


def test_two_processes_train_what_one_does(make_training: MakeTraining) -> None:
    changes = {"augmentation_probability": 0.5, "flip": True, "label_dropout": 0.3, "batch_size": 9, "steps": 4}
    alone, spec = make_training("alone", **changes)
    together, _ = make_training(spec.id, **changes)
    together.execution = together.execution.model_copy(update={"processes": 2})
    write_spec(together.directory / "spec.json", spec)
    facts = [spec.run(job) for job in (alone, together)]
    assert [found["processes"] for found in facts] == [1, 2]
    assert facts[1]["loss"] == pytest.approx(facts[0]["loss"], rel=1e-5)
    expected, found = (load_weights(job.directory / "weights.safetensors") for job in (alone, together))
    for name, weight in expected.items():
        close = torch.isclose(found[name], weight, rtol=1e-3, atol=1e-4)
        assert close.float().mean() > 0.97, name


def test_more_processes_than_images_in_a_batch_are_refused(make_training: MakeTraining) -> None:
    job, spec = make_training("crowd", batch_size=2)
    with pytest.raises(UserError, match=r"batch_size = 2 .* 3 processes"):
        training_of(job, spec, Team(1, 3))


def test_a_pool_of_other_images_is_refused(make_training: MakeTraining) -> None:
    job, spec = make_training("misfit")
    with pytest.raises(UserError, match=rf"pool {POOL} has images of shape \(1, 8, 8\) in 10 classes, .* in 7"):
        spec.model_copy(update={"classes": 7}).run(job)


def test_a_missing_pool_is_named(make_job: Callable[..., Job]) -> None:
    settings = GeneratorSettings(steps=1)
    spec = GeneratorStage(dataset="digits", pool=POOL, classes=10, image_shape=SHAPE, settings=settings)
    with pytest.raises(UserError, match=POOL):
        spec.run(make_job("generators", "lonely"))
