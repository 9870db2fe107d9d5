"""What a place says of a store: one small JSON file, and the same for people, its card.

An entry comes from a stranger, so it is a closed model of numbers, ids and short printable texts, and what it says is
compared with the store itself, and with the reader's own plan and pool, before anything is used.
"""

import json
import string
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from robustprune.core.errors import UserError
from robustprune.core.registry import stage_from
from robustprune.core.settings import COLUMN_PATTERN, DIGEST_PATTERN
from robustprune.core.stage import ID_PATTERN, hash_of
from robustprune.scores.score import Easy, ScoreStage

LARGEST_ENTRY = 2**20  # bytes; they have a few thousand
CARD_FILE = "card.md"
MARKUP = set("<>`\\")  # what a page that shows a card could take for more than text


def _plain(text: str) -> str:
    """The text, if it is a line of printable characters without markup."""
    if not text.isprintable() or MARKUP & set(text):
        raise ValueError(f"should be one line of printable text without {' '.join(sorted(MARKUP))}")
    return text


Text = Annotated[str, Field(max_length=500), AfterValidator(_plain)]
Key = Annotated[str, Field(pattern=r"^[\w.%+-]{1,40}$")]
Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$", max_length=200)]
Column = Annotated[str, Field(pattern=COLUMN_PATTERN)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Closed(BaseModel):
    """Nothing but what is named, and finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Said(Closed):
    """Meaning of the score, as ``scores.score.Meaning``."""

    column: Column
    unit: Text
    easy: Easy
    sign: Text


class Bars(Closed):
    """A histogram, as ``scores.distribution.Histogram``."""

    width: float = Field(gt=0)
    first: int = Field(gt=-(2**62), lt=2**62)
    counts: list[Count] = Field(max_length=1000)


class Made(Closed):
    """Record of how it was made."""

    finished: Text
    seconds: float = Field(ge=0)
    device: Text
    versions: dict[Key, Text] = Field(max_length=50)


class Entry(Closed):
    """A store that is shared."""

    schema_version: Literal[1] = 1
    id: Id
    spec: dict[str, Any]
    definitions: dict[Key, int] = Field(max_length=100)
    group_digest: str = Field(pattern=DIGEST_PATTERN)  # SHA-256 of the store's zarr.json, which has its files' seals
    size: Count  # bytes
    rows: int = Field(gt=0, lt=2**63)
    columns: dict[Column, Literal["float16", "float32", "int16", "bool"]] = Field(min_length=1, max_length=64)
    score: Said
    pool_digest: str = Field(pattern=DIGEST_PATTERN)
    pool_source: Text
    model_digest: str | None = Field(pattern=DIGEST_PATTERN)
    negative: Count
    censored: Count
    quantiles: dict[Key, float | None] = Field(max_length=100)
    histogram: Bars
    images_by_class: dict[Key, Count] = Field(max_length=100_000)
    made: Made
    licence: Text
    published: Text

    def dump(self) -> bytes:
        """The file's content."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    def parsed_spec(self) -> ScoreStage:
        """Return the stage that made it. Raises UserError for none, or another id under the entry's definitions."""
        try:
            spec = stage_from(self.spec)
        except LookupError as error:
            raise UserError(f"{self.id}: its spec is none: {plain_text(str(error))}") from None
        except ValidationError as error:
            raise UserError(f"{self.id}: its spec is none: {_first_problem(error)}") from None
        if not isinstance(spec, ScoreStage):
            raise UserError(f"{self.id}: its spec is of kind {spec.kind}, but only scores are shared")
        if (own := f"{spec.slug}-{hash_of(self.spec, self.definitions)}") != self.id:
            raise UserError(f"{self.id}: its spec is not of that id, but of {own}")
        return spec


def read_entry(content: bytes, *, origin: str, stage_id: str) -> Entry:
    """Return the entry that a place has. Raises UserError naming a wrong key, or for the entry of another store."""
    try:
        entry = Entry.model_validate(json.loads(content, parse_constant=_refuse))
    except ValidationError as error:
        raise UserError(f"{origin} is not the entry of a shared store: {_first_problem(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin} is not the entry of a shared store ({type(error).__name__}: {error})") from None
    if entry.id != stage_id:
        raise UserError(f"{origin} is the entry of {entry.id}, another store")
    return entry


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{plain_text('.'.join(str(part) for part in problem['loc']))}: {problem['msg']}"


def plain_text(text: str) -> str:
    """A text of ours as an entry may have it."""
    kept = "".join(letter if letter.isprintable() and letter not in MARKUP else " " for letter in text)
    return " ".join(kept.split())[:500]


def card(entry: Entry) -> str:
    """Return the entry as a page of Markdown."""
    from robustprune.scores.distribution import Histogram  # brings numpy, which a plan does without

    reads = [f"{kind}/{stage}" for kind, stage in entry.parsed_spec().upstream]
    bars = Histogram(entry.histogram.width, entry.histogram.first, tuple(entry.histogram.counts))
    bars = bars.coarser(max(1, -(-len(bars.counts) // 20)))
    values = {
        "what": f"{entry.score.column} of {entry.rows:,} images; columns {', '.join(entry.columns)}",
        "unit": entry.score.unit,
        "sign": f"the {entry.score.easy} end is easy: {entry.score.sign}",
        "pool": f"{entry.pool_source}; digest {entry.pool_digest}",
        "made from": ", ".join(reads),
        "weights of the model": f"BLAKE3 {entry.model_digest}" if entry.model_digest else "see made from",
        "negative": f"{entry.negative:,}",
        "censored": f"{entry.censored:,} (not finite)",
        "images of each class": ", ".join(f"{name}: {count:,}" for name, count in entry.images_by_class.items()),
        "quantiles": ", ".join(f"{name}: {value:.6g}" for name, value in entry.quantiles.items() if value is not None),
        "made": f"{entry.made.finished}, in {entry.made.seconds:,.0f} s on {entry.made.device}",
        "size": f"{entry.size / 2**20:,.1f} MiB",
        "licence": entry.licence,
        "published": entry.published,
    }
    lines = [f"- {key}: {value}".replace("[", "\\[") for key, value in values.items()]  # no links
    settings = json.dumps(entry.spec, indent=1)
    return CARD.substitute(id=entry.id, lines="\n".join(lines), bars="\n".join(bars.lines()), settings=settings)


CARD = string.Template("""# $id

A column of scores, a row an image of its pool; neither images nor model are needed to use it, but the same pool.

$lines

Lower edge, images:

```
$bars
```

Settings:

```json
$settings
```

To use it, name this place under `shared_stores` in config.yaml, or take it by itself:

    robustprune store pull $id --from PLACE --to FOLDER
""")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
