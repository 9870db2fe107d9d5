"""From configuration and rows to stage specs: one module a kind of stage, as in ``specs``."""
