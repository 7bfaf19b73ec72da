"""A compiled step records what an eager one does, in a process that has run no kernel before."""

import subprocess
import sys

import pytest

CODE = """
import sys
import torch
from torch import nn
from adaptive_sampler import ScoreStore
from adaptive_sampler.scoring import EL2N, Forgetting, Loss, Margin
from adaptive_sampler.torch import IndexedDataset, LossHook

backend, full = sys.argv[1], sys.argv[2] == "full"
torch.manual_seed(0)
model = nn.Linear(4, 3)
data = torch.utils.data.TensorDataset(torch.randn(20, 4), torch.arange(20) % 3)
loader = torch.utils.data.DataLoader(IndexedDataset(data), batch_size=8)


def hooked():
    return LossHook(nn.CrossEntropyLoss(), ScoreStore.create(None, 20, [EL2N(), Loss(), Forgetting(), Margin()]))


hook, eager = hooked(), hooked()


@torch.compile(backend=backend, fullgraph=full)
def step(x, y):
    return hook(model(x), y)


@torch.compile(backend=backend)
def named(x, y, rows):
    return 2 * hook(model(x), y, rows=rows)


try:
    for _ in range(2):
        for x, y in hook.watch(loader):
            step(x, y).backward()
    for rows, (x, y) in loader:
        named(x, y, rows).backward()
except torch._dynamo.exc.Unsupported as error:
    print("unsupported:", "without fullgraph=True, or compile the model alone" in str(error))
    sys.exit()
for _ in range(3):
    for x, y in eager.watch(loader):
        eager(model(x), y).backward()
for name in eager.store.names:
    ours, theirs = hook.store[name], eager.store[name]
    print(name, abs(ours - theirs).max() < 1e-6 or (ours == theirs).all(), set(hook.store.count(name)) == {3})
"""


def run(*arguments):
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_step_records_what_an_eager_one_does(backend):
    assert run(backend, "breaks") == [f"{name} True True" for name in ("el2n", "loss", "forgetting", "margin")]


def test_where_the_graph_may_not_break_the_error_says_what_to_do():
    assert run("eager", "full") == ["unsupported: True"]
