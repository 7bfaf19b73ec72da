"""A teacher keeps or filters, says what it cannot do, and goes on exactly wherever it was stopped."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adaptive_sampler.errors import InvalidValue, NotFinite, ResumeError  # noqa: E402
from adaptive_sampler.torch import Teacher, sooner  # noqa: E402

LABELS = torch.arange(8) % 3


def logits(call):
    return torch.from_numpy(np.random.default_rng(call).normal(size=(8, 3)).astype(np.float32))


def call(teacher, number):
    """One call of an episode of five, with what the loop tells and the episode's end."""
    keep = teacher(logits(number), LABELS)
    teacher.validated((number % 5) / 5)
    teacher.reward(float(np.sin(number)))
    if number % 5 == 4:
        teacher.learn()
    return keep.tolist()


def test_a_new_teacher_keeps_nearly_everything():
    assert Teacher(3, 10).probabilities(logits(0), LABELS).tolist() == pytest.approx([0.88] * 8, abs=0.01)


def test_what_is_kept_has_the_policys_probability():
    teacher = Teacher(3, 10, bias=0.5).eval()
    kept = np.mean([teacher(logits(0), LABELS).tolist() for _ in range(400)])
    assert kept == pytest.approx(0.622, abs=4 * math.sqrt(0.622 * 0.378 / 3200))


def test_the_same_seed_draws_the_same_and_no_global_generator_is_touched():
    before = torch.get_rng_state()
    one, two, other = Teacher(3, 10, bias=0), Teacher(3, 10, bias=0), Teacher(3, 10, bias=0, seed=1)
    drawn = [[t(logits(n), LABELS).tolist() for n in range(4)] for t in (one, two, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]
    assert torch.equal(torch.get_rng_state(), before)


def test_another_episode_draws_anew():
    teacher = Teacher(3, 10, bias=0)
    first = teacher(logits(0), LABELS).tolist()
    teacher.begin()
    assert teacher(logits(0), LABELS).tolist() != first


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_it_learns_whatever_mode_the_model_runs_in(mode):
    teacher, wanted = Teacher(3, 10), Teacher(3, 10)
    wanted(logits(0), LABELS)
    with mode():
        keep = teacher(logits(0).requires_grad_() * 1, LABELS)
    assert not keep.requires_grad
    assert torch.equal(teacher._gradient.trace, wanted._gradient.trace)


def test_autocast_does_not_reach_it():
    teacher, wanted = Teacher(3, 10), Teacher(3, 10)
    with torch.autocast("cpu", torch.bfloat16):
        teacher(logits(0), LABELS)
        assert teacher.probabilities(logits(1), LABELS).dtype == torch.float32
    wanted(logits(0), LABELS)
    assert torch.equal(teacher._gradient.trace, wanted._gradient.trace)


def test_an_empty_batch_keeps_nothing_and_counts_as_no_call():
    teacher = Teacher(3, 10)
    before = repr(teacher.state_dict())
    assert teacher(torch.zeros(0, 3), LABELS[:0]).shape == (0,)
    assert repr(teacher.state_dict()) == before


def test_a_batch_of_one_is_taken():
    assert Teacher(3, 10)(logits(0)[:1], LABELS[:1]).shape == (1,)


def test_in_eval_nothing_is_recorded_and_the_training_is_still_followed():
    teacher = Teacher(3, 10).eval()
    teacher(logits(0), LABELS)
    assert not teacher._gradient.trace.any()
    assert teacher._student.calls == 1


def test_greedy_keeps_what_has_a_half_or_more():
    teacher = Teacher(3, 10, hidden=0, bias=0).eval()
    with torch.no_grad():
        teacher.policy.weight.zero_()
        teacher.policy.weight[0, -1] = -1.0  # the margin
    keep = teacher(logits(3), LABELS, greedy=True)
    assert keep.tolist() == (teacher.probabilities(logits(3), LABELS) >= 0.5).tolist()
    assert 0 < keep.sum() < 8


def test_greedy_while_it_learns_is_refused_and_eval_is_the_remedy():
    teacher = Teacher(3, 10)
    with pytest.raises(InvalidValue, match=r"Call teacher.eval\(\)"):
        teacher(logits(0), LABELS, greedy=True)
    assert len(teacher.eval()(logits(0), LABELS, greedy=True)) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, None, True])
def test_a_reward_that_is_no_number_is_refused_and_begin_is_the_remedy(value):
    teacher = Teacher(3, 10)
    teacher(logits(0), LABELS)
    with pytest.raises(InvalidValue, match=r"a finite number is needed.*teacher.begin\(\)"):
        teacher.reward(value)
    teacher.begin()
    assert not teacher._gradient.trace.any()


def test_a_reward_before_any_call_is_refused():
    teacher = Teacher(3, 10)
    with pytest.raises(InvalidValue, match="before the teacher has seen a batch"):
        teacher.reward(1.0)
    teacher(logits(0), LABELS)
    teacher.reward(1.0)


def test_a_reward_in_eval_is_refused():
    teacher = Teacher(3, 10).eval()
    teacher(logits(0), LABELS)
    with pytest.raises(InvalidValue, match=r"teacher.train\(\)"):
        teacher.reward(1.0)


def test_learning_without_a_reward_is_refused():
    teacher = Teacher(3, 10)
    teacher(logits(0), LABELS)
    with pytest.raises(InvalidValue, match="without a reward"):
        teacher.learn()


def test_rewards_beyond_float32_leave_the_policy_as_it_was_and_begin_is_the_remedy():
    teacher = Teacher(3, 10, baseline=None)
    teacher(logits(0), LABELS)
    teacher.reward(1e300)
    before = [p.clone() for p in teacher.policy.parameters()]
    with pytest.raises(NotFinite, match=r"call begin\(\)"):
        teacher.learn()
    assert all(map(torch.equal, teacher.policy.parameters(), before))
    teacher.begin()
    call(teacher, 4)


def test_a_copy_learns_for_itself():
    teacher = Teacher(3, 10, baseline=None)
    twin, before = copy.deepcopy(teacher), repr(teacher.state_dict())
    call(twin, 4)
    assert repr(teacher.state_dict()) == before
    call(teacher, 4)
    assert repr(teacher.state_dict()) == repr(twin.state_dict()) != before


@pytest.mark.parametrize("accuracy", [97.0, -0.1, math.nan])
def test_an_accuracy_is_a_share(accuracy):
    with pytest.raises(InvalidValue, match=r"accuracy=.*from 0 to 1"):
        Teacher(3, 10).validated(accuracy)


@pytest.mark.parametrize(
    "named",
    [
        *({"classes": 1}, {"steps": 0}, {"hidden": -1}, {"more": 1.5}, {"seed": -1}, {"bias": math.inf}),
        *({"lr": -1}, {"discount": 1.1}, {"baseline": math.nan}),
    ],
)
def test_an_argument_that_breaks_a_rule_is_named(named):
    with pytest.raises(InvalidValue, match=next(iter(named))):
        Teacher(**{"classes": 3, "steps": 10} | named)


def test_the_reward_of_the_paper_is_higher_the_sooner_the_aim_was_reached():
    assert sooner(100, 100) == 0
    assert sooner(25, 100) == pytest.approx(math.log(4))
    with pytest.raises(InvalidValue, match="step=0"):
        sooner(0, 100)
    with pytest.raises(InvalidValue, match="step=101"):
        sooner(101, 100)


@pytest.mark.parametrize("stop", range(12))
def test_a_resumed_teacher_is_the_one_that_was_never_stopped(stop, tmp_path):
    whole = Teacher(3, 10, lr=0.1, discount=0.9, seed=5)
    drawn = [call(whole, number) for number in range(14)]
    teacher = Teacher(3, 10, lr=0.1, discount=0.9, seed=5)
    for number in range(stop):
        call(teacher, number)
    torch.save(teacher.state_dict(), tmp_path / "checkpoint")
    for _ in range(3):
        teacher(logits(99), LABELS)  # goes on after the checkpoint, and is lost
    resumed = Teacher(3, steps=77, seed=9)  # what is no shape comes from the state
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint", weights_only=True))
    assert [call(resumed, number) for number in range(stop, 14)] == drawn[stop:]
    assert repr(resumed.state_dict()) == repr(whole.state_dict())


def test_a_saved_teacher_is_loaded_amid_an_episode(tmp_path):
    teacher = Teacher(3, 10, hidden=4, more=1, baseline=None, bias=0.5)
    teacher(logits(0), LABELS, more=torch.ones(8, 1))
    teacher.save(tmp_path / "scores.teacher")
    loaded = Teacher.load(tmp_path / "scores.teacher")
    assert repr(loaded.state_dict()) == repr(teacher.state_dict())
    assert [file.name for file in tmp_path.iterdir()] == ["scores.teacher"]


@pytest.mark.parametrize("other", [{"classes": 4}, {"hidden": 0}, {"more": 1}])
def test_the_state_of_another_teacher_is_refused_and_nothing_changes(other):
    teacher = Teacher(3, 10)
    before = repr(teacher.state_dict())
    ((name, value),) = other.items()
    with pytest.raises(ResumeError, match=f"{name}={value}"):
        teacher.load_state_dict(Teacher(**{"classes": 3, "steps": 10} | other).state_dict())
    assert repr(teacher.state_dict()) == before


def test_the_state_of_something_else_is_refused():
    with pytest.raises(ResumeError, match="classes=None"):
        Teacher(3, 10).load_state_dict(torch.nn.Linear(2, 1).state_dict())


@pytest.mark.parametrize("held", [{"weight": torch.ones(2)}, [1, 2]])
def test_a_file_that_holds_no_teacher_is_refused(held, tmp_path):
    torch.save(held, tmp_path / "model.pt")
    with pytest.raises(ResumeError, match=r"model.pt holds no teacher: .*teacher.save\(path\)"):
        Teacher.load(tmp_path / "model.pt")
