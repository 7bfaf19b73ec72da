"""One thread, because two cores are shared and sums must not depend on how they are split."""

import torch

torch.set_num_threads(1)
