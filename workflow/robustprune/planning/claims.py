"""Which of a paper's claims are judged in a configuration."""

from typing import Any, TypeVar

from pydantic import BaseModel

Entry = TypeVar("Entry", bound=BaseModel)


def with_claims_on(data: str, entry: Entry) -> Entry:
    """A table or figure without the claims that its paper makes of another data set than ``data``."""
    claims: tuple[Any, ...] = getattr(entry, "claims", ())
    made = tuple(claim for claim in claims if claim.data in (None, data))
    return entry if made == claims else entry.model_copy(update={"claims": made})
