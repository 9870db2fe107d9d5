"""The stage that embeds every image of a pool, without augmentation, by a network in eval mode or from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import digest, file_digest
from robustprune.core.job import Job
from robustprune.core.npy import read_header
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.settings import DIGEST_PATTERN, Settings, Weights
from robustprune.core.stage import ModelId, PoolId, SharedRows, Stage, slug_of
from robustprune.core.work import UnknownSizeError, Work
from robustprune.networks.classifier import network_behind

if TYPE_CHECKING:
    from robustprune.images.pool import Pool
    from robustprune.planning.plan import Plan
    from robustprune.scores.embedding_files import Embeddings


class EmbeddingSettings(Settings):
    """Settings of the embeddings."""

    source: str = Field(
        "ours",
        pattern=r"^(ours|torchvision:[a-z0-9_]+:.+|file:.+)$",
        description="ours (last features of the model that scored) | torchvision:MODEL:WEIGHTS_FILE (no download) | "
        "file:FOLDER (train.npy, synthetic.npy and, where extrapolation.source is not none, source.npy: one row an "
        "image)",
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="how a number is stored")
    resize: int = Field(
        224, ge=8, le=1024, description="side, pixels, to which images are brought for a torchvision model"
    )


class ModelEncoder(Settings):
    """Features of a model of this workflow: the inputs of its last linear layer."""

    form: Literal["model"] = "model"
    model: ModelId
    weights: Weights = Field("last", exclude_if=lambda weights: weights == "last")  # so that older ids stay

    def describe(self) -> str:
        """Return the source of the embeddings in words."""
        return f"last features of {self.model}" + (", best weights" if self.weights == "best" else "")


class TorchvisionEncoder(Settings):
    """Features of a torchvision classifier with weights from a file."""

    form: Literal["torchvision"] = "torchvision"
    name: str
    digest: str = Field(pattern=DIGEST_PATTERN)
    resize: int
    location: str

    def describe(self) -> str:
        return f"last features of torchvision's {self.name} with the weights {Path(self.location).name}"


class FileEncoder(Settings):
    """Embeddings made elsewhere: an npy file with one row per image of the pool."""

    form: Literal["file"] = "file"
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str

    def describe(self) -> str:
        return f"read from {Path(self.location).name}"


Encoder = ModelEncoder | TorchvisionEncoder | FileEncoder


class EmbeddingStage(Stage):
    """A vector for each image of a pool, without augmentation."""

    sentence = "a vector for each image of a pool, by which its neighbours are found"
    kind: Literal["embeddings"] = "embeddings"
    pool: PoolId
    encoder: Annotated[Encoder, Field(discriminator="form")]
    dtype: Literal["float32", "float16"]

    @property
    def slug(self) -> str:
        return f"embedding-{slug_of(self.pool)}"

    @property
    def needs_device(self) -> bool:
        return not isinstance(self.encoder, FileEncoder)

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(pool=self.pool)

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return one forward pass per image, if a network embeds them."""
        match self.encoder:
            case FileEncoder():
                return ()
            case ModelEncoder(model=model):
                network = network_behind(plan, model)
            case TorchvisionEncoder(name=name):
                network = f"torchvision's {name}"
        return (Work(network, forwards=plan.count(self.pool)),)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Raise UnknownSizeError: the dimension is known when an image has been embedded."""
        raise UnknownSizeError(self.id)

    def row_pass(self, job: Job) -> RowPass:
        """Return the pass that embeds some or all images.

        Raises UserError if the model, its weights or the file of embeddings do not fit.
        """
        from robustprune.images.pool import open_pool

        pool = open_pool(job.upstream("pools", self.pool))
        values = _embedder(job, self.encoder, pool)

        def embed(start: int, stop: int) -> Columns:
            return {"embedding": _stored(values(start, stop), self, start)}

        return partial(compute_rows, job, len(pool), embed, what="embedding images")

    def run(self, job: Job) -> dict[str, Any]:
        """Publish embeddings.npy, (N, D), one row per image, and embeddings.json.

        Returns count, dimension, and the number of embeddings that are all 0. Raises UserError as ``row_pass``.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.embedding_files import ARRAY_FILE, INFO_FILE, EmbeddingInfo, write_embeddings

        pool = open_pool(job.upstream("pools", self.pool))
        blocks = (block["embedding"] for block in self.row_pass(job)())
        first = next(blocks)
        info = EmbeddingInfo(
            pool_digest=pool.info.digest,
            encoder=self.encoder.describe(),
            count=len(pool),
            dimension=first.shape[1],
            dtype=self.dtype,
        )
        zeros = write_embeddings(job.partial, chain([first], blocks), info)
        job.publish(ARRAY_FILE, INFO_FILE)
        return {"count": info.count, "dimension": info.dimension, "all_zero": zeros}


def _embedder(job: Job, encoder: Encoder, pool: Pool) -> Callable[[int, int], Embeddings]:
    """Return a function of (start, stop) that returns the embeddings of these rows."""
    if isinstance(encoder, FileEncoder):
        array = _open_file(encoder, pool)
        return lambda start, stop: array[start:stop]
    from robustprune.attacks.inputs import as_inputs
    from robustprune.networks.weights import load_model
    from robustprune.scores.encoders import features_of, torchvision_encoder

    if isinstance(encoder, TorchvisionEncoder):
        encode = torchvision_encoder(encoder, job.device)
    else:
        model = load_model(job.upstream("models", encoder.model), job.device, encoder.weights)
        encode = partial(features_of, model, origin=encoder.model)
    return lambda start, stop: encode(as_inputs(pool, start, stop, job.device)[0]).cpu().numpy()


def _open_file(encoder: FileEncoder, pool: Pool) -> Embeddings:
    path = Path(encoder.location)
    if not path.is_file() or digest(path) != encoder.digest:
        raise UserError(f"{path} is gone or changed since the plan was made; bring it back or plan again")
    try:
        with path.open("rb") as file:
            read_header(file)
        array: Embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable npy file: {error}") from None
    if array.ndim != 2 or len(array) != len(pool) or not array.shape[1]:
        raise UserError(f"{path} has shape {array.shape}, but should have ({len(pool)}, D): one row an image")
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(f"{path} holds {array.dtype}, but should hold float16, float32 or float64")
    return array


def _stored(values: Embeddings, spec: EmbeddingStage, start: int) -> Embeddings:
    """Return embeddings in the stored dtype. Raises UserError if one is not finite."""
    with np.errstate(over="ignore"):  # reported below
        stored = values.astype(spec.dtype)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(bad):
        row, encoder = int(bad[0]), spec.encoder
        origin = encoder.location if isinstance(encoder, FileEncoder) else encoder.describe()
        reason = f"beyond the range of {spec.dtype}" if np.isfinite(values[row]).all() else "not finite"
        raise UserError(f"{origin}: the embedding of image {start + row} has a value that is {reason}")
    return stored


def encoder_source(settings: EmbeddingSettings, *, role: str) -> TorchvisionEncoder | FileEncoder:
    """Return the encoder of ``extrapolation.embedding.source``, if it is not a model of this workflow.

    ``role`` is ``train``, ``synthetic`` or ``source``, as that of the pool. Raises UserError if a file is missing.
    """
    form, _, value = settings.source.partition(":")
    name, _, weights = value.partition(":")
    path = Path(value, f"{role}.npy") if form == "file" else Path(weights)
    if not path.is_file():
        hint = "an npy file with one row per image" if form == "file" else "weights are not downloaded"
        raise UserError(f"extrapolation.embedding.source = {settings.source}: there is no file {path}; {hint}")
    location = str(path.absolute())
    if form == "file":
        return FileEncoder(digest=file_digest(path), location=location)
    return TorchvisionEncoder(name=name, digest=file_digest(path), resize=settings.resize, location=location)
