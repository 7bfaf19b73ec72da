"""The demo trains with torch: on one thread, because two cores are shared; and not at all where there is no torch."""

try:
    import torch
except ImportError:
    collect_ignore = ["test_demo.py"]
else:
    torch.set_num_threads(1)
