"""Embeddings: by a hand-made forward pass, from torchvision, from a file; and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.files import digest
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job
from robustprune.images.pool import Pool, open_pool
from robustprune.images.writing import write_pool
from robustprune.networks.resnet18 import ResNet18
from robustprune.networks.small_cnn import build
from robustprune.scores.embedding import (
    EmbeddingSettings,
    EmbeddingStage,
    FileEncoder,
    ModelEncoder,
    TorchvisionEncoder,
    encoder_source,
)
from robustprune.scores.embedding_files import ARRAY_FILE, INFO_FILE, EmbeddingInfo, open_embeddings, write_embeddings
from robustprune.scores.encoders import features_and_logits, features_of, torchvision_encoder
from stopping import StopAfterTwo

POOL = "some-train-0123456789"
CPU = torch.device("cpu")

MakeJob = Callable[..., Job]


@pytest.fixture
def pool(make_job: MakeJob) -> Pool:
    """Forty random grey images of 8 x 8 pixels."""
    job = make_job("pools", POOL)
    source = np.random.default_rng(0)
    images = source.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    write_pool(job, images, source.integers(0, 4, 40), dataset="some", source="a test", classes=4)
    return open_pool(job.directory)


def from_file(path: Path, dtype: str = "float32") -> EmbeddingStage:
    encoder = FileEncoder(digest=digest(path), location=str(path))
    return EmbeddingStage.model_validate({"pool": POOL, "encoder": encoder, "dtype": dtype})


def images_like(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def test_features_are_what_the_last_linear_layer_is_given() -> None:
    small, images = build((1, 8, 8), 10).eval(), images_like(5, 1, 8, 8)
    assert torch.equal(features_of(small, images, origin="small"), small[:-1](images))
    large, images = ResNet18(3, 10).eval(), images_like(2, 3, 32, 32)
    features, logits = features_and_logits(large, images, origin="large")
    assert features.shape == (2, 512)
    assert torch.equal(logits, large(images))
    torch.testing.assert_close(large.linear(features), logits)
    assert not large.linear._forward_hooks


@pytest.mark.parametrize("weights", ["last", "best"])
def test_a_model_embeds_by_the_weights_that_are_asked_for(
    weights: str, pool: Pool, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {name: build((1, 8, 8), 4).eval() for name in ("last", "best")}
    monkeypatch.setattr("robustprune.networks.weights.load_model", lambda _directory, _device, asked: models[asked])
    encoder = ModelEncoder.model_validate({"model": "some-model-0123456789", "weights": weights})
    spec = EmbeddingStage(pool=POOL, encoder=encoder, dtype="float32")
    (block,) = spec.row_pass(make_job("embeddings", "some-embedding-0123456789"))()
    images = torch.from_numpy(np.array(pool.images)).float() / 255
    np.testing.assert_array_equal(block["embedding"], models[weights][:-1](images).detach().numpy())
    assert "some-model-0123456789" in encoder.describe()
    assert ("best weights" in encoder.describe()) == (weights == "best")


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.layer(images.flatten(1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()), "it has no linear layer"),
        (Twice(), "one row an image"),
        (nn.Linear(2, 3), "one row an image"),
    ],
    ids=["none", "twice", "images"],
)
def test_a_model_without_features_is_refused(model: nn.Module, says: str) -> None:
    with pytest.raises(UserError, match=says):
        features_of(model.eval(), torch.zeros(3, 1, 2, 2), origin="it")


def torchvision_spec(path: Path, name: str = "resnet18", resize: int = 32) -> TorchvisionEncoder:
    return TorchvisionEncoder(name=name, digest=digest(path), resize=resize, location=str(path))


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(weights=None, num_classes=7)
    return model.eval()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_torchvision_model_with_weights_of_ones_own(channels: int, resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "mine.pth")
    images = images_like(3, channels, 8, 8)
    found = torchvision_encoder(torchvision_spec(tmp_path / "mine.pth"), CPU)(images)
    sized = F.interpolate(images.repeat(1, 3 // channels, 1, 1), size=(32, 32), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (sized - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        for name, layer in resnet.named_children():
            x = x if name == "fc" else layer(x)
    torch.testing.assert_close(found, x.flatten(1), rtol=1e-4, atol=1e-5)


def test_weights_that_cannot_be_used_are_refused(resnet: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    for content, name, says in (
        (resnet, "resnet18", "is not a file of weights"),
        ([torch.zeros(1)], "resnet18", "holds a list that is not a state dict"),
        ({"fc.weight": torch.zeros(7, 512)}, "resnet18", r"mine\.pth does not fit .* Missing key"),
        (resnet.state_dict(), "resnet19", r"no classifier 'resnet19'; it has .*resnet18"),
        (resnet.state_dict(), "squeezenet1_1", "squeezenet1_1 has no linear layer"),
        (resnet.state_dict(), "mobilenet_v3_small", r"lacks classifier\.3\.weight"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=says):
            torchvision_encoder(torchvision_spec(path, name), CPU)
    for damaged in (b"", b"no weights", b"hello weights\n", path.read_bytes()[:2000]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is not a file of weights"):
            torchvision_encoder(torchvision_spec(path), CPU)
    spec = torchvision_spec(path)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="gone or changed since the plan"):
        torchvision_encoder(spec, CPU)


def test_a_file_of_embeddings_is_taken_over(pool: Pool, make_job: MakeJob, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((40, 6))
    values[[3, 8]] = 0
    np.save(tmp_path / "train.npy", np.asfortranarray(values))
    spec = from_file(tmp_path / "train.npy", "float16")
    job = make_job("embeddings", spec.id, batch_size=7)
    assert spec.run(job) == {"count": 40, "dimension": 6, "all_zero": 2}
    found = open_embeddings(job.directory, pool)
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float16
    assert np.array_equal(found, values.astype(np.float16))
    assert [path.name for path in job.outputs] == [ARRAY_FILE, INFO_FILE]


def spoiled(value: float) -> np.ndarray[Any, Any]:
    values = np.ones((40, 6), np.float32)
    values[17, 2] = value
    return values


BAD: dict[str, tuple[Any, str]] = {
    "short": (np.ones((39, 6)), r"shape \(39, 6\), .* \(40, D\)"),
    "flat": (np.ones(40), r"shape \(40,\)"),
    "empty": (np.ones((40, 0)), r"shape \(40, 0\)"),
    "integers": (np.ones((40, 6), int), "holds int64, but should hold float16, float32 or float64"),
    "nan": (spoiled(np.nan), "image 17 .* not finite"),
    "large": (spoiled(1e5), "image 17 .* range of float16"),
    "pickle": (np.array([[{}]]), "not a readable npy file"),
}


@pytest.mark.parametrize(("content", "says"), BAD.values(), ids=BAD.keys())
def test_a_file_that_is_no_embedding_of_the_pool_is_refused(
    content: Any, says: str, pool: Pool, make_job: MakeJob, tmp_path: Path
) -> None:
    np.save(tmp_path / "train.npy", content)
    spec = from_file(tmp_path / "train.npy", "float16")
    with pytest.raises(UserError, match=says):
        spec.run(make_job("embeddings", spec.id))


def test_an_archive_or_a_changed_file_is_refused(pool: Pool, make_job: MakeJob, tmp_path: Path) -> None:
    path = tmp_path / "train.npy"
    with path.open("wb") as file:
        np.savez(file, image=np.ones((40, 6)))
    spec = from_file(path)
    job = make_job("embeddings", spec.id)
    with pytest.raises(UserError, match="is not a readable npy file"):
        spec.run(job)
    np.save(path, np.ones((40, 6)))
    with pytest.raises(UserError, match="gone or changed since the plan"):
        spec.run(job)


def test_a_resumed_embedding_and_one_in_parts_have_the_same_bytes(
    pool: Pool, make_job: MakeJob, tmp_path: Path
) -> None:
    np.save(tmp_path / "train.npy", np.random.default_rng(0).standard_normal((40, 6)))
    spec = from_file(tmp_path / "train.npy")
    whole, broken, shared = (make_job("embeddings", name, batch_size=8) for name in ("whole", "broken", "shared"))
    facts = spec.run(whole)
    broken.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        spec.run(broken)
    broken.checkpoints = Checkpoints(0)
    for rows in (range(24, 40), range(24)):
        spec.row_pass(shared)(rows=rows)
    assert len(list((shared.partial / "blocks").iterdir())) == 2
    for job in (broken, shared):
        assert spec.run(job) == facts
        for name in (ARRAY_FILE, INFO_FILE):
            assert (job.directory / name).read_bytes() == (whole.directory / name).read_bytes()


def test_embeddings_of_another_pool_or_damaged_ones_are_refused(pool: Pool, tmp_path: Path) -> None:
    info = EmbeddingInfo(pool_digest=pool.info.digest, encoder="a test", count=2, dimension=3, dtype="float32")
    rows = np.ones((2, 3), np.float32)
    write_embeddings(tmp_path, iter([rows[:1], rows[1:]]), info)
    assert np.array_equal(open_embeddings(tmp_path, pool), rows)
    write_embeddings(tmp_path, iter([rows]), info.model_copy(update={"pool_digest": "another"}))
    with pytest.raises(UserError, match="of the pool with digest another"):
        open_embeddings(tmp_path, pool)
    np.save(tmp_path / ARRAY_FILE, rows[:1])
    with pytest.raises(UserError, match=r"float32 \(1, 3\), .* float32 \(2, 3\)"):
        open_embeddings(tmp_path, pool)
    (tmp_path / INFO_FILE).write_text("{}")
    with pytest.raises(UserError, match="no readable embeddings"):
        open_embeddings(tmp_path, pool)


def test_the_configured_source_of_embeddings_is_found_while_the_plan_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("synthetic.npy", "mine.pth"):
        (tmp_path / name).write_bytes(name.encode())
    file = encoder_source(EmbeddingSettings(source=f"file:{tmp_path}"), role="synthetic")
    assert file == FileEncoder(digest=digest(tmp_path / "synthetic.npy"), location=str(tmp_path / "synthetic.npy"))
    weights = encoder_source(EmbeddingSettings(source="torchvision:resnet18:mine.pth", resize=64), role="train")
    assert weights == torchvision_spec(tmp_path / "mine.pth", resize=64)
    with pytest.raises(UserError, match=r"source = file:.*: there is no file .*/train.npy"):
        encoder_source(EmbeddingSettings(source=f"file:{tmp_path}"), role="train")
    with pytest.raises(UserError, match=r"there is no file yours.pth"):
        encoder_source(EmbeddingSettings(source="torchvision:resnet18:yours.pth"), role="train")
