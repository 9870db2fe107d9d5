"""How a stage is run, as opposed to what it computes: none of this is part of an id."""

from pydantic import Field

from robustprune.settings import Settings


class Execution(Settings):
    """Settings of the machine. Changing them reruns nothing."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto takes a GPU where there is one")
    batch_size: int = Field(512, gt=0, description="images at once in generating, scoring and evaluating")
    checkpoint_seconds: float = Field(60.0, ge=0, description="longest work lost when a job is killed, seconds")
    part_rows: int = Field(
        2**20, gt=0, description="pools of more images are scored by several jobs of so many images each"
    )

    def flags(self) -> str:
        """The options of ``robustprune run`` that say the same."""
        return f"--device {self.device} --batch-size {self.batch_size} --checkpoint-seconds {self.checkpoint_seconds:g}"
