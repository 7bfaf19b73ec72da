"""What the demo compares: three questions, each asked of one seed, with every choice made on validation data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler import AdaptiveSampler, ScoreStore
from adaptive_sampler.commands.demo.data import Data, Part, with_cue, with_wrong_labels
from adaptive_sampler.commands.demo.training import Training, train
from adaptive_sampler.scoring import EL2N, Confidence, Error, Margin, Variability
from adaptive_sampler.selection import KeepAll, Prune, RandomPrune
from adaptive_sampler.torch import IndexedDataset, JTTSampler, LossHook, PrunedSampler, SlidingWindowSampler, observe

# Fixed before the demo first used a test set. All other choices are made on validation data, separately per seed.
KEEP = 0.5
EARLY_RUNS, EARLY_EPOCHS = 5, 4
WRONG_SHARE = 0.2
OFFSETS = (0.1, 0.2, 0.3, 0.4)
CUE_ALIGNED = 0.95
FIRST_STAGE_EPOCHS = 1
UPSAMPLE = (3, 6, 20)


@dataclass(frozen=True)
class Result:
    """One training of one seed: its steps, and its accuracy on the test set in percent.

    `worst_group`: the accuracy of the worst group, if there are groups. `choice`: the setting chosen on validation data.
    """

    question: str
    method: str
    seed: int
    steps: int
    accuracy: float
    worst_group: float | None = None
    choice: float | None = None


@dataclass(frozen=True)
class Trial:
    """One seed of the demo: its data, how long to train, and the folder for its stores."""

    data: Data
    seed: int
    epochs: int
    folder: Path

    def store(self, name: str, part: Part, *scores: EL2N | Error | Margin | Confidence | Variability) -> ScoreStore:
        """A new store in this trial's folder."""
        return ScoreStore.create(self.folder / name, len(part), scores, overwrite=True)

    def train(self, part: Part, sampler: AdaptiveSampler, hook: LossHook | None = None) -> Training:
        """Train on what the sampler selects of `part`."""
        return train(part, sampler, epochs=self.epochs, seed=self.seed, hook=hook)

    def run(self) -> Iterator[Result]:
        """Ask all questions, and yield one result at a time."""
        yield from self.clean()
        yield from self.wrong_labels()
        yield from self.spurious_cue()

    def clean(self) -> Iterator[Result]:
        """Is the half that EL2N keeps worth more than a random half, with equal epochs and with equal steps?"""
        part, n = self.data.train, len(self.data.train)
        question = "clean labels"
        with self.store("clean", part, EL2N()) as store:
            yield self._result(question, "full set", self.train(part, self._all(store)))
            self.early_scores(part, store)
            for steps, length in (("", None), (", equal steps", n)):
                random = AdaptiveSampler(store, RandomPrune(KEEP), seed=self.seed, replan="once", num_samples=length)
                yield self._result(question, f"random half{steps}", self.train(part, random))
                pruned = PrunedSampler(store, keep=KEEP, seed=self.seed, num_samples=length)
                yield self._result(question, f"half by EL2N{steps}", self.train(part, pruned))
        with self.store("one-run", part, EL2N()) as store:
            sampler = PrunedSampler(store, keep=KEEP, warmup_epochs=min(EARLY_EPOCHS, self.epochs - 1), seed=self.seed)
            training = self.train(part, sampler, LossHook(nn.CrossEntropyLoss(), store))
            store.commit("after training")
        yield self._result(question, "half by EL2N, in one run", training)

    def wrong_labels(self) -> Iterator[Result]:
        """With wrong labels, is a window below the top worth more than the top? Also records a data map."""
        part = self.noisy
        question = f"{WRONG_SHARE:.0%} wrong labels"
        with self.store("wrong-labels-data-map", part, Confidence(), Variability(), Margin()) as store:
            hook = LossHook(nn.CrossEntropyLoss(), store)
            yield self._result(question, "full set", self.train(part, self._all(store), hook))
            store.commit("after training on the full set")
        with self.store("wrong-labels", part, EL2N()) as store:
            self.early_scores(part, store)
            highest = PrunedSampler(store, keep=KEEP, seed=self.seed)
            yield self._result(question, "half with highest EL2N", self.train(part, highest))
            tried = {offset: self.train(part, self.window(store, offset)) for offset in OFFSETS}
        best = max(OFFSETS, key=lambda offset: tried[offset].accuracy(self.data.validation))
        yield self._result(question, "half in a window of EL2N", tried[best], choice=best)

    def spurious_cue(self) -> Iterator[Result]:
        """Does training more on a first model's mistakes help the groups that a cue misleads?"""
        train_part = with_cue(self.data.train, CUE_ALIGNED, self.seed)
        validation, test = (with_cue(p, 0.5, self.seed) for p in (self.data.validation, self.data.test))
        question = f"cue right in {CUE_ALIGNED:.0%}"
        with self.store("cue", train_part, Error()) as store:
            plain = self.train(train_part, self._all(store))
            yield self._result(question, "full set", plain, test)
            first = train(train_part, self._all(store), epochs=FIRST_STAGE_EPOCHS, seed=self.seed)
            observe(first.model, _scoring(train_part, store), store, progress=False)
            mistakes = store.commit("mistakes of the first stage", pin=True)
        # Opened read-only, so that the second stage cannot change the mistakes of the first.
        with ScoreStore.open(self.folder / "cue", version=mistakes, mode="r") as store:
            tried = {factor: self.train(train_part, self.jtt(store, factor)) for factor in UPSAMPLE}
        best = max(UPSAMPLE, key=lambda factor: tried[factor].worst_group(validation))
        yield self._result(question, "JTT", tried[best], test, choice=best)

    def wrong_at_top(self) -> tuple[float, float]:
        """How well scores find wrong labels: the percentage of wrong ones among (the highest EL2N, the lowest margins).

        Both look at as many samples as have wrong labels.
        """
        wrong = self.noisy.labels != self.data.train.labels
        shares = []
        number = int(wrong.sum())
        for name, policy in (
            ("wrong-labels", Prune(number, "el2n", order="highest")),
            ("wrong-labels-data-map", Prune(number, "margin", order="lowest")),
        ):
            with ScoreStore.open(self.folder / name, mode="r") as store:
                plan = policy.plan(store, epoch=0, seed=self.seed)
                shares.append(100 * float(wrong[plan.rows].mean()))
        return shares[0], shares[1]

    @property
    def noisy(self) -> Part:
        """The training samples, some with wrong labels."""
        return with_wrong_labels(self.data.train, WRONG_SHARE, self.seed)

    def window(self, store: ScoreStore, offset: float) -> SlidingWindowSampler:
        """A sampler of the window that begins at the share `offset` of the ascending EL2N ranking."""
        return SlidingWindowSampler(store, keep=KEEP, offset=offset, seed=self.seed)

    def jtt(self, store: ScoreStore, factor: int) -> JTTSampler:
        """A sampler that repeats mistakes `factor` times, in epochs of as many steps as those of plain training."""
        return JTTSampler(store, upsample=factor, seed=self.seed, num_samples=len(store))

    def early_scores(self, part: Part, store: ScoreStore) -> None:
        """Score as Paul et al. 2021 do (Data Diet): the mean of several short runs, each observed once in eval mode."""
        epochs = min(EARLY_EPOCHS, self.epochs)
        for run in range(EARLY_RUNS):
            store.begin_run(f"early run {run}")
            seed = 1000 * (run + 1) + self.seed
            training = train(part, AdaptiveSampler(store, KeepAll(), seed=seed), epochs=epochs, seed=seed)
            observe(training.model, _scoring(part, store), store, progress=False)
        store.commit(f"EL2N, mean of {EARLY_RUNS} runs of {epochs} epochs")

    def _all(self, store: ScoreStore) -> AdaptiveSampler:
        return AdaptiveSampler(store, KeepAll(), seed=self.seed)

    def _result(
        self, question: str, method: str, training: Training, test: Part | None = None, choice: float | None = None
    ) -> Result:
        test = test or self.data.test
        worst = None if test.groups is None else training.worst_group(test)
        return Result(question, method, self.seed, training.steps, training.accuracy(test), worst, choice)


def _scoring(part: Part, store: ScoreStore) -> DataLoader[object]:
    return DataLoader(IndexedDataset(part.tensors(), store), batch_size=512)
