"""``config.yaml`` and the presets: one closed model, checked before anything is planned."""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from robustprune.attacks.margin_method import MARGIN_METHODS, MarginMethod, MarginMethodName
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.locations import location_problem, without_credentials
from robustprune.core.paths import CONFIG_FILE, PRESETS
from robustprune.core.registry import resource_keys
from robustprune.core.settings import CrossEntropyAttack, OtherThreat, Settings, ThreatModel, Weights
from robustprune.core.wording import suggestion, what_is_wrong
from robustprune.core.yaml_files import merge, read_yaml
from robustprune.evaluation.settings import EvaluationSettings, QualitySettings
from robustprune.experiments.studies.feature_model import FeatureModelSettings
from robustprune.experiments.studies.perceptron import PerceptronSettings
from robustprune.experiments.studies.toy_2d import ToySettings
from robustprune.experiments.studies.tsne_classes import TsneSettings
from robustprune.generation.settings import GeneratorSettings, SamplerSettings
from robustprune.images.settings import (
    GENERATED_PATTERN,
    PICTURE_FORMATS,
    SOURCE_PATTERN,
    DataName,
    HierarchySettings,
    Overlap,
    SelectionSettings,
    Storage,
    SubsetSettings,
    TrainedOn,
    UnionSettings,
)
from robustprune.networks.architecture import Architecture, ArchitectureRoles, has_batchnorm, normalization_of
from robustprune.networks.imported import CheckpointSettings
from robustprune.pruning.settings import PruningSettings
from robustprune.report.page import ReportSettings
from robustprune.scores.embedding import EmbeddingSettings
from robustprune.scores.extrapolated import NeighbourSettings
from robustprune.scores.imported_score import ImportedScores
from robustprune.scores.metric import METRICS, Metric
from robustprune.training.dynamics import RecordingSettings
from robustprune.training.recipes.base import RECIPES, Recipe

SYNTHETIC_PATTERN = rf"^(none|{GENERATED_PATTERN})$"


def _check_location(value: str) -> str:
    if (problem := location_problem(value)) is not None:
        raise ValueError(problem)
    return value


Location = Annotated[str, AfterValidator(_check_location)]
"""A place for shared stores."""
HttpFolder = Annotated[str, StringConstraints(pattern=r"^https?://.+$")]


class DataSettings(Settings):
    """The real images."""

    name: DataName = Field(description="short name of the data set, used in folder names")
    source: str = Field(
        pattern=SOURCE_PATTERN,
        description="where the images come from: digits | torchvision (downloads into data/) | torchvision:FOLDER "
        "(in torchvision's layout, no download) | idx:FOLDER | npz:FOLDER (train.npz, test.npz) | "
        "parquet:FOLDER (Hugging Face's layout) | imagefolder:FOLDER (train/CLASS/*.png, test/CLASS/*.png) | "
        "webdataset:FOLDER (train-000000.tar, ...) | imagenet21k:FOLDER (a folder or archive a synset, and a "
        "hierarchy)",
    )
    hierarchy: HierarchySettings = Field(
        HierarchySettings(), description="of imagenet21k: how its synsets are grouped into classes"
    )
    trained_on: TrainedOn = Field("all", description="which images trainings learn from; see TrainedOn")
    classes: int = Field(ge=4, description="number of classes (AutoAttack needs 4); labels are 0 ... classes - 1")
    image_shape: tuple[int, int, int] = Field(description="channels, height, width")
    mirrors: tuple[HttpFolder, ...] = Field(
        (), description="folders, http:// or https://, that source: torchvision fetches from before the usual places"
    )
    overlap: Overlap = Field(
        "refused", description="what to do where an image for training is also one for testing: refused | allowed"
    )
    storage: Storage = Field(
        "decoded",
        description="what is kept of a parquet, imagefolder or webdataset source: decoded (pixels; all pictures have "
        "image_shape) | encoded (the pictures; decoded, and scaled to image_shape, whenever they are read)",
    )

    @field_validator("image_shape")
    @classmethod
    def _possible_shape(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if value[0] not in (1, 3) or min(value[1:]) < 4:
            raise ValueError("should be [channels, height, width] with 1 or 3 channels and sides of at least 4 pixels")
        return value

    @model_validator(mode="after")
    def _has_pictures(self) -> "DataSettings":
        form = self.source.partition(":")[0]
        if self.storage == "encoded" and form not in (*PICTURE_FORMATS, "imagenet21k"):
            raise ValueError(
                f"storage = encoded, but source = {self.source} has pixels; only {', '.join(PICTURE_FORMATS)} and "
                f"imagenet21k have pictures that can be kept"
            )
        return self


class SyntheticSettings(Settings):
    """The generated images."""

    source: str = Field(
        "generate",
        pattern=SYNTHETIC_PATTERN,
        description="generate (train an EDM and draw from it) | npz:FILE (keys image, label) | parquet:FILE | "
        "imagefolder:FOLDER | webdataset:FILE | "
        "subset:NAME | union:NAME | selection:NAME (of subsets, unions, selections) | none",
    )
    count: int = Field(gt=0, description="images drawn from the generator")
    generator: GeneratorSettings
    sampler: SamplerSettings = Field(default_factory=lambda: SamplerSettings())

    @model_validator(mode="after")
    def _guided_away_from_something(self) -> "SyntheticSettings":
        if self.sampler.guidance != 1 and self.generator.label_dropout == 0:
            raise ValueError(
                f"sampler.guidance = {self.sampler.guidance} needs a network that also knows images without their "
                "class; set generator.label_dropout, to 0.1 for example"
            )
        return self


class ExtrapolationSettings(Settings):
    """Scores of generated images from those of their neighbours, for rows with ``extrapolated: true``."""

    source: str = Field(
        "none",
        pattern=SYNTHETIC_PATTERN,
        description="generated images that are scored directly, besides the real ones: generate (drawn for this from "
        "the generator of the synthetic pool) | npz:FILE | parquet:FILE | imagefolder:FOLDER | webdataset:FILE | "
        "subset:NAME | union:NAME | selection:NAME | none",
    )
    source_images: int = Field(1000, gt=0, description="images drawn for it where source is generate")
    embedding: EmbeddingSettings = EmbeddingSettings()
    neighbours: NeighbourSettings = NeighbourSettings()

    @model_validator(mode="after")
    def _sources_exist(self) -> "ExtrapolationSettings":
        if self.source == "none" and "synthetic" in self.neighbours.sources:
            raise ValueError("neighbours.sources = synthetic needs generated images that are scored: set source")
        return self


class DynamicsSection(Settings):
    """Scores from what trainings record, and from a model's loss after training."""

    recording: RecordingSettings = RecordingSettings()
    every_epoch_up_to: int = Field(
        100_000, ge=0, description="images; a training on no more records every epoch, whatever recording.epochs says"
    )
    loss_attack: CrossEntropyAttack = Field(
        CrossEntropyAttack(steps=1, step=1.25),
        description="the attack of the score loss_adversarial (RS-FGSM as Kaufmann et al. train with)",
    )

    def named(self, score: str) -> Metric:
        """Return the settings of the metric behind a score that is made from recordings."""
        default = METRICS[score].model_validate({})
        settings: Metric = getattr(self, default.metric, default)
        return settings


if TYPE_CHECKING:
    DynamicsSettings = DynamicsSection
else:  # a key for each metric with settings
    _METRICS = {METRICS[name]().metric: METRICS[name] for name in METRICS}
    DynamicsSettings = create_model(
        "DynamicsSettings",
        __base__=DynamicsSection,
        **{name: (of, of()) for name, of in _METRICS.items() if len(of.model_fields) > 1},
    )


class StageResources(Settings):
    """Resources that one job of a stage kind asks of the scheduler on its first attempt; a retry asks for more."""

    threads: int = Field(1, ge=1, description="CPU threads")
    mem_mb: int = Field(2000, ge=500, description="memory, MB; multiplied by the attempt")
    runtime: int = Field(30, ge=1, description="time limit, minutes; multiplied by the attempt")
    gpu: int = Field(
        0, ge=0, description="GPUs; more than one for what is trained, one for each of execution.processes"
    )


def _of_each_kind(given: dict[str, StageResources]) -> dict[str, StageResources]:
    known = resource_keys()
    for key in given:
        if key not in known:
            raise ValueError(f"there is no kind of stage {key!r}{suggestion(key, list(known))}")
    return {key: given.get(key, StageResources()) for key in known}


Resources = Annotated[dict[str, StageResources], AfterValidator(_of_each_kind)]


class MarginSection(Settings):
    """The ways to measure margins, and which of them is used where a row does not say."""

    method: MarginMethodName = Field("deepfool", description="deepfool | boundary_search (PUMA, Algorithm 1)")

    def named(self, method: str | None) -> MarginMethod:
        """Return the settings of that method; of the default one for None."""
        settings: MarginMethod = getattr(self, method or self.method)
        return settings


if TYPE_CHECKING:
    MarginSettings = MarginSection
else:  # a key for each method that is declared
    MarginSettings = create_model(
        "MarginSettings",
        __base__=MarginSection,
        **{name: (MARGIN_METHODS[name], MARGIN_METHODS[name]()) for name in MARGIN_METHODS},
    )


class RecipeSection(Settings):
    """The recipes at the preset's scale, by name."""

    def named(self, name: str) -> Recipe:
        """Return the recipe of that name."""
        recipe: Recipe = getattr(self, name)
        return recipe

    if TYPE_CHECKING:  # a key for each recipe

        def __getattr__(self, name: str) -> Any: ...


if TYPE_CHECKING:
    Recipes = RecipeSection
else:  # a key for each recipe that is declared
    Recipes = create_model("Recipes", __base__=RecipeSection, **{name: (RECIPES[name], ...) for name in RECIPES})


class Config(Settings):
    """Everything a user can set. ``config.yaml`` overrides the preset it names."""

    preset: Literal["digits", "mnist", "cifar10", "imagenet100"] = Field(description="at what scale everything runs")
    seeds: tuple[int, ...] = Field(min_length=1, description="one training run of each method for each")
    data: DataSettings
    synthetic: SyntheticSettings
    subsets: dict[str, SubsetSettings] = Field({}, description="random parts of generated images, by a name for each")
    unions: dict[str, UnionSettings] = Field({}, description="generated images of several sources, by a name for each")
    selections: dict[str, SelectionSettings] = Field(
        {}, description="the generated images that a classifier is surest of, by a name for each"
    )
    quality: QualitySettings = QualitySettings()
    architecture: Architecture = Field(description="the network that is trained")
    architectures: ArchitectureRoles = ArchitectureRoles()
    checkpoints: dict[str, CheckpointSettings] = Field({}, description="networks trained elsewhere, by a name for each")
    imported: dict[str, ImportedScores] = Field({}, description="scores measured elsewhere, by a name for each")
    margin_model: str | None = Field(
        None, description="the checkpoint that measures scores and margins; null: the TRADES model of the first seed"
    )
    threat: ThreatModel
    other_threat: OtherThreat | None = Field(None, description="of rows that name the other norm; null: none may")
    training: Recipes = Field(description="how models are trained, by recipe")
    weights: Weights = Field(
        "last", description="which weights of a model are scored and evaluated: last, or best in validation"
    )
    margins: MarginSettings = MarginSettings()
    dynamics: DynamicsSettings = DynamicsSettings()
    extrapolation: ExtrapolationSettings = ExtrapolationSettings()
    pruning: PruningSettings = PruningSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    layout: TsneSettings = TsneSettings()
    shared_stores: tuple[Location, ...] = Field(
        (), description="where scores are looked up before they are made, in order: folders | s3://... | https://..."
    )
    publish: Location | None = Field(
        None, description="where 'robustprune store publish' puts scores: a folder | s3://bucket/prefix"
    )
    perceptron: PerceptronSettings = PerceptronSettings()
    feature_model: FeatureModelSettings = FeatureModelSettings()
    clouds: ToySettings = ToySettings()
    report: ReportSettings = ReportSettings()
    execution: Execution = Execution()
    resources: Resources = Field(
        {},
        validate_default=True,
        description="of one job of each kind of stage but those that take seconds; ingest is for images, models and "
        "scores brought in",
    )

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or min(value) < 0:
            raise ValueError("should be different numbers, none below 0")
        return value

    @field_validator("publish")
    @classmethod
    def _writable(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(("http://", "https://")):
            raise ValueError("can only be read; should be a folder or s3://bucket/prefix")
        return value

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        for name in ("threat", "other_threat"):
            self._threat_fits(name)
        for name in Recipes.model_fields:
            self._step_fits(name)
            self._shares_are_used(name)
        for name in self.checkpoints:
            self._checkpoint_fits(name)
        self._checkpoints_are_known()
        if self.other_threat is not None and self.other_threat.norm == self.threat.norm:
            raise ValueError(f"other_threat.norm = {self.other_threat.norm} should not be that of threat")
        self._gpus_are_used()
        self._sets_are_known()
        self._generator_fits()
        if self.data.source == "digits" and (self.data.classes, self.data.image_shape) != (10, (1, 8, 8)):
            raise ValueError("data.source = digits has data.classes: 10 and data.image_shape: [1, 8, 8]")
        return self

    @property
    def image_sets(self) -> dict[str, SelectionSettings | SubsetSettings | UnionSettings]:
        """The subsets, unions and selections, by the source that names each."""
        return {
            **{f"subset:{name}": subset for name, subset in self.subsets.items()},
            **{f"union:{name}": union for name, union in self.unions.items()},
            **{f"selection:{name}": selection for name, selection in self.selections.items()},
        }

    def _generator_fits(self) -> None:
        generator, shape = self.synthetic.generator, self.data.image_shape
        if self.synthetic.source == "generate" and any(side % generator.divisor for side in shape[1:]):
            patches = f" after patch = {generator.patch}" if generator.patch > 1 else ""
            raise ValueError(
                f"synthetic.generator.channel_multipliers has {len(generator.channel_multipliers)} entries, but "
                f"data.image_shape = {list(shape)} cannot be halved that often{patches}"
            )
        if not set(generator.attention_resolutions) <= set(generator.resolutions(shape[1])):
            raise ValueError(
                f"synthetic.generator.attention_resolutions = {list(generator.attention_resolutions)} "
                f"should be among the network's resolutions, {list(generator.resolutions(shape[1]))}"
            )

    def _sets_are_known(self) -> None:
        """Every subset, union and selection that is named exists, none is made of itself, and all shares are used."""
        sets = self.image_sets
        used: dict[str, tuple[str, ...]] = {
            "synthetic.source": (self.synthetic.source,),
            "extrapolation.source": (self.extrapolation.source,),
            **{source.replace(":", "s.", 1): one.sources for source, one in sets.items()},
        }
        for key, sources in used.items():
            for source in sources:
                if source.startswith(("subset:", "union:", "selection:")) and source not in sets:
                    raise ValueError(f"{key}: {source} is not one of those configured: {', '.join(sets) or 'none'}")
        try:
            TopologicalSorter({source: one.sources for source, one in sets.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"these are made of themselves: {' of '.join(reversed(error.args[1]))}") from None
        with_shares = {f"union:{name}" for name, union in self.unions.items() if None not in union.of.values()}
        for source, one in sets.items():
            for part in with_shares.intersection([one.of] if isinstance(one.of, str) else one.of):
                raise ValueError(
                    f"{source.replace(':', 's.', 1)}.of: the shares of {part} hold where a training draws from it, and "
                    "not within another set; put null for each of them"
                )

    def _checkpoints_are_known(self) -> None:
        named = {"margin_model": self.margin_model, "quality.classifier": self.quality.classifier}
        named |= {f"selections.{name}.classifier": selection.classifier for name, selection in self.selections.items()}
        for key, name in named.items():
            if name is not None and name not in self.checkpoints:
                known = ", ".join(self.checkpoints) or "none"
                raise ValueError(f"{key} = {name!r} is not one of the checkpoints: {known}")

    def _gpus_are_used(self) -> None:
        for kind, uses_device in resource_keys().items():
            gpus = self.resources[kind].gpu
            if not uses_device and gpus != 0:
                raise ValueError(f"resources.{kind}.gpu = {gpus} should be 0, as nothing there computes on one")
            trained = kind in ("generators", "models")
            processes = self.execution.processes if trained else 1
            if gpus not in (0, processes):
                why = f"with execution.processes = {processes} it" if trained else "it"
                raise ValueError(f"resources.{kind}.gpu = {gpus}, but {why} should be 0 or {processes}")

    def _checkpoint_fits(self, name: str) -> None:
        checkpoint = self.checkpoints[name]
        normalization, channels = checkpoint.normalization, self.data.image_shape[0]
        if normalization is None and normalization_of(checkpoint.architecture) == "own" and self.data.name != "cifar10":
            raise ValueError(
                f"checkpoints.{name}: {checkpoint.architecture} normalises its input, and only for cifar10 it is known "
                "how; give normalization: {mean: [...], std: [...]}"
            )
        if normalization is not None and {len(normalization.mean), len(normalization.std)} != {channels}:
            raise ValueError(f"checkpoints.{name}.normalization: mean and std should have {channels} values each")

    def _threat_fits(self, name: str) -> None:
        threat: ThreatModel | None = getattr(self, name)
        pixels = math.prod(self.data.image_shape)
        if threat is not None and threat.norm == "L2" and threat.epsilon**2 > pixels:
            raise ValueError(
                f"{name}.epsilon = {threat.epsilon} should be at most {math.sqrt(pixels):.4g}, the L2 distance of a "
                f"white image from a black one of data.image_shape = {list(self.data.image_shape)}"
            )

    def _shares_are_used(self, name: str) -> None:
        shares = getattr(self.training, name).batchnorm_shares
        if shares > 1 and not has_batchnorm(self.architecture):
            raise ValueError(
                f"training.{name}.batchnorm_shares = {shares} should be 1, as architecture = {self.architecture} has "
                "no BatchNorm"
            )

    def _step_fits(self, name: str) -> None:
        step_size = getattr(getattr(self.training, name), "step_size", 0)
        if step_size > 2 * self.threat.epsilon:
            raise ValueError(
                f"training.{name}.step_size = {step_size} should be at most twice "
                f"threat.epsilon = {self.threat.epsilon}"
            )


def preset_names() -> list[str]:
    """Return the names of all presets."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def load_config(overrides: Mapping[str, Any], *, origin: str = "config.yaml") -> Config:
    """Return the preset that ``overrides`` names, with the other keys put over it.

    Raises UserError naming each bad key, its value and what is allowed.
    """
    preset = overrides.get("preset", "digits")
    path = PRESETS / f"{preset}.yaml"
    if not isinstance(preset, str) or not path.is_file():
        known = preset_names()
        raise UserError(
            f"{origin}: preset = {preset!r} is not one of {', '.join(known)}{suggestion(str(preset), known)}"
        )
    return _validated({**merge(read_yaml(path), overrides), "preset": preset}, origin)


def changed(config: Config, overrides: Mapping[str, Any], *, origin: str) -> Config:
    """Return ``config`` with the keys of ``overrides`` put over it, checked as a user's are. Raises UserError."""
    return _validated(merge(config.model_dump(), overrides), origin)


def _validated(values: Mapping[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_sentences(error, origin))) from None


def read_config_file(path: Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration in the file at ``path``, with ``overrides`` put over it.

    As Snakemake does, another file than the working directory's config.yaml is put over that one. Raises UserError.
    """
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; run from the folder that holds the Snakefile, or name it with --configfile"
        )
    values, origin = read_yaml(path), path.name
    if CONFIG_FILE.is_file() and not path.samefile(CONFIG_FILE):
        values, origin = merge(read_yaml(CONFIG_FILE), values), f"{path.name} over {CONFIG_FILE}"
    return load_config(merge(values, overrides or {}), origin=origin)


def _sentences(error: ValidationError, origin: str) -> Iterator[str]:
    for problem in error.errors():
        location = [part for part in problem["loc"] if isinstance(part, (str, int))]
        key = ".".join(str(part) for part in location)
        words = what_is_wrong(problem, Config)
        if problem["type"] == "extra_forbidden":
            if "." in str(location[-1]):
                first, *rest = key.split(".")
                words = f"there is no such key; it is given as '{first}={'{' + ': {'.join(rest)}: ...{'}' * len(rest)}'"
            yield f"{origin}: {key} = {without_credentials(repr(problem['input']))}: {words}"
        elif problem["type"] == "missing":
            yield f"{origin}: {key} {words}"
        elif not location or isinstance(problem["input"], (dict, BaseModel)):
            yield f"{origin}: {key + ': ' if key else ''}{words}"
        else:
            value = str(problem["input"]) if isinstance(problem["input"], Fraction) else repr(problem["input"])
            yield f"{origin}: {key} = {without_credentials(value)}: {words}"
