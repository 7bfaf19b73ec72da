"""Tests of the adapters to torch, and of what trains by it.

A loader's persistent workers that become garbage together with it get no word to stop, and the loader waits five seconds for
them before it ends them (torch 2.13). The tests drop hundreds of loaders, so here it waits less.
"""

from torch.utils.data import _utils

_utils.MP_STATUS_CHECK_INTERVAL = 0.5
