"""How a stage is run, as opposed to what it computes: none of this is part of an id."""

from typing import Literal

from pydantic import Field

from robustprune.core.settings import Settings

CHUNK_BATCHES = 8
"""Batches in a chunk, the rows that are measured together: enough that batches are full most of the time, few enough
that the chunk fits the device, where its images lie several times in float32."""

Compile = Literal["none", "kernels", "cuda_graphs"]
"""Whether torch compiles the network that is trained."""


class Execution(Settings):
    """Settings of the machine. Changing them reruns nothing."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (a GPU where there is one) | cpu | cuda | cuda:<index>",
    )
    batch_size: int = Field(512, gt=0, description="images at once in generating, scoring and evaluating")
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="longest work lost when a job is killed, seconds, or one batch"
    )
    processes: int = Field(
        1,
        ge=1,
        description="processes that train one network together, each its share of every batch; on GPUs one each",
    )
    compile: Compile = Field(
        "none",
        description="of the network in training: kernels (torch.compile; needs a C++ compiler, on a GPU Triton) | "
        "cuda_graphs (its mode reduce-overhead; needs a GPU) | none; where it fails, the record says why",
    )
    part_rows: int = Field(
        2**20, gt=0, description="pools of more images are drawn and scored by several jobs of so many images each"
    )
    evaluation_part_rows: int = Field(
        10_000, gt=0, description="a model is attacked on more test images by several jobs of so many images each"
    )

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk, the most that are ever computed together."""
        return CHUNK_BATCHES * self.batch_size

    def rows_of_a_part(self, kind: str, together: int | None) -> int:
        """Return the rows of a job that shares a stage of a kind with others.

        It is a multiple of the rows that are computed ``together``, by default a chunk, so that parts compute what one
        job would.
        """
        rows, unit = self.evaluation_part_rows if kind == "evaluations" else self.part_rows, together or self.chunk_rows
        return -(-rows // unit) * unit

    def flags(self) -> str:
        """The options of ``robustprune run`` that say the same."""
        return (
            f"--device {self.device} --batch-size {self.batch_size} --checkpoint-seconds {self.checkpoint_seconds:g} "
            f"--processes {self.processes} --compile {self.compile}"
        )
