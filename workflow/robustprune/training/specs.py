"""Classifiers: trained here, or brought in."""

RECORDING_MODULES = ("attacks.cross_entropy", "attacks.inputs", "attacks.margin_loss", "training.dynamics")
MARGIN_MODULES = (
    "attacks.margin_loss",
    "attacks.norms",
    "margins.active_set",
    "margins.bisection",
    "margins.signed",
    "margins.walk",
)
"""What runs in measuring margins whatever the method; the method's own module comes on top."""
MID_TRAINING_MODULES = (
    "attacks.cross_entropy",
    *MARGIN_MODULES,
    "margins.deepfool",
    "pruning.candidates",
    "pruning.strategies",
    "training.mid_training",
)
