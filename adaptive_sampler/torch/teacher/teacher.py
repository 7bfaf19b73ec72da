"""The teacher: keeps or filters each sample of a batch, and learns by the rewards of trainings which ones to keep."""

import copy
import math
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_sampler import seeds
from adaptive_sampler.checks import is_number, whole_number
from adaptive_sampler.disk import whole_file
from adaptive_sampler.errors import MALFORMED, InvalidValue, NotFinite, ResumeError
from adaptive_sampler.torch.teacher.ascent import Ascent
from adaptive_sampler.torch.teacher.baseline import Baseline
from adaptive_sampler.torch.teacher.features import (
    Student,
    checked,
    checked_more,
    features_of,
    number_of_features,
    refuse_nonfinite,
)
from adaptive_sampler.torch.teacher.gradient import Gradient
from adaptive_sampler.torch.teacher.policy import policy

_SHAPE = ("classes", "hidden", "more")  # what says how many weights the policy has, and of which features
_ARGUMENTS = (*_SHAPE, "steps", "discount", "baseline", "seed")


class Teacher(nn.Module):
    """Keeps or filters each sample of a batch; which ones to keep it learns from the rewards of whole trainings, by REINFORCE.

    The neural data filter of Fan, Tian, Qin, Bian & Liu 2017, Learning What Data to Learn, and of Fan et al. 2018, Learning to
    Teach, section 4. An episode is one training of a new model: call the teacher on each batch, and train on what it keeps; tell it
    validation accuracies by `validated`, and by `reward` how well the training went; then `learn`. Learnt, `eval()` uses it.

    Args:
        classes: of the labels; a teacher serves models of any kind with as many.
        steps: batches of the longest episode, T'. What is over of them is one of the features.
        hidden: units of the policy's tanh layer; 0: a logistic regression.
        bias: of the policy's output when it is new. With 2, as in the papers, it keeps 88 % of whatever it sees.
        lr: of Adam, which takes one step an episode. (The paper takes one for each batch of it, so a smaller rate fits there.)
        discount: γ; a reward counts γᵏ for the batch k calls before. 1 for one reward at the end, near 0 for a reward a call.
        baseline: decay of the moving averages that rewards are measured against; None: rewards count as they are, as they
            must where it is to be learnt how many come, such as −1 a step until the aim is reached.
        more: how many features of your own each call brings, as `more=`: a length, or what a store says of the rows.
        seed: of the policy's first weights and of what is drawn.

    The policy has a module of its own, `policy`. It sees and decides without gradient, whatever the mode of the model is;
    nothing but numbers goes back to the model. One process trains a teacher: ranks would each learn one of their own.

    By `state_dict` and `load_state_dict` it goes on amid an episode too, alone or as a part of another module; numbers such as
    `steps` and `seed` become those of the state. `ResumeError` is raised, and nothing of the teacher changes, for a state that is
    damaged, or of a teacher with other classes, hidden units or features.
    """

    def __init__(
        self,
        classes: int,
        steps: int,
        *,
        hidden: int = 12,
        bias: float = 2.0,
        lr: float = 0.03,
        discount: float = 1.0,
        baseline: float | None = 0.8,
        more: int = 0,
        seed: int = 0,
    ) -> None:
        """Make a teacher that has learnt nothing. Raises `InvalidValue` for an argument that breaks a rule."""
        super().__init__()
        self.classes = whole_number("classes", classes, 2)
        self.steps = whole_number("steps", steps, 1, what="batches of the longest episode")
        self.hidden, self.more = whole_number("hidden", hidden, 0), whole_number("more", more, 0)
        self.seed = whole_number("seed", seed, 0)
        self._made = {"bias": _between("bias", bias, -math.inf, math.inf), "lr": _between("lr", lr, 0, math.inf)}
        self.discount = _between("discount", discount, 0, 1)
        self.baseline = None if baseline is None else _between("baseline", baseline, 0, 1)
        self.policy = policy(number_of_features(classes) + more, hidden, bias, seed)
        self._ascent = Ascent(self.policy, self._made["lr"])
        self._gradient, self._baseline = Gradient(self.policy), Baseline()
        self._episode = -1
        self.begin()

    def begin(self) -> None:
        """Begin an episode: another training. What was learnt stays; an episode that did not come to `learn` is forgotten."""
        self._episode += 1
        self._student = Student()
        self._gradient.begin()
        self._baseline.begin()

    @torch.no_grad()
    def forward(self, logits: Tensor, labels: Tensor, *, more: Tensor | None = None, greedy: bool = False) -> Tensor:
        """Which samples of a batch to train on: (batch,) bool, on the device of the logits.

        `logits` (batch, classes), floating point of any width, `labels` (batch,) integers, `more` (batch, more) numbers. Each is
        kept with the probability that the policy gives it; `greedy`, once learnt, keeps what has 1/2 or more. All False is
        possible: train on nothing then, or gather batches by `KeptBatches`. Raises `InvalidValue`, and changes nothing, for other
        shapes or classes, and `NotFinite` for a sample whose features, or what the policy makes of them, are NaN or inf.
        """
        if greedy and self.training:
            raise InvalidValue(
                "greedy=True while the teacher learns: what it never tries it cannot learn. Call teacher.eval()."
            )
        features, losses = self._features(logits, labels, more)
        if not len(features):
            return torch.zeros(0, dtype=torch.bool, device=logits.device)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(features.device.type, enabled=False):
            scores = self._scores(features.clone())  # a clone: inference mode's tensors take part in no gradient
            keep = scores.detach() >= 0 if greedy else self._draw(scores.detach())
            if self.training:
                signs = torch.where(keep, 1.0, -1.0)
                self._gradient.act(nn.functional.logsigmoid(signs * scores).sum(), self.discount)
        keep, student = keep.to(losses.device), self._student
        student.calls += 1
        student.loss += sum(losses[keep].tolist())  # in float64: no sum of finite losses is inf
        student.kept += int(keep.sum())
        return keep.to(logits.device)

    @torch.no_grad()
    def probabilities(self, logits: Tensor, labels: Tensor, *, more: Tensor | None = None) -> Tensor:
        """With what probability each sample would be kept now, (batch,) float32. Counts as no call; else as a call."""
        features, _ = self._features(logits, labels, more)
        with torch.autocast(features.device.type, enabled=False):
            return self._scores(features).sigmoid().to(logits.device)

    def validated(self, accuracy: float) -> None:
        """Tell the validation accuracy, a share from 0 to 1: the best one so far is a feature of what comes."""
        _between("accuracy", accuracy, 0, 1)
        self._student.best = max(self._student.best, float(accuracy))

    def reward(self, value: float) -> None:
        """Reward what was done in this episode so far: once, when it ends (`sooner`), or whenever something can be said.

        Raises `InvalidValue` for what is no finite number, in `eval()`, and before the teacher has decided in `train()`.
        """
        if not is_number(value):
            raise InvalidValue(
                f"reward({value!r}): a finite number is needed, of a tensor its item(). "
                "If the training has diverged, call teacher.begin()."
            )
        if not self.training:
            raise InvalidValue(
                "reward() of a teacher in eval(), which records nothing: call teacher.train() before the episode."
            )
        if not self._gradient.acts:
            raise InvalidValue(
                "reward() before the teacher has seen a batch in train(): there is nothing to reward. Call it on one first."
            )
        advantage = self._baseline.advantage(float(value))
        self._gradient.reward(float(value) if self.baseline is None else advantage)

    @torch.inference_mode(False)
    def learn(self) -> None:
        """End an episode: one step of Adam along its gradient, and begin the next.

        Raises `InvalidValue` without a reward, and `NotFinite`, with the policy as it was, if rewards were too large for float32.
        """
        if not self._baseline.rewards:
            raise InvalidValue(
                "learn() without a reward in this episode: give one by teacher.reward(value), or call begin()."
            )
        if not self._gradient.sum.isfinite().all():
            raise NotFinite(
                "the rewards of this episode make a gradient beyond float32: call begin(), and scale what you reward by."
            )
        self._ascent.step(self.policy, self._gradient.sum)
        if self.baseline is not None:
            self._baseline.learn(self.baseline)
        self.begin()

    def _features(self, logits: Tensor, labels: Tensor, more: Tensor | None) -> tuple[Tensor, Tensor]:
        """-> the features where the policy is, and the losses where the logits are, (batch,)."""
        logits, labels = checked(logits, labels, self.classes)
        features, losses = features_of(logits, labels, self._student.features(self.steps, self.classes))
        refuse_nonfinite(features, "logits without a finite loss")
        if self.more or more is not None:
            features = torch.cat((features, checked_more(more, len(logits), self.more).to(features)), 1)
            refuse_nonfinite(features, "more= is not finite")
        return features.to(next(self.policy.parameters())), losses

    def _scores(self, features: Tensor) -> Tensor:
        """The logits of keeping, (batch,) float32. Raises `NotFinite` where they are not."""
        scores: Tensor = self.policy(features)[:, 0].float()
        refuse_nonfinite(
            scores.detach()[:, None], "the policy has a weight that is not finite, or too large for the features,"
        )
        return scores

    def _draw(self, scores: Tensor) -> Tensor:
        """Keep each with the probability sigmoid(score). What is drawn follows from (seed, episode, call), in any process."""
        address = seeds.key(self.seed, self._episode, seeds.Purpose.TEACHER, self._student.calls)
        drawn = np.random.default_rng(address).random(len(scores), np.float32)
        return torch.from_numpy(drawn).to(scores.device) < scores.sigmoid()

    # -- saved and resumed ----------------------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """All that `state_dict` has beside the policy's weights: with it an episode goes on where it was, bit by bit."""
        return {
            "arguments": {name: getattr(self, name) for name in _ARGUMENTS} | self._made,
            "optimizer": self._ascent.state,
            "episode": self._episode,
            "rewards": list(self._baseline.rewards),
            "student": asdict(self._student),
            "trace": self._gradient.trace,
            "sum": self._gradient.sum,
            "acts": self._gradient.acts,
            "baselines": list(self._baseline.means),
        }

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave, which `_load_from_state_dict` has tried on another teacher."""
        for name in _ARGUMENTS:
            setattr(self, name, state["arguments"][name])
        self._made = {name: state["arguments"][name] for name in self._made}
        self._ascent.state = copy.deepcopy(state["optimizer"])
        self._episode, self._student = state["episode"], Student(**state["student"])
        flat = self._gradient.trace
        self._gradient.trace, self._gradient.sum = (state[name].to(flat).view_as(flat) for name in ("trace", "sum"))
        self._gradient.acts = state["acts"]
        self._baseline.means, self._baseline.rewards = list(state["baselines"]), list(state["rewards"])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """What torch calls first, before any weight has changed, also where a teacher is a part of another module."""
        state = state_dict.get(f"{prefix}_extra_state")
        if state is not None or not prefix:  # else torch lists what is missing
            self._check(state, {name: state_dict.get(f"{prefix}policy.{name}") for name in self.policy.state_dict()})
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _check(self, state: Any, weights: dict[str, Any]) -> None:
        """Raise `ResumeError` unless this teacher can go on from the state and the policy's weights."""
        told = state.get("arguments", {}) if isinstance(state, dict) else {}
        for name in _SHAPE:
            if told.get(name) != getattr(self, name):
                raise ResumeError(
                    f"the state is that of a teacher with {name}={told.get(name)!r}, and this one has {getattr(self, name)!r}. "
                    f"Make Teacher(..., {name}={told.get(name)!r}), or Teacher.load(path) from a file."
                )
        try:
            trial = Teacher(**told)
            trial.policy.load_state_dict(weights)
            trial.set_extra_state(state)
            trial._ascent.step(trial.policy, trial._gradient.sum)
        except (RuntimeError, *MALFORMED) as error:
            raise ResumeError(
                f"the state of the teacher is damaged, {error!r}: go on from another checkpoint."
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the teacher to a file of this machine, whole or not at all: beside its store, as `f"{store.path}.teacher"`."""
        with whole_file(Path(path)) as file:
            torch.save(self.state_dict(), file)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The teacher that `save` wrote, amid an episode too, on the CPU. Runs no code that the file names.

        Raises `ResumeError` for a file that is damaged or holds something else.
        """
        try:
            with open(path, "rb") as file:
                if part := zipfile.ZipFile(file).testzip():  # torch does not look at the checksums that it writes
                    raise zipfile.BadZipFile(f"the checksum of {part} is another")
                file.seek(0)
                state = torch.load(file, map_location="cpu", weights_only=True)
            made = cls(**state["_extra_state"]["arguments"])
            made.load_state_dict(state)
        except (zipfile.BadZipFile, UnpicklingError, RuntimeError, *MALFORMED) as error:
            raise ResumeError(
                f"{path} holds no teacher: name a file that teacher.save(path) wrote. If it is one, it is damaged, {error!r}."
            ) from error
        return made


def sooner(step: int, steps: int) -> float:
    """The reward of a training that reached its aim at `step` of at most `steps`: −ln(step / steps), 0 for one that did not.

    The aim is a validation accuracy τ (Fan et al. 2018, section 4.2); steps count from 1. Raises `InvalidValue` for others.
    """
    steps = whole_number("steps", steps, 1)
    return -math.log(whole_number("step", step, 1, most=steps) / steps)


def _between(name: str, value: Any, least: float, most: float) -> float:
    """The value as a float. Raises `InvalidValue` unless it is a number from `least` to `most`."""
    if not is_number(value) or not least <= value <= most:
        raise InvalidValue(f"{name}={value!r}: a finite number from {least:g} to {most:g}, of a tensor its item().")
    return float(value)
