"""Under which conditions a row's models are trained, where they are not those of the configuration."""

from fractions import Fraction

from pydantic import Field

from robustprune.core.settings import Exact, Norm, Settings
from robustprune.images.settings import GENERATED_PATTERN, TrainedOn
from robustprune.networks.architecture import Architecture, ArchitectureRole


class Conditions(Settings):
    """Changes of the configuration for one row. Everything that is planned for it is planned under them."""

    architecture: ArchitectureRole | Architecture | None = Field(
        None, description="a network, or its part in a paper (architectures of the config); architecture where absent"
    )
    norm: Norm | None = Field(None, description="the norm of threat or other_threat; of threat where absent")
    data: TrainedOn | None = Field(
        None, description="what is trained on: all | real | synthetic | source | real_and_source; data.trained_on else"
    )
    synthetic: str | None = Field(
        None,
        pattern=f"^({GENERATED_PATTERN})$",
        description="the generated images it learns from, e.g. subset:NAME; the config's synthetic.source where absent",
    )
    drawn: Exact = Field(
        Fraction(1), gt=0, description="images drawn from the generator, in units of the config's synthetic.count"
    )
    epochs: Exact = Field(Fraction(1), gt=0, le=10, description="of a training, in units of the recipe's")
    one_pass: bool = Field(
        False, description="an epoch is one pass over what is kept (papers.md, N17), not the recipe's epoch_images"
    )
