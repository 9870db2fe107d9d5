"""How images are laid out in a plane."""

from typing import Self

from pydantic import Field, model_validator

from robustprune.settings.base import Settings


class LayoutSettings(Settings):
    """t-SNE of the first principal components (Kaufmann et al. v1, Appendix A)."""

    images: int | None = Field(5000, gt=0, description="first images of the real training pool; null for all")
    components: int = Field(50, ge=2, description="principal components that t-SNE sees")
    perplexity: float = Field(30.0, ge=1, description="t-SNE's number of neighbours, about")

    @model_validator(mode="after")
    def _there_are_neighbours(self) -> Self:
        if self.images is not None and self.images <= self.perplexity:
            raise ValueError(f"images = {self.images} should be more than perplexity = {self.perplexity:g}")
        return self
