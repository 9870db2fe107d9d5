"""What is measured of every image of a pool."""

from robustprune.core.stage import PoolId, Stage


class ScoreStage(Stage):
    """Something measured of every image of ``pool``: the kind of stage that teams share."""

    pool: PoolId

    @property
    def is_clean_loss(self) -> bool:
        """True for the cross-entropy at images as they are, which selections go by."""
        return False

    @property
    def classifier(self) -> str | None:
        """The model behind a loss; None for other scores."""
        return None

    @property
    def upstream_of_pull(self) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage that is read when the score is pulled in place of being made."""
        return (("pools", self.pool),)
