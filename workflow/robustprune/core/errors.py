"""The two ways a run ends early on purpose."""


class UserError(Exception):
    """Something a user can put right, in one sentence: what is wrong, the value, and what is allowed."""

    exit_code = 2


class Interrupted(Exception):
    """A signal asked the job to stop; a checkpoint is saved, and the same command resumes from it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again
