"""Where half of the samples have labels drawn at random, the teacher learns to leave those out that are wrong."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adaptive_sampler.torch import Teacher  # noqa: E402

CALLS, BATCH, INPUTS = 50, 16, 10


def samples(seed, number, noise):
    """Two classes apart along the first axis -> inputs, labels given, and which of them are wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, number)
    inputs = rng.normal(size=(number, INPUTS))
    inputs[:, 0] += 3.0 * labels - 1.5
    given = np.where(rng.random(number) < noise, rng.integers(0, 2, number), labels)
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(given), torch.tensor(given != labels)


def episode(teacher, seed):
    """Train a linear model; each call is rewarded by how far the loss of 300 clean samples fell -> the model."""
    inputs, labels, _ = samples(seed, CALLS * BATCH, noise=0.5)
    clean_inputs, clean_labels, _ = samples(10**6 + seed, 300, noise=0)
    torch.manual_seed(seed)
    model = torch.nn.Linear(INPUTS, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    loss_of = torch.nn.functional.cross_entropy
    before = loss_of(model(clean_inputs), clean_labels).item()
    for x, y in zip(inputs.split(BATCH), labels.split(BATCH), strict=True):
        logits = model(x)
        if (keep := teacher(logits, y)).any():
            optimizer.zero_grad()
            loss_of(logits[keep], y[keep]).backward()
            optimizer.step()
        now = loss_of(model(clean_inputs), clean_labels).item()
        teacher.reward(before - now)
        before = now
    teacher.learn()
    return model


def test_a_teacher_learns_to_drop_wrong_labels_in_few_episodes():
    teacher = Teacher(2, CALLS, hidden=0, lr=0.1, discount=0.0)
    for number in range(25):
        model = episode(teacher, number)
    inputs, labels, wrong = samples(seed=-1 % 2**32, number=1000, noise=0.5)
    kept = teacher.eval().probabilities(model(inputs), labels)
    assert kept[~wrong].mean() > 0.7
    assert kept[wrong].mean() < 0.4
