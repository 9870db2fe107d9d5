"""The report: one page of what was asked for, that needs no network and no server."""
