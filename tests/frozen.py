"""Loaded last by the server of forks: what it has loaded is never garbage, so no fork looks through it, copying each page."""

import gc

gc.collect()
gc.freeze()
