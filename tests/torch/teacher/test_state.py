"""A teacher's state is whole or refused, goes on in any precision and as any module's part, and shares nothing with its source."""

import copy
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adaptive_sampler.errors import InvalidValue, NotFinite, ResumeError  # noqa: E402
from adaptive_sampler.torch import Teacher  # noqa: E402

LOGITS, LABELS = torch.tensor([[0.3, -0.4, 1.0], [2.0, 0.1, 0.0]]), torch.tensor([0, 1])


def episode(teacher, reward=1.0):
    teacher(LOGITS, LABELS)
    teacher.reward(reward)
    teacher.learn()


def taught(**named):
    """A teacher that has learnt once, so that Adam has moments, amid its next episode."""
    teacher = Teacher(3, 10, baseline=None, **named)
    episode(teacher)
    teacher(LOGITS, LABELS)
    teacher.reward(0.5)
    return teacher


def weights(teacher):
    return [p.detach().clone() for p in teacher.policy.parameters()]


def test_a_teacher_that_goes_on_from_a_state_leaves_the_one_it_came_from_as_it_was():
    teacher, other = taught(), Teacher(3, 10)
    other.load_state_dict(teacher.state_dict())
    before = repr(teacher.state_dict())
    other.learn()
    assert repr(teacher.state_dict()) == before != repr(other.state_dict())


def test_a_state_in_memory_keeps_adams_moments_of_its_time():
    teacher = taught()
    state = teacher.state_dict()["_extra_state"]
    before = repr(state)
    teacher.learn()
    assert repr(state) == before


def test_a_teacher_whose_weights_were_assigned_learns_as_one_whose_weights_were_copied():
    copied, assigned = Teacher(3, 10), Teacher(3, 10)
    copied.load_state_dict(taught().state_dict())
    assigned.load_state_dict(copy.deepcopy(taught().state_dict()), assign=True)
    copied.learn()
    assigned.learn()
    assert all(map(torch.equal, weights(copied), weights(assigned)))
    assert not all(map(torch.equal, weights(copied), weights(taught())))


def test_a_pickled_teacher_learns_as_the_one_that_was_pickled():
    teacher = taught()
    twin = pickle.loads(pickle.dumps(teacher))
    teacher.learn()
    twin.learn()
    assert repr(twin.state_dict()) == repr(teacher.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_teacher_that_moves_to_another_precision_amid_an_episode_goes_on(dtype):
    teacher = taught().to(dtype)
    before = weights(teacher)
    teacher.learn()
    assert teacher.probabilities(LOGITS, LABELS).dtype == torch.float32
    assert not torch.equal(weights(teacher)[-1], before[-1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_teacher_learns_alike_whatever_torchs_default_dtype_is(dtype):
    wanted, before = taught(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = taught()
    finally:
        torch.set_default_dtype(before)
    found.learn()
    wanted.learn()
    assert all(map(torch.allclose, weights(found), weights(wanted)))


def test_episodes_may_begin_and_end_in_inference_mode():
    wanted, teacher = taught(), Teacher(3, 10, baseline=None)
    with torch.inference_mode():
        episode(teacher)
        teacher(LOGITS, LABELS)
        teacher.reward(0.5)
    wanted.learn()
    teacher.learn()
    assert all(map(torch.equal, weights(teacher), weights(wanted)))


def test_as_a_part_of_another_module_it_goes_on():
    whole, resumed = (torch.nn.ModuleDict({"teacher": t}) for t in (taught(), Teacher(3, 10)))
    resumed.load_state_dict(whole.state_dict())
    assert repr(resumed.state_dict()) == repr(whole.state_dict())


def test_the_state_of_another_teacher_with_as_many_features_is_refused_in_another_module_too():
    module = torch.nn.ModuleDict({"teacher": Teacher(4, 10)})
    before = repr(module.state_dict())
    with pytest.raises(ResumeError, match="classes=3"):
        module.load_state_dict(torch.nn.ModuleDict({"teacher": Teacher(3, 10, more=2)}).state_dict())
    assert repr(module.state_dict()) == before


def test_a_module_that_had_no_teacher_may_be_loaded_around_one():
    module = torch.nn.ModuleDict({"teacher": taught(), "model": torch.nn.Linear(2, 1)})
    before = repr(module["teacher"].state_dict())
    told = module.load_state_dict(torch.nn.ModuleDict({"model": torch.nn.Linear(2, 1)}).state_dict(), strict=False)
    assert "teacher._extra_state" in told.missing_keys
    assert repr(module["teacher"].state_dict()) == before


EXTRA = list(Teacher(3, 10).get_extra_state())


def damaged(key):
    """A state without this key, or with a trace of another length, or Adam's moments or the policy's weights of other shapes."""
    state = taught().state_dict()
    extra = state["_extra_state"] = copy.deepcopy(state["_extra_state"])
    if key in EXTRA:
        del extra[key]
    elif key == "moments":
        extra["optimizer"]["state"][0]["exp_avg"] = torch.ones(5)
    elif key == "length":
        extra["trace"] = extra["trace"][1:]
    elif key == "shape":
        state["policy.0.weight"] = torch.ones(1)
    else:
        del state["policy.0.weight"]
    return state


@pytest.mark.parametrize("key", [*EXTRA, "moments", "length", "shape", "weight"])
def test_a_damaged_state_is_refused_and_nothing_changes(key):
    teacher = taught()
    before = repr(teacher.state_dict())
    with pytest.raises(ResumeError):
        teacher.load_state_dict(damaged(key))
    assert repr(teacher.state_dict()) == before


def test_a_file_that_is_cut_or_of_which_one_bit_is_another_is_refused_or_says_the_same(tmp_path):
    teacher, path = taught(), tmp_path / "scores.teacher"
    teacher.save(path)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    changed = [whole[:length] for length in range(0, len(whole), 500)]
    for at in rng.integers(0, len(whole), 100):
        changed.append(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
    for held in changed:
        path.write_bytes(held)
        try:
            assert repr(Teacher.load(path).state_dict()) == repr(teacher.state_dict())
        except ResumeError as error:
            refused += "it is damaged" in str(error)
    assert refused > 50


def test_weights_that_are_no_numbers_are_told_and_nothing_is_recorded():
    teacher = Teacher(3, 10)
    with torch.no_grad():
        teacher.policy[0].weight.fill_(math.nan)
    with pytest.raises(NotFinite, match="the policy has a weight that is not finite"):
        teacher(LOGITS, LABELS)
    assert teacher._student.calls == 0


def test_a_reward_after_calls_in_eval_alone_is_refused():
    teacher = taught().eval()
    teacher.begin()
    teacher(LOGITS, LABELS)
    with pytest.raises(InvalidValue, match=r"has seen a batch in train\(\)"):
        teacher.train().reward(1.0)
    episode(teacher)


@pytest.mark.parametrize("tell", [Teacher.reward, Teacher.validated])
def test_a_tensor_in_place_of_a_number_is_refused_and_its_item_is_the_remedy(tell):
    teacher, value = taught(), torch.tensor(0.5)
    with pytest.raises(InvalidValue, match=r"of a tensor its item\(\)"):
        tell(teacher, value)
    tell(teacher, value.item())


@pytest.mark.parametrize("logits", [None, LOGITS.numpy()])
def test_what_has_no_features_has_no_probabilities(logits):
    with pytest.raises(InvalidValue, match="logits are"):
        Teacher(3, 10).probabilities(logits, LABELS)


def test_labels_are_no_complex_numbers():
    with pytest.raises(InvalidValue, match=r"labels are torch\.complex64"):
        Teacher(3, 10)(LOGITS, LABELS.to(torch.complex64))
