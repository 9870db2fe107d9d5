"""How images are laid out in a plane."""

from pydantic import Field

from robustprune.settings.base import Settings


class LayoutSettings(Settings):
    """t-SNE of the first principal components (Kaufmann et al. v1, Appendix A)."""

    images: int | None = Field(5000, gt=0, description="first images of the real training pool; null for all")
    components: int = Field(50, ge=2, description="principal components that t-SNE sees")
    perplexity: float = Field(30.0, ge=1, description="t-SNE's number of neighbours, about")
