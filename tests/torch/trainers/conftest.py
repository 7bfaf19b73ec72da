"""TRL reports its use over the network, but not where it sees a build machine; and nothing is looked for on a hub."""

import os

os.environ["CI"] = os.environ["HF_HUB_OFFLINE"] = "1"
