"""TRL's SFTTrainer and DPOTrainer with our mixin in front: what their fused head measures, and the losses of pairs."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl
from datasets import Dataset
from torch.nn import functional as F

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Entropy, Error, Loss
from adaptive_sampler.selection import KeepAll, Prune
from adaptive_sampler.torch import LossHook
from adaptive_sampler.torch.data.samplers import AdaptiveSampler
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers import AdaptiveTrainerMixin, SamplerCallback, TrainersLoss
from tests.torch.trainers.small import N, causal, new_store, quiet, text, token_ids, tokenizer, weights_of, word
from tests.torch.trainers.test_weights import SGD, VARIED, Given, Ones, same

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL and transformers, on their own deprecations
SCORES = Loss(), Entropy(), Error(), EL2N()


class Sft(AdaptiveTrainerMixin, trl.SFTTrainer):  # type: ignore[misc]
    """As the docstring of the mixin has it."""


class Dpo(AdaptiveTrainerMixin, trl.DPOTrainer):  # type: ignore[misc]
    """As the docstring of the mixin has it."""


def texts() -> Dataset:
    return Dataset.from_dict({"text": [text(row) for row in range(N)]})


def sft(place: Path, hook: Any, policy: Any = None, data: Any = None, **settings: Any) -> Sft:
    return Sft(
        causal(),
        args=quiet(place.parent, trl.SFTConfig, bf16=False, **settings),
        train_dataset=texts() if data is None else data,
        eval_dataset=texts(),
        processing_class=tokenizer(),
        sampler=AdaptiveSampler(hook.store, policy or KeepAll(), seed=1),
        hook=hook,
    )


def by_itself(row: int) -> dict[str, float]:
    """The scores of a row's document alone, with the token that ends it: from its logits, word by word."""
    ids = torch.tensor([[*token_ids(row), tokenizer().eos_token_id]])
    model = causal().eval()
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    found: dict[str, list[float]] = {"loss": [], "entropy": [], "error": [], "el2n": []}
    for at in range(ids.shape[1] - 1):
        p, wanted = logits[at].softmax(-1), ids[0, at + 1]
        found["loss"].append(-p.log()[wanted].item())
        found["entropy"].append(-(p * p.log()).sum().item())
        found["error"].append(float(p.argmax() != wanted))
        found["el2n"].append((p - F.one_hot(wanted, len(p))).norm().item())
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("free", [False, True])
def test_the_fused_heads_measurements_are_those_of_each_document_alone(free: bool, place: Path) -> None:
    store = new_store(place, *SCORES)
    packed = {"padding_free": True, "max_length": None, "pad_to_multiple_of": 8} if free else {}
    trainer = sft(place, TokenLossHook(store), **packed)
    trainer.train()
    for row in range(N):
        for name, value in by_itself(row).items():
            assert store[name][row] == pytest.approx(value, rel=2e-4 if name == "el2n" else 1e-5)
    before = store.count("loss").tolist()
    trainer.evaluate()
    assert store.count("loss").tolist() == before == [1] * N


def test_the_model_is_called_once_a_step_and_trl_warns_of_nothing_more_than_by_itself(place: Path) -> None:
    trainer = sft(place, TokenLossHook(new_store(place)))
    calls = []
    trainer.model.register_forward_hook(lambda *_: calls.append(None))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trainer.train()
    assert len(calls) == N // 4
    assert not [one for one in seen if issubclass(one.category, FutureWarning)]


def test_a_shuffled_dataset_is_put_back_into_the_order_of_the_rows(place: Path) -> None:
    store = new_store(place)
    sft(place, TokenLossHook(store), shuffle_dataset=True).train()
    np.testing.assert_allclose(store["loss"], [by_itself(row)["loss"] for row in range(N)], rtol=1e-5)


def test_packing_once_and_for_all_is_refused_and_the_remedy_goes(place: Path) -> None:
    with pytest.raises(InvalidValue, match=r"packing=True packs.*packing=False, padding_free=True and max_length=None"):
        sft(place, TokenLossHook(new_store(place)), packing=True)
    sft(
        place,
        TokenLossHook(new_store(place.with_name("other"))),
        packing=False,
        padding_free=True,
        max_length=None,
    ).train()


def test_documents_that_max_length_leaves_without_a_label_are_named(place: Path) -> None:
    asked = [text(3) if row == 5 else word(row) for row in range(N)]
    data = Dataset.from_dict({"prompt": asked, "completion": [" " + word(row) for row in range(N)]})
    store = new_store(place)
    with pytest.raises(InvalidValue, match=r"has 11 samples.*1 of these are dropped in its column 'row' \(5\)"):
        sft(place, TokenLossHook(store), data=data, max_length=3)


def test_a_loss_that_is_not_the_tokens_is_told(place: Path) -> None:
    with pytest.raises(InvalidValue, match=r"loss_type='dft' makes it otherwise.*loss_type='nll'"):
        sft(place, TokenLossHook(new_store(place)), loss_type="dft").train()
    store = new_store(place.with_name("other"), Entropy())
    sft(place, TokenLossHook(store), loss_type="dft").train()
    assert store.observed("entropy") == N


def final(place: Path, policy: Any, **settings: Any) -> Any:
    place.mkdir()
    trainer = sft(place / "store", TokenLossHook(new_store(place / "store")), policy, **(SGD | settings))
    trainer.train()
    return weights_of(trainer.model), trainer


@pytest.mark.parametrize("free", [False, True])
def test_weights_reach_the_fused_loss(free: bool, place: Path) -> None:
    packed = {"padding_free": True, "max_length": None} if free else {}
    double, _ = final(place.with_name("a"), Given(np.full(N, 2)), **packed)
    faster, _ = final(place.with_name("b"), KeepAll(), **packed, learning_rate=0.2)
    same(double, faster, 1e-6)
    two = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    whole, trainer = final(place.with_name("c"), Given(VARIED), **packed)
    halves, _ = final(place.with_name("d"), Given(VARIED), **packed, **two)
    same(whole, halves, 1e-6)
    assert trainer.hook.effective_samples == pytest.approx(VARIED.sum() ** 2 / (VARIED**2).sum(), rel=1e-6)


def test_weights_of_1_give_the_unweighted_run_bit_for_bit(place: Path) -> None:
    same(final(place.with_name("a"), Ones())[0], final(place.with_name("b"), KeepAll())[0], 0.0)


def test_a_training_resumes_in_the_middle_of_an_epoch_to_the_scores_that_it_would_have_had(place: Path) -> None:
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2}

    def go(store: ScoreStore, checkpoint: Any = None) -> Any:
        policy = Prune(0.5, "loss")
        sampler = AdaptiveSampler(store, policy, seed=1, warmup_epochs=1, num_samples=N)
        trainer = Sft(
            causal(),
            args=quiet(place.parent / "run", trl.SFTConfig, bf16=False, **(SGD | settings)),
            train_dataset=texts(),
            processing_class=tokenizer(),
            sampler=sampler,
            hook=TokenLossHook(store),
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        return store["loss"].tolist(), store.count("loss").tolist(), weights_of(trainer.model)

    with new_store(place) as store:
        losses, counts, weights = go(store)
    for step in (4, 8):
        checkpoint = str(place.parent / "run" / f"checkpoint-{step}")
        with ScoreStore.open(place, version=SamplerCallback.commit_of(checkpoint)) as store:
            again = go(store, checkpoint)
        assert again[:2] == (losses, counts)
        same(again[2], weights, 0.0)


# -- pairs --------------------------------------------------------------------------------------------------------------


def preferences() -> Dataset:
    chosen = [text(row + 1) for row in range(N)]
    return Dataset.from_dict(
        {"prompt": [word(row) for row in range(N)], "chosen": chosen, "rejected": [*chosen[1:], text(0)]}
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model on the disk: TRL reads the reference model from where the model came from."""
    folder = tmp_path_factory.mktemp("model")
    causal().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def dpo(place: Path, saved: str, hook: Any, policy: Any = None, **settings: Any) -> Dpo:
    return Dpo(
        saved,
        args=quiet(place.parent, trl.DPOConfig, bf16=False, **settings),
        train_dataset=preferences(),
        eval_dataset=preferences(),
        processing_class=tokenizer(),
        sampler=AdaptiveSampler(hook.store, policy or KeepAll(), seed=1),
        hook=hook,
    )


@pytest.mark.parametrize(
    "losses", [{"loss_type": ["sigmoid"]}, {"loss_type": ["ipo", "hinge"], "loss_weights": [0.3, 2]}]
)
def test_the_loss_of_each_pair_is_recorded(losses: Any, place: Path, saved: str) -> None:
    store = new_store(place)
    settings = {"per_device_train_batch_size": 1, "logging_steps": 1, "learning_rate": 1e-3} | losses
    hook = LossHook(TrainersLoss(), store)
    trainer = dpo(place, saved, hook, **settings)
    order = AdaptiveSampler(store, KeepAll(), seed=1).epoch_rows()[:]
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    np.testing.assert_allclose(store["loss"][order], logged, rtol=1e-5)
    assert len(set(logged)) > N // 2
    trainer.evaluate()
    assert store.count("loss").tolist() == [1] * N
    assert hook.effective_samples == N


def test_the_recorded_losses_of_a_batch_of_pairs_have_the_batchs_loss_as_their_mean(place: Path, saved: str) -> None:
    store = new_store(place)
    order = AdaptiveSampler(store, KeepAll(), seed=1).epoch_rows()[:]
    trainer = dpo(place, saved, LossHook(TrainersLoss(), store), learning_rate=1e-2)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    np.testing.assert_allclose(store["loss"][order].reshape(-1, 4).mean(1), logged, rtol=1e-5)


def test_weights_reach_the_loss_of_pairs_and_not_what_is_logged_beside_it(place: Path, saved: str) -> None:
    def final(name: str, policy: Any, **settings: Any) -> Any:
        folder = place.with_name(name)
        folder.mkdir()
        trainer = dpo(
            folder / "s", saved, LossHook(TrainersLoss(), new_store(folder / "s")), policy, **(SGD | settings)
        )
        trainer.train()
        first = trainer.state.log_history[0]
        return weights_of(trainer.model), {name: x for name, x in first.items() if "/" in name}

    double, logged = final("a", Given(np.full(N, 2)))
    faster, beside = final("b", KeepAll(), learning_rate=0.2)
    same(double, faster, 1e-6)
    assert logged == beside


@pytest.mark.parametrize("kind", ["sft", "aot"])
def test_losses_that_are_no_pairs_are_refused_by_name(kind: str, place: Path, saved: str) -> None:
    hook = LossHook(TrainersLoss(), new_store(place))
    with pytest.raises(InvalidValue, match=f"loss_type={kind}: its terms are no single pair's"):
        dpo(place, saved, hook, loss_type=["sigmoid", kind])


def test_a_hook_of_tokens_names_the_one_of_pairs(place: Path, saved: str) -> None:
    with pytest.raises(InvalidValue, match=r"hook=LossHook\(TrainersLoss\(\), store\)"):
        dpo(place, saved, TokenLossHook(new_store(place))).train()
    with pytest.raises(InvalidValue, match=r"hook=LossHook\(TrainersLoss\(\), store\)"):
        dpo(place, saved, LossHook(torch.nn.CrossEntropyLoss(), new_store(place.with_name("b")))).train()


def test_trainers_with_an_order_of_their_own_are_refused(place: Path) -> None:
    class Kto(AdaptiveTrainerMixin, trl.KTOTrainer):  # type: ignore[misc]
        """Keeps pairs together."""

    with pytest.raises(InvalidValue, match="KTOTrainer draws its train rows by a sampler of its own"):
        Kto(causal(), sampler=AdaptiveSampler(new_store(place), KeepAll()))
