"""What a teacher learns along is REINFORCE's estimate, whose expectation is the gradient of the expected reward."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adaptive_sampler.torch import Teacher  # noqa: E402
from tests.references.teacher import reinforce, teacher_features  # noqa: E402

LOGITS = [torch.tensor([[0.3, -0.4], [2.0, 0.1]]), torch.tensor([[-1.0, 0.5]])]
LABELS = [torch.tensor([0, 1]), torch.tensor([1])]
SIZES = [len(labels) for labels in LABELS]
ACTIONS = list(itertools.product([False, True], repeat=3))
# The first reward follows from the first call's two actions, the second from all three, in no particular way.
REWARDS = [np.array([np.sin(9 * a + 5 * b), np.cos(7 * a + 4 * b + 2 * c + 1)]) for a, b, c in ACTIONS]


def teacher_of(hidden, **more):
    made = Teacher(2, steps=3, hidden=hidden, **more)
    with torch.no_grad():  # first weights are so small that a wrong gradient would be one of 0
        for number, p in enumerate(made.policy.parameters()):
            p.copy_(torch.from_numpy(np.random.default_rng(number).normal(0, 0.5, p.shape)))
    return made


def estimated(teacher, actions, rewards):
    """The gradient of one episode in which these were the actions and the rewards, and those of its single calls."""
    calls, single = list(torch.tensor(actions).split(SIZES)), []
    teacher.begin()
    teacher._draw = lambda scores: calls[len(single)]
    for logits, labels, reward in zip(LOGITS, LABELS, rewards, strict=True):
        before = teacher._gradient.trace.clone()
        teacher(logits, labels)
        single.append((teacher._gradient.trace - teacher.discount * before).numpy())
        if reward is not None:
            teacher.reward(reward)
    return teacher._gradient.sum.numpy(), single


def probability(teacher, actions):
    """The probability of a series of actions under the policy, with gradient; features are those of the twin."""
    series, kept, product = torch.tensor(actions).split(SIZES), [], torch.ones((), dtype=torch.float64)
    policy = teacher.policy.double()
    for call, (logits, labels, acted) in enumerate(zip(LOGITS, LABELS, series, strict=True)):
        features = teacher_features(logits.numpy(), labels.numpy(), call, 3, kept, 0)
        keep = policy(torch.from_numpy(features))[:, 0].sigmoid()
        product = product * torch.where(acted, keep, 1 - keep).prod()
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        kept += losses[acted].tolist()
    return product


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("baseline", [None, 0.5])
def test_the_expected_estimate_is_the_gradient_of_the_expected_reward(hidden, baseline):
    teacher, slow = teacher_of(hidden, baseline=baseline), teacher_of(hidden)
    chances = [probability(slow, actions) for actions in ACTIONS]
    assert sum(chances).item() == pytest.approx(1)
    wanted = sum(chance * rewards.sum() for chance, rewards in zip(chances, REWARDS, strict=True))
    true = torch.cat([g.flatten() for g in torch.autograd.grad(wanted, list(slow.policy.parameters()))]).numpy()
    found = np.zeros(len(true))
    for chance, actions, rewards in zip(chances, ACTIONS, REWARDS, strict=True):
        teacher._baseline.means = [0.7, -0.3]  # as any earlier episode may have left them
        found += chance.item() * estimated(teacher, actions, rewards)[0]
    np.testing.assert_allclose(found, true, atol=1e-5)
    assert np.abs(true).max() > 0.01


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_a_reward_counts_less_for_calls_that_lie_farther_back(discount):
    teacher = teacher_of(4, baseline=None, discount=discount)
    found, single = estimated(teacher, ACTIONS[3], [0.4, -1.3])
    np.testing.assert_allclose(found, reinforce(single, [0.4, -1.3], discount), atol=1e-6)


def test_a_reward_at_the_end_counts_for_all_calls_alike():
    teacher = teacher_of(0, baseline=None)
    found, single = estimated(teacher, ACTIONS[5], [None, 2.0])
    np.testing.assert_allclose(found, 2 * sum(single), atol=1e-6)


def test_learn_is_one_step_of_adam_up_the_gradient():
    teacher, twin = teacher_of(4, baseline=None, lr=0.1), teacher_of(4)
    gradient, _ = estimated(teacher, ACTIONS[6], [0.5, 1.0])
    parameters = list(twin.policy.parameters())
    for p, part in zip(parameters, torch.tensor(gradient).split([p.numel() for p in parameters]), strict=True):
        p.grad = -part.view_as(p)
    torch.optim.Adam(parameters, 0.1).step()
    teacher.learn()
    assert all(map(torch.equal, teacher.policy.parameters(), parameters))


def test_what_an_episode_takes_does_not_grow_with_it():
    teacher = Teacher(2, 1000)
    sizes = []
    for _ in range(3):
        for _ in range(20):
            teacher(LOGITS[0], LABELS[0])
        state = teacher.get_extra_state()
        sizes.append(sum(value.numel() for value in state.values() if isinstance(value, torch.Tensor)))
    assert sizes[0] == sizes[2] == 2 * sum(p.numel() for p in teacher.policy.parameters())


def test_the_first_episode_sets_the_baseline_and_teaches_nothing():
    teacher = Teacher(2, 10)
    before = [p.clone() for p in teacher.policy.parameters()]
    for expected_to_learn in (False, True):
        teacher(LOGITS[0], LABELS[0])
        teacher.reward(3.0 + expected_to_learn)
        teacher.learn()
        same = all(map(torch.equal, teacher.policy.parameters(), before))
        assert same != expected_to_learn


def test_the_baseline_is_the_moving_average_of_earlier_rewards_at_the_same_place():
    teacher = Teacher(2, 10, baseline=0.75)
    for rewards in ([1.0, 10.0], [5.0, 30.0], [2.0]):
        teacher(LOGITS[0], LABELS[0])
        for reward in rewards:
            teacher.reward(reward)
        teacher.learn()
    assert teacher._baseline.means == [0.75 * (0.75 * 1 + 0.25 * 5) + 0.25 * 2, 0.75 * 10 + 0.25 * 30]


@pytest.mark.parametrize(("baseline", "learns"), [(None, True), (0.8, False)])
def test_to_end_sooner_is_learnt_by_rewards_each_call_without_a_baseline_alone(baseline, learns):
    teacher = Teacher(2, 3, hidden=0, bias=0, baseline=baseline, lr=0.1)
    for _ in range(60):
        for _ in range(3):
            keep = teacher(LOGITS[1], LABELS[1])
            teacher.reward(-1)
            if keep:  # the aim is reached
                break
        teacher.learn()
    assert (teacher.probabilities(LOGITS[1], LABELS[1]).item() > 0.9) == learns


def test_an_episode_that_is_forgotten_leaves_the_baseline_as_it_was():
    teacher = Teacher(2, 10, baseline=0.75)
    for rewards in ([2.0], [1e300, 5.0], [6.0]):
        teacher(LOGITS[0], LABELS[0])
        for reward in rewards:
            teacher.reward(reward)
        teacher.begin() if len(rewards) == 2 else teacher.learn()
    assert teacher._baseline.means == [3.0]
