"""A hook has a closed list of names; any other attribute is its criterion's, to read, set and delete."""

import copy
import io
import subprocess
import sys

import pytest
import torch
from torch import nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import LossHook
from tests.torch.samples import make_store

ROWS = torch.arange(4)
LOGITS, LABELS = torch.eye(4, 3).requires_grad_(), torch.tensor([0, 1, 2, 0])


class Tempered(nn.Module):
    """A criterion that has what a criterion can have: settings, private ones, a buffer, a parameter, more state."""

    def __init__(self):
        super().__init__()
        self.reduction, self.power, self._tally = "mean", 2.0, 7
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("passing", torch.ones(1), persistent=False)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.inner = nn.Linear(2, 2)
        self.extra = "first"

    def forward(self, input, target):
        losses = nn.functional.cross_entropy(input * self.scale, target, reduction="none") ** self.power
        return losses.mean() if self.reduction == "mean" else losses

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = state["extra"]

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "power"] = torch.tensor(self.power)

    def _load_from_state_dict(self, state, prefix, *rest):
        self.power = float(state.pop(prefix + "power"))
        super()._load_from_state_dict(state, prefix, *rest)

    def _apply(self, fn, recurse=True):
        self.applied = True
        return super()._apply(fn, recurse)


def hooked(criterion=None, *scores, **arguments):
    return LossHook(criterion or Tempered(), make_store(*scores or [EL2N()]), **arguments)


# -- attributes --------------------------------------------------------------------------------------------------------


def test_the_names_of_its_own_are_a_closed_list():
    public = {"criterion", "store", "sampler", "watch", "claim", "forget", "again", "record", "record_outputs", "flush"}
    assert public | {"delivered", "epoch", "skipped", "effective_samples", "mine", "select"} == LossHook.NAMES
    assert set(vars(LossHook)) - {"forward"} <= LossHook.NAMES | {"NAMES", "_watching"} | {
        name for name in vars(LossHook) if name.startswith("__")
    }


@pytest.mark.parametrize(
    "name", ["power", "_tally", "reduction", "extra", "never_seen_before", "_pending", "_transfer"]
)
def test_an_attribute_that_is_set_on_the_hook_is_the_criterions(name):
    hook = hooked()
    setattr(hook, name, "other")
    assert (getattr(hook.criterion, name), getattr(hook, name)) == ("other", "other")
    assert name not in vars(hook)


def test_what_is_set_changes_the_loss():
    hook = LossHook(nn.CrossEntropyLoss(), make_store())
    hook.label_smoothing = 0.5
    assert torch.equal(hook(LOGITS, LABELS, rows=ROWS), nn.CrossEntropyLoss(label_smoothing=0.5)(LOGITS, LABELS))
    hook.reduction = "none"
    assert hook(LOGITS, LABELS, rows=ROWS).shape == (4,)


def test_a_method_of_the_criterion_is_called_on_the_criterion():
    criterion = Tempered()
    Tempered.double_up = lambda self: setattr(self, "power", 2 * self.power)
    hooked(criterion).double_up()
    assert criterion.power == 4


def test_an_attribute_is_deleted_on_the_criterion():
    hook = hooked()
    del hook._tally
    assert not hasattr(hook.criterion, "_tally")
    with pytest.raises(AttributeError, match="'Tempered' object has no attribute '_tally'"):
        hook._tally  # noqa: B018


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("bias", nn.Parameter(torch.ones(2)), "_parameters"),
        ("seen", torch.ones(3), "_buffers"),
        ("head", nn.Linear(1, 1), "_modules"),
    ],
)
def test_a_parameter_a_buffer_a_submodule_that_is_set_is_the_criterions(name, value, kept):
    hook = hooked()
    setattr(hook, name, value)
    assert getattr(hook.criterion, kept)[name] is value
    assert any(key.startswith(name) for key in hook.state_dict())


def test_registering_and_asking_reach_the_criterion():
    hook = hooked()
    hook.register_buffer("late", torch.zeros(2))
    assert hook.criterion.late is hook.get_buffer("late")
    assert [*hook.children()] == [hook.criterion.inner]
    assert hook.requires_grad_(False) is hook
    assert not hook.criterion.scale.requires_grad


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_is_the_criterions(mode):
    hook = hooked()
    nn.Sequential(hook).train(mode)
    assert (hook.training, hook.criterion.training, hook.inner.training) == (mode, mode, mode)
    hook.criterion.training = not mode
    assert hook.training is not mode


def test_its_own_names_are_its_own():
    hook, store = hooked(), make_store()
    hook.epoch, hook.store = 3, store
    assert not {"epoch", "store"} & set(vars(hook.criterion))
    assert hook.store is store


def test_dir_has_both():
    assert {"watch", "power", "scale", "seen"} <= set(dir(hooked()))


def test_a_hook_that_listens_to_the_hook_hears_each_call_once():
    hook, heard = LossHook(nn.CrossEntropyLoss(label_smoothing=0.1), make_store(Loss())), []
    hook.register_forward_hook(lambda module, given, value: heard.append(value))
    hook(LOGITS, LABELS, rows=ROWS)
    assert [value.ndim for value in heard] == [0]


class Watching(nn.CrossEntropyLoss):
    """A criterion with a method that a hook has too."""

    def watch(self):
        """Something else."""


@pytest.mark.parametrize("name", ["epoch", "store", "delivered", "again", "skipped", "watch"])
def test_a_criterion_with_a_name_of_the_hooks_is_refused(name):
    criterion = Watching() if name == "watch" else nn.CrossEntropyLoss()
    if name != "watch":
        setattr(criterion, name, 5)
    with pytest.raises(InvalidValue, match=rf"has an attribute '{name}' of its own.*hook.criterion.{name}\b.*Hold it"):
        hooked(criterion)


def test_the_remedy_for_such_a_criterion_works():
    criterion, store = nn.CrossEntropyLoss(), make_store(EL2N())
    criterion.epoch = 5
    with pytest.raises(InvalidValue) as raised:
        LossHook(criterion, store)
    lines = str(raised.value).partition("):\n")[2]
    scope = {"nn": nn, "LossHook": LossHook, "criterion": criterion, "store": store}
    exec(lines.replace("LossHook(Held", "hook = LossHook(Held"), scope)
    assert torch.equal(scope["hook"](LOGITS, LABELS, rows=ROWS), criterion(LOGITS, LABELS))
    assert (scope["hook"].criterion.inner.epoch, store.observed("el2n")) == (5, 4)


def test_a_hook_of_a_hook_is_refused():
    with pytest.raises(InvalidValue, match="LossHook has an attribute 'again' of its own"):
        hooked(hooked())


# -- checkpoints -------------------------------------------------------------------------------------------------------


def same(ours, other):
    return list(ours) == list(other) and all(
        torch.equal(ours[k], other[k]) if isinstance(ours[k], torch.Tensor) else ours[k] == other[k] for k in ours
    )


def test_a_state_dict_is_the_criterions_whatever_it_overrides():
    criterion = Tempered()
    criterion.register_state_dict_post_hook(lambda m, state, prefix, _: state.update({prefix + "stamp": torch.ones(1)}))
    hook = hooked(criterion)
    assert same(hook.state_dict(), criterion.state_dict())
    assert {"power", "stamp", "_extra_state", "inner.weight"} <= set(hook.state_dict())
    assert same(nn.Sequential(hook).state_dict(), nn.Sequential(criterion).state_dict())


@pytest.mark.parametrize("way", ["into the hook", "out of the hook"])
@pytest.mark.parametrize("wrap", [lambda module: module, nn.Sequential])
def test_checkpoints_load_strictly_both_ways(way, wrap):
    old, new = Tempered(), Tempered()
    old.power, old.extra, old.scale.data = 3.0, "second", torch.tensor(9.0)
    source, target = (old, hooked(new)) if way == "into the hook" else (hooked(old), new)
    wrap(target).load_state_dict(wrap(source).state_dict(), strict=True)
    assert (new.power, new.extra, new.scale.item()) == (3.0, "second", 9.0)


def test_hooks_on_loading_that_are_registered_on_either_run():
    criterion, heard = Tempered(), []
    hook = hooked(criterion)
    criterion.register_load_state_dict_post_hook(lambda module, keys: heard.append("criterion"))
    hook.register_load_state_dict_post_hook(lambda module, keys: heard.append("hook"))
    nn.Sequential(hook).load_state_dict(nn.Sequential(hook).state_dict())
    assert heard == ["criterion", "hook"]


@pytest.mark.parametrize("wrap", [lambda hook: hook, nn.Sequential])
def test_moving_runs_the_criterions_own_way_of_it(wrap):
    hook = hooked()
    wrap(hook).to(torch.float64)
    assert (hook.criterion.applied, hook.scale.dtype) == (True, torch.float64)


# -- copies ------------------------------------------------------------------------------------------------------------


def test_a_shallow_copy_has_the_criterions_parameters_and_settings_of_its_own():
    hook = hooked()
    twin = copy.copy(hook)
    twin.power = 9.0
    assert (hook.power, twin.scale is hook.scale, twin.store is hook.store) == (2.0, True, True)
    twin(LOGITS, LABELS, rows=ROWS)
    assert hook.store.observed("el2n") == 4


def loaded(model):
    kept = io.BytesIO()
    torch.save(model, kept)
    kept.seek(0)
    return torch.load(kept, weights_only=False)


def test_a_saved_model_with_its_hook_works_without_gradients_where_it_is_loaded():
    model = nn.Sequential(nn.Linear(2, 3), hooked())
    hook = loaded(model)[1]
    with torch.no_grad():
        assert torch.equal(hook(LOGITS, LABELS), model[1].criterion(LOGITS, LABELS))
    assert same(hook.state_dict(), model[1].state_dict())


@pytest.mark.parametrize(
    "use",
    [
        lambda hook: hook(LOGITS, LABELS, rows=ROWS),
        lambda hook: hook(LOGITS, LABELS),
        lambda hook: hook.record(ROWS, loss=torch.ones(4)),
        lambda hook: hook.record_outputs(ROWS, LOGITS, LABELS),
        lambda hook: list(hook.watch([])),
        lambda hook: hook.epoch,
        lambda hook: hook.store["el2n"],
        lambda hook: len(hook.store),
    ],
)
def test_what_would_record_says_that_the_store_stayed_where_it_was_and_what_to_do(use):
    hook = loaded(hooked())
    words = r"its store stayed where it was made \(.*\).* make the hook anew: LossHook\(hook.criterion, store\)"
    with pytest.raises(InvalidValue, match=words):
        use(hook)
    anew = LossHook(hook.criterion, make_store(EL2N()))
    anew(LOGITS, LABELS, rows=ROWS)
    assert anew.store.observed("el2n") == 4


def test_it_loads_in_another_process_after_the_store_is_gone(tmp_path):
    store = make_store(EL2N())
    torch.save(nn.Sequential(LossHook(nn.CrossEntropyLoss(), store)), tmp_path / "model.pt")
    store.close()
    code = f"""
import torch
from adaptive_sampler.errors import InvalidValue
hook = torch.load({str(tmp_path / "model.pt")!r}, weights_only=False)[0]
with torch.no_grad():
    print(float(hook(torch.zeros(2, 3), torch.zeros(2).long())))
try:
    hook(torch.zeros(2, 3), torch.zeros(2).long(), rows=[0, 1])
except InvalidValue as error:
    print("stayed" in str(error))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(float(nn.CrossEntropyLoss()(torch.zeros(2, 3), torch.zeros(2).long()))), "True"]


def test_inside_data_parallel_it_is_refused():
    with pytest.raises(InvalidValue, match=r"inside nn.DataParallel.*Compute the loss outside"):
        hooked()._replicate_for_data_parallel()
