"""The stage that embeds every image of a pool, un-augmented, by a network in eval mode or from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.digests import file_digest
from robustprune.core.errors import UserError
from robustprune.core.files import digest
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
    from robustprune.scores.embeddings.encoders import Encode
    from robustprune.scores.embeddings.files import Embeddings


Compute = Callable[[int, int], Columns]


class EmbeddingSettings(Settings):
    """Settings of the vector that describes an image."""

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
    """One of our models; what goes into its last linear layer."""

    form: Literal["model"] = "model"
    model: ModelId
    weights: Weights = Field("last", exclude_if=lambda weights: weights == "last")  # so that older ids stay

    def describe(self) -> str:
        """For people."""
        return f"last features of {self.model}" + (", best weights" if self.weights == "best" else "")


class TorchvisionEncoder(Settings):
    """A classifier that torchvision has, with weights in a file; what goes into its last linear layer."""

    form: Literal["torchvision"] = "torchvision"
    name: str
    digest: str = Field(pattern=DIGEST_PATTERN)
    resize: int
    location: str

    def describe(self) -> str:
        """For people."""
        return f"last features of torchvision's {self.name} with the weights {Path(self.location).name}"


class FileEncoder(Settings):
    """Embeddings that somebody else made: an npy file with one row an image of the pool."""

    form: Literal["file"] = "file"
    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str

    def describe(self) -> str:
        """For people."""
        return f"read from {Path(self.location).name}"


class EmbeddingStage(Stage):
    """A vector for each image of a pool, un-augmented."""

    sentence = "a vector for each image of a pool, by which its neighbours are found"
    kind: Literal["embeddings"] = "embeddings"
    pool: PoolId
    encoder: Annotated[ModelEncoder | TorchvisionEncoder | FileEncoder, Field(discriminator="form")]
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
        """Return a pass for each image, where a network looks at them."""
        if isinstance(self.encoder, FileEncoder):
            return ()
        if isinstance(self.encoder, ModelEncoder):
            network = network_behind(plan, self.encoder.model)
        else:
            network = f"torchvision's {self.encoder.name}"
        return (Work(network, forwards=plan.count(self.pool)),)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Raise UnknownSizeError: the dimension is known when an image has been embedded."""
        raise UnknownSizeError(self.id)

    def row_pass(self, job: Job) -> RowPass:
        """Return how some or all images are embedded.

        Raises:
            UserError: when the model, its weights or the file of embeddings do not fit.
        """
        from robustprune.images.pool import open_pool

        pool = open_pool(job.upstream("pools", self.pool))
        return partial(compute_rows, job, len(pool), _compute(job, self, pool), what="embedding images")

    def run(self, job: Job) -> dict[str, Any]:
        """Publish embeddings.npy, (N, D), a row a sample, and embeddings.json.

        Returns:
            count and dimension, and how many embeddings are all 0, which have no direction.

        Raises:
            UserError: as ``row_pass``, or when a value is not finite.
        """
        from robustprune.images.pool import open_pool
        from robustprune.scores.embeddings.files import ARRAY_FILE, INFO_FILE, EmbeddingInfo, write_embeddings

        pool = open_pool(job.upstream("pools", self.pool))
        blocks = self.row_pass(job)()
        first = next(blocks)
        dimension, zeros = first["embedding"].shape[1], 0

        def rows() -> Iterator[Embeddings]:
            nonlocal zeros
            for block in chain([first], blocks):
                zeros += int((~block["embedding"].any(axis=1)).sum())
                yield block["embedding"]

        info = EmbeddingInfo(
            pool_digest=pool.info.digest,
            encoder=self.encoder.describe(),
            count=len(pool),
            dimension=dimension,
            dtype=self.dtype,
        )
        write_embeddings(job.partial, rows(), info)
        job.publish(ARRAY_FILE, INFO_FILE)
        return {"count": len(pool), "dimension": dimension, "all_zero": zeros}


def _compute(job: Job, spec: EmbeddingStage, pool: Pool) -> Compute:
    """A function of (start, stop) that gives these rows' embeddings, checked and in the stored dtype."""
    from robustprune.attacks.inputs import as_inputs

    encoder = spec.encoder
    if isinstance(encoder, FileEncoder):
        array, path = _open_file(encoder, pool), encoder.location
        return lambda start, stop: {"embedding": _stored(array[start:stop], spec, start, origin=path)}
    encode, origin = _encoder(job, encoder), encoder.describe()

    def compute(start: int, stop: int) -> Columns:
        images, _ = as_inputs(pool, start, stop, job.device)
        return {"embedding": _stored(encode(images).cpu().numpy(), spec, start, origin=origin)}

    return compute


def _encoder(job: Job, encoder: ModelEncoder | TorchvisionEncoder) -> Encode:
    from robustprune.networks.weights import load_model
    from robustprune.scores.embeddings.encoders import features_of, torchvision_encoder

    if isinstance(encoder, TorchvisionEncoder):
        return torchvision_encoder(encoder, job.device)
    model = load_model(job.upstream("models", encoder.model), job.device, encoder.weights)
    return lambda images: features_of(model, images, origin=encoder.model)


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


def _stored(values: Embeddings, spec: EmbeddingStage, start: int, *, origin: str) -> Embeddings:
    with np.errstate(over="ignore"):  # told below
        stored = values.astype(spec.dtype)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(bad):
        row = int(bad[0])
        reason = f"beyond the range of {spec.dtype}" if np.isfinite(values[row]).all() else "not finite"
        raise UserError(f"{origin}: the embedding of image {start + row} has a value that is {reason}")
    return stored


def encoder_source(settings: EmbeddingSettings, *, role: str) -> TorchvisionEncoder | FileEncoder:
    """Return the encoder of ``extrapolation.embedding.source``, if it is not a model of this workflow.

    Args:
        settings: settings of the embedding.
        role: role of the embedded pool: ``train``, ``synthetic`` or ``source``.

    Raises:
        UserError: if a file is missing.
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
