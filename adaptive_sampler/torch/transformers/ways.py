"""Which way a hook records the steps of a Trainer: by the model's outputs, inside the loss, or by the means it takes."""

from typing import Any, Protocol

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.hook.hook import LossHook
from adaptive_sampler.torch.tokens.hook import TokenLossHook
from adaptive_sampler.torch.transformers.at_hand import check_sampler
from adaptive_sampler.torch.transformers.forward import Divisor, Forward, Readout
from adaptive_sampler.torch.transformers.fused import measures_el2n
from adaptive_sampler.torch.transformers.held import Held, holds
from adaptive_sampler.torch.transformers.means import Means, TrainersLoss
from adaptive_sampler.torch.transformers.observed import Observed
from adaptive_sampler.torch.transformers.outputs import Chosen
from adaptive_sampler.torch.transformers.samples import SampleLogits
from adaptive_sampler.torch.transformers.settings import same_loss, same_token_loss
from adaptive_sampler.torch.transformers.step import TrainerStep
from adaptive_sampler.torch.transformers.tokens import tokens_of


class Way(Protocol):
    """A way to record the steps of a Trainer."""

    def run(self, call: Any, model: Any, step: TrainerStep) -> Any:
        """Call `compute_loss` for a step, record, and weigh -> what it returned."""


def way_of(trainer: Any, hook: LossHook | TokenLossHook, key: str | None) -> Way:
    """The way in which the hook records this Trainer's steps; `key`: under which batches have their rows."""
    if key is None:
        raise InvalidValue(
            "the train dataset's samples carry no rows: pass IndexedDataset(dataset, key='row'); its key goes around the "
            "collator and is taken off before the model is called."
        )
    check_sampler(hook, trainer.adaptive_sampler, weighted=False)
    hook.to(trainer.args.device)  # class weights go to the logits
    if holds(trainer, hook):
        return Held()
    if isinstance(hook, TokenLossHook):
        return _of_tokens(trainer, hook)
    if isinstance(hook.criterion, TrainersLoss):
        return Means(trainer, hook)
    takes_loss = hook.store.session.takes("loss")
    if takes_loss:
        same_loss(hook.criterion, trainer)

    chosen, divisor = Chosen(told=takes_loss), Divisor()

    def read(step: TrainerStep, module: Any, output: Any) -> Readout:
        observation = trainer.observation(output, step.inputs)
        return (
            SampleLogits(hook, step, output, chosen, divisor)
            if observation is None
            else Observed(hook, step, output, observation)
        )

    return Forward(read, compare=takes_loss)


def _of_tokens(trainer: Any, hook: TokenLossHook) -> Way:
    takes_loss = hook.store.session.takes("loss")
    if takes_loss:
        same_token_loss(trainer)
    measures_el2n(trainer, hook)
    # Where no score takes the loss, that of the training may be another. It is compared anyway, for the shift, if it can be.
    smoothed = trainer.args.label_smoothing_factor or getattr(trainer.args, "loss_type", None) == "dft"
    other = smoothed or getattr(trainer, "compute_loss_func", None) is not None
    divisor = Divisor()
    return Forward(
        lambda step, module, output: tokens_of(hook, step, module, output, divisor), compare=takes_loss or not other
    )
