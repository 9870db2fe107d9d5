"""A gallery in words and numbers: which methods prune by its scores, how much, and where they cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from robustprune.core.files import data_uri
from robustprune.pruning.settings import ENDS, End
from robustprune.report.gallery_content import Choice, Gallery, GallerySource, read_gallery, sprite_file
from robustprune.report.provenance import MadeStage, manifests_of

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.core.stage import Stage
    from robustprune.experiments.tables.table import TableStage
    from robustprune.pruning.prune import ManifestStage
    from robustprune.report.gallery_cuts import Cut
    from robustprune.report.gallery_stage import GalleryStage
    from robustprune.scores.score import Meaning

DEFINITION = {"report.explorer": 3}

DIGITS = 3  # of scores on the page

Ends = Mapping[str, tuple[str, str]]
"""Title and explanation of each end of the scores, by its name in a gallery."""
ENDS_OF_MARGINS: Ends = {
    "highest": ("Highest margins", "the easiest images: what PUMA drops first, after infinite margins"),
    "lowest": ("Lowest positive margins", "right, but next to being wrong"),
    "negative": ("Negative margins", "taken for another class: hard images, or wrong labels"),
    "endless": ("Infinite margins", "censored: no boundary was found"),
}


class Dropped(NamedTuple):
    """How many of some images are dropped."""

    dropped: int
    images: int

    @property
    def percent(self) -> float:
        """Share in percent; 0 of nothing."""
        return 100 * self.dropped / self.images if self.images else 0.0


class Pruned(NamedTuple):
    """A manifest in words.

    Attributes:
        names: the methods whose models learn from the kept images.
        phrase: which images it drops.
        all: of the images that could be dropped, those with a score.
        held_out: images for validation.
        cuts: a sentence for each place where it cuts.
    """

    names: str
    phrase: str
    all: Dropped
    sources: list[Dropped]
    held_out: int
    classes: dict[str, Dropped]
    cuts: list[str]

    @property
    def most(self) -> str:
        """The class with the largest share of dropped images."""
        return max(self.classes, key=lambda name: self.classes[name].percent)

    @property
    def least(self) -> str:
        """The class with the smallest share of dropped images."""
        return min(self.classes, key=lambda name: self.classes[name].percent)


class Explorer(NamedTuple):
    """A gallery on the page.

    Attributes:
        number: among the galleries.
        title: the name of the scores.
        sources: a name for each source.
        data: for the page's script, as JSON.
        sprites: the file of each source, as a data URI.
    """

    number: int
    title: str
    meaning: Meaning
    sources: list[str]
    pruned: list[Pruned]
    data: dict[str, Any]
    sprites: list[str]


def explorers(job: Job, stages: Mapping[str, MadeStage], galleries: Iterable[str]) -> list[Explorer]:
    """Return each gallery as the page shows it; ``stages`` are all stages behind the report, by id."""
    specs = {stage_id: stage.spec for stage_id, stage in stages.items()}
    names = _names(specs)
    return [
        _explorer(number, job.upstream("galleries", gallery), cast("GalleryStage", specs[gallery]), specs, names)
        for number, gallery in enumerate(galleries)
    ]


def _names(specs: Mapping[str, Stage]) -> dict[str, str]:
    """Return for each manifest the methods that learn from the images it keeps, each once."""
    methods: dict[str, dict[str, None]] = {}
    for spec in specs.values():
        if spec.kind == "tables":
            for manifest, learning in manifests_of(cast("TableStage", spec), specs).items():
                methods.setdefault(manifest, {}).update(dict.fromkeys(learning))
    return {manifest: ", ".join(learning) for manifest, learning in methods.items()}


def _explorer(
    number: int, directory: Path, spec: GalleryStage, specs: Mapping[str, Stage], names: Mapping[str, str]
) -> Explorer:
    gallery = read_gallery(directory)
    manifests = [cast("ManifestStage", specs[choice.manifest]) for choice in gallery.choices]
    labels = _labels(gallery.sources)
    pruned = [
        _pruned(gallery, choice, manifest, names.get(choice.manifest, manifest.strategy))
        for choice, manifest in zip(gallery.choices, manifests, strict=True)
    ]
    margin = is_margin(gallery.score, spec, specs)
    ends = ENDS_OF_MARGINS if margin else _ends(gallery.score)
    epsilons = [float(manifest.radius.epsilon) if margin else None for manifest in manifests]
    return Explorer(
        number=number,
        title=gallery.score.column.replace("_", " "),
        meaning=gallery.score,
        sources=labels,
        pruned=pruned,
        data=_data(gallery, labels, pruned, ends=ends, epsilons=epsilons),
        sprites=[data_uri(directory / sprite_file(place), "image/webp") for place in range(len(gallery.sources))],
    )


def _labels(sources: list[GallerySource]) -> list[str]:
    """Return ``real`` and ``generated``, with a name where there are several of a kind."""
    kinds = [source.kind for source in sources]
    return [source.kind if kinds.count(source.kind) == 1 else f"{source.kind} ({source.name})" for source in sources]


def _pruned(gallery: Gallery, choice: Choice, spec: ManifestStage, names: str) -> Pruned:
    dropped = np.array(choice.dropped)  # by source, class and bin
    held_out = np.array(choice.held_out)
    candidates = np.array([source.counts for source in gallery.sources]) - held_out
    by_class = zip(gallery.classes, dropped.sum(axis=(0, 2)), candidates.sum(axis=(0, 2)), strict=True)
    by_source = zip(dropped.sum(axis=(1, 2)), candidates.sum(axis=(1, 2)), strict=True)
    return Pruned(
        names=names,
        phrase=_phrase(spec, gallery.score),
        all=Dropped(int(dropped.sum()), int(candidates.sum())),
        sources=[Dropped(int(gone), int(images)) for gone, images in by_source],
        held_out=int(held_out.sum()),
        classes={name: Dropped(int(gone), int(images)) for name, gone, images in by_class},
        cuts=[_sentence(cut, gallery.score) for cut in choice.cuts if cut.group == "all"],
    )


def _phrase(spec: ManifestStage, meaning: Meaning) -> str:
    """Return the phrase that says which images a manifest drops."""
    ends = " and ".join(_end(end, meaning) for end in ENDS[spec.strategy])
    where = {"all": "", "class": ", of each class as large a share", "source": ", of each source as large a share"}
    among = {"all": "", "real": " among the real ones", "synthetic": " among the generated ones"}
    return (ends or "none") + among[spec.among] + where[spec.per]


def _end(end: End, meaning: Meaning) -> str:
    column = meaning.column.replace("_", " ")
    other = {"high": "low", "low": "high"}[meaning.easy]
    match end:
        case "chance":
            return "images drawn at random"
        case "middle":
            return f"those whose {column} is nearest to the mean"
    side = {"easy": meaning.easy, "difficult": other}.get(end, end)
    words = "highest" if side == "high" else "lowest"
    return f"those of {words} {column} (the {'easiest' if side == meaning.easy else 'most difficult'})"


def _sentence(cut: Cut, meaning: Meaning) -> str:
    column = meaning.column.replace("_", " ")
    if cut.at is None:
        return f"It cuts among the images whose {column} is infinite."
    if cut.partly:
        return f"It cuts at a {column} of {cut.at:.{DIGITS}g}: all {cut.side} are dropped, and some of those at it."
    direction = {"above": "up", "below": "down"}[cut.side]
    return f"It cuts at a {column} of {cut.at:.{DIGITS}g}: from there {direction} all are dropped."


def is_margin(meaning: Meaning, gallery: GalleryStage, specs: Mapping[str, Stage]) -> bool:
    """Return True if scores are distances in the norm of the attack: measured as such, or imported and used as radii.

    ``specs`` has at least the gallery's scores and manifests, by id.
    """
    manifests = (specs[manifest] for manifest in gallery.manifests)
    if any(one.kind == "manifests" and cast("ManifestStage", one).margins == gallery.scores for one in manifests):
        return True
    imported = any(getattr(specs[score], "score", "") == "imported" for score in gallery.scores)
    return meaning.column == "margin" and not imported


def _data(
    gallery: Gallery, labels: list[str], pruned: list[Pruned], *, ends: Ends, epsilons: list[float | None]
) -> dict[str, Any]:
    return {
        "score": gallery.score.column.replace("_", " "),
        "ends": [
            {"end": end, "title": title, "why": why}
            for end, (title, why) in ends.items()
            if any(source.ends[end] for source in gallery.sources)
        ],
        "edges": [float(f"{edge:.6g}") for edge in gallery.edges],
        "lowest": gallery.lowest,
        "highest": gallery.highest,
        "classes": gallery.classes,
        "sources": [
            {
                "name": label,
                "counts": source.counts,
                "shown": [[one.row, one.label, one.bin, one.score, one.prediction] for one in source.shown],
                "ends": source.ends,
                "grid": source.grid._asdict(),
            }
            for label, source in zip(labels, gallery.sources, strict=True)
        ],
        "choices": [
            {
                "name": one.names,
                "dropped": choice.dropped,
                "heldOut": choice.held_out,
                "fates": ["".join(map(str, fates)) for fates in choice.shown],
                "cuts": [[_place(cut.group, gallery), cut.side, cut.at, cut.partly] for cut in choice.cuts],
                "epsilon": epsilon,
            }
            for one, choice, epsilon in zip(pruned, gallery.choices, epsilons, strict=True)
        ],
    }


def _ends(meaning: Meaning) -> Ends:
    column = meaning.column.replace("_", " ")
    high, low = ("easiest", "most difficult") if meaning.easy == "high" else ("most difficult", "easiest")
    return {
        "highest": (f"Highest {column}", f"the {high} images"),
        "lowest": (f"Lowest {column}", f"the {low} images, negative ones apart"),
        "negative": (f"Negative {column}", "below 0"),
        "endless": (f"Infinite {column}", "the score has no finite value"),
    }


def _place(group: str, gallery: Gallery) -> dict[str, Any]:
    """Return where a cut holds: everywhere, in a class, or in the sources of a pool."""
    if group == "all":
        return {}
    if group.isdigit():
        return {"class": int(group)}
    return {"sources": [number for number, source in enumerate(gallery.sources) if source.pool == group]}
