"""The token loss hook: a language model's loss as it is, and the scores of every document, packed or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.sampler import AdaptiveSampler
from adaptive_sampler.store import ScoreStore
from adaptive_sampler.torch.data.rows import checked_rows
from adaptive_sampler.torch.hook.outside import elsewhere, refuse_transforms, uncompiled
from adaptive_sampler.torch.hook.recorder import check_nonfinite
from adaptive_sampler.torch.hook.recording import Inside, Recording
from adaptive_sampler.torch.hook.tally import Tally
from adaptive_sampler.torch.tokens import loss, measured, scores
from adaptive_sampler.torch.tokens.batch import Batch, Taken, batch_of, checked_weights, pieces, taken
from adaptive_sampler.torch.tokens.recorder import DocumentRecorder
from adaptive_sampler.torch.tokens.targets import check_hidden, check_logits


@dataclass
class InsideTokens(Inside):
    """The private state of a `TokenLossHook`."""

    recorder: DocumentRecorder


class TokenLossHook(Recording, nn.Module):
    """The loss of a language model: `hook(logits, labels)` returns it, and records the scores of every document.

    The value is that of Hugging Face's causal models, bit for bit (ForCausalLMLoss): cross entropy in float32, of each token
    from the position before it (`shift=True`), as the mean over the tokens whose label is not `ignore_index`.
    `shift=False`: of each from its own position, for masked and sequence-to-sequence models, many of which compute theirs
    in the dtype of the logits. The `store` is the first argument, and none but it goes without its name: there is no criterion.

    A document's score is the mean over its counted tokens, which the score `Tokens` counts; the store is given one if it
    has none.

    The documents are the rows of the batch, or, if several are packed into one, those that `position_ids`, `seq_idx`,
    `cu_seqlens` or a row map tell apart; then entries of a call that have the same row are pieces of one document, and no
    document predicts the next one's first token. `joins=True` joins pieces that are rows of the batch of their own, and
    those of different calls of an epoch, as chunking and packing make them that cut documents: whatever has the same row
    within an epoch is one document, folded when the epoch is over or the scores are read, committed or planned by. It is a
    switch, because a batch does not show which documents are cut, and a row that the plan visits twice is none. Pieces that
    other ranks record are not joined.

    With `sampler`, whose plans may weigh documents, the value is Σ weight · (sum of a document's losses), divided as
    without weights. What is recorded are the losses before plan weights. `nonfinite`, `max_skipped`: as for `LossHook`.

    Raises `InvalidValue` for a store with a score that has no mean over tokens (`Forgetting`), and `StoreError` if `Tokens`
    is missing and the store is open to read.
    """

    _adaptive_sampler: InsideTokens

    def __init__(
        self,
        store: ScoreStore,
        *none: Any,
        sampler: AdaptiveSampler | None = None,
        shift: bool = True,
        ignore_index: int = -100,
        joins: bool = False,
        nonfinite: Literal["skip", "raise"] = "skip",
        max_skipped: float = 0.1,
    ) -> None:
        check_nonfinite(nonfinite)
        scores.check_store(store, *none)
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
            raise InvalidValue(
                f"ignore_index={ignore_index!r}: the label that does not count is needed, an int such as -100."
            )
        super().__init__()
        self.store, self.shift, self.ignore_index = store, shift, ignore_index
        tokens = scores.prepared(store)
        recorder = DocumentRecorder(store, nonfinite, Tally(max_skipped), tokens=tokens, joins=joins)
        self._adaptive_sampler = InsideTokens(recorder, applied=recorder.applied, sampler=sampler)
        store.session.register(self)

    def forward(
        self,
        logits: Tensor,
        labels: Any,
        *,
        rows: Any = None,
        position_ids: Any = None,
        seq_idx: Any = None,
        cu_seqlens: Any = None,
        attention_mask: Any = None,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The loss, () float32; records the documents if gradients are enabled.

        `logits` (batch, tokens, vocabulary); `labels` (batch, tokens) integers. `position_ids`, `seq_idx` (batch, tokens),
        or `cu_seqlens` (documents + 1,) over the flattened batch: where documents begin. `rows` (documents,) integers, in
        the order of the pack, or a row map (batch, tokens), −1 for padding; None for those of the watched batch.
        `attention_mask` (batch, tokens), 1 for a token, 0 for padding: padding before a document predicts its first token,
        which counts in the loss, as Hugging Face counts it, and is not recorded. `num_items_in_batch`, a positive number or a
        tensor of one: what the sum of the losses is divided by, instead of the tokens that count here: the counted tokens of
        the whole step, over accumulation and ranks. Raises `InvalidValue` if it is in doubt which documents these
        are, or if the arguments do not fit one another.
        """
        named = _named(position_ids, seq_idx, cu_seqlens, attention_mask)
        if torch.compiler.is_compiling():
            named |= {"num_items_in_batch": num_items_in_batch}
            compiled: Tensor = uncompiled()(self.forward, (logits, labels), rows, named)
            return compiled
        refuse_transforms("the loss itself", "hook.record_outputs(rows, logits, labels)")
        batch = batch_of(labels, rows, named, self.ignore_index, shift=self.shift)
        check_logits(logits, batch.labels, self.ignore_index, shift=self.shift)
        items = loss.checked_items(num_items_in_batch)
        one, target = taken(batch, self._adaptive_sampler, joins=self.joins), batch.target.to(logits.device)
        weights = None if one is None else one.weight_of_each(target)
        if weights is None:
            value = loss.plain(logits, target, self.ignore_index, items)
        else:
            losses = loss.token_losses(logits, target, self.ignore_index)
            value = loss.reduced(losses, weights, target, self.ignore_index, items)
        if one is not None and one.fresh is not False:
            self._record(batch, one, measured.of_logits(self.store, logits, target, self.ignore_index))
        return value

    def _record(self, batch: Batch, one: Taken, values: dict[str, Any]) -> None:
        own = self._adaptive_sampler
        weights = own.weights_of(one.weights)
        own.recorder.record(
            one.rows, one.fresh, values, batch.counted, one.documents, pieces=one.pieces, weights=weights
        )
        if own.watched.unweighted:
            own.watched.warn_unweighted()

    def linear(
        self,
        hidden: Tensor,
        weight: Tensor,
        labels: Any,
        *,
        bias: Tensor | None = None,
        rows: Any = None,
        position_ids: Any = None,
        seq_idx: Any = None,
        cu_seqlens: Any = None,
        attention_mask: Any = None,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The loss of the logits hidden · weightᵀ + bias, which are never all in memory; records the documents.

        `hidden` (batch, tokens, width), `weight` (vocabulary, width), `bias` (vocabulary,); the rest as for a call. Only
        scores that take the loss alone are recorded. Raises `InvalidValue` for a store with others, for a torch before
        2.13, and as a call does.
        """
        named = _named(position_ids, seq_idx, cu_seqlens, attention_mask)
        if torch.compiler.is_compiling():
            named |= {"num_items_in_batch": num_items_in_batch, "bias": bias}
            compiled: Tensor = uncompiled()(self.linear, (hidden, weight, labels), rows, named)
            return compiled
        refuse_transforms("the loss itself", "hook.record_tokens(rows, values, labels)")
        batch = batch_of(labels, rows, named, self.ignore_index, shift=self.shift)
        check_hidden(hidden, weight, bias, batch.labels, self.ignore_index, shift=self.shift)
        items = loss.checked_items(num_items_in_batch)
        scores.check_loss_alone(scores.of_tokens(self.store))
        one, target = taken(batch, self._adaptive_sampler, joins=self.joins), batch.target.to(hidden.device)
        losses = loss.linear_losses(hidden, weight, bias, target, self.ignore_index)
        if one is not None and one.fresh is not False:
            self._record(batch, one, measured.of_losses(self.store, losses))
        weights = None if one is None else one.weight_of_each(target)
        return loss.reduced(losses, weights, target, self.ignore_index, items)

    def record_outputs(
        self,
        rows: Any,
        logits: Tensor,
        labels: Any,
        *,
        position_ids: Any = None,
        seq_idx: Any = None,
        cu_seqlens: Any = None,
        attention_mask: Any = None,
    ) -> None:
        """Record what a call would record, for a training that computes the loss elsewhere; arguments as for a call."""
        named = _named(position_ids, seq_idx, cu_seqlens, attention_mask)
        batch = batch_of(labels, rows, named, self.ignore_index, shift=self.shift)
        check_logits(logits, batch.labels, self.ignore_index, shift=self.shift)
        target = batch.target.to(logits.device)
        self._given(batch, measured.of_logits(self.store, logits, target, self.ignore_index))

    def record_tokens(
        self,
        rows: Any,
        values: Mapping[str, Any],
        labels: Any,
        *,
        position_ids: Any = None,
        seq_idx: Any = None,
        cu_seqlens: Any = None,
        attention_mask: Any = None,
        weights: Any = None,
    ) -> None:
        """Record values of tokens that were measured elsewhere, as a fused loss gives them; other arguments as for a call.

        `values`: name -> (batch, tokens) or, with `shift`, (batch, tokens − 1): of the positions that predict, position t
        of label t + 1. A name is that of a score of the store, or the kind of a built-in one: loss, el2n, entropy, error,
        margin, confidence. `weights` (documents,) numbers: by what that loss weighed them, for `effective_samples`; None
        where each is 1. Raises `InvalidValue` if a score of the store has no value among them, and for other weights.
        """
        named = _named(position_ids, seq_idx, cu_seqlens, attention_mask)
        batch = batch_of(labels, rows, named, self.ignore_index, shift=self.shift)
        of_scores = measured.of_values(scores.of_tokens(self.store), values, batch.target, shift=self.shift)
        self._given(batch, of_scores, weights)

    def _given(self, batch: Batch, values: dict[str, Any], weights: Any = None) -> None:
        """Record values of tokens for the rows that a caller gave."""
        documents, own = batch.documents(), self._adaptive_sampler
        rows = checked_rows(documents.rows, documents.count)
        applied = own.weights_of(checked_weights(weights, documents.count))
        joined = pieces(batch, own, joins=self.joins)
        own.recorder.record(rows, True, values, batch.counted, documents, pieces=joined, weights=applied)

    @property
    def effective_samples(self) -> float:
        """As of every hook, of documents: pieces of one in a call count once, those without a counted token not at all.

        Reading it waits for the device.
        """
        self._adaptive_sampler.recorder.arrive()
        return super().effective_samples

    @property
    def skipped_documents(self) -> int:
        """How many documents were left out because none of their labels counts."""
        self.flush()
        return self._adaptive_sampler.recorder.without

    @property
    def joins(self) -> bool:
        """Whether pieces of a document are joined across the calls of an epoch; it may be set."""
        return self._adaptive_sampler.recorder.joins

    @joins.setter
    def joins(self, joins: bool) -> None:
        self._adaptive_sampler.recorder.joins = joins

    def extra_repr(self) -> str:
        """What nn.Module prints of this module."""
        return f"{self.store!r}, shift={self.shift}, ignore_index={self.ignore_index}, joins={self.joins}"

    def __copy__(self) -> "TokenLossHook":
        """A hook of the same arguments; store and sampler are shared."""
        recorder = self._adaptive_sampler.recorder
        return type(self)(
            self.store,
            sampler=self.sampler,
            shift=self.shift,
            ignore_index=self.ignore_index,
            joins=self.joins,
            nonfinite=recorder.nonfinite,
            max_skipped=recorder.tally.max_skipped,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenLossHook":
        memo[id(self)] = twin = self.__copy__()
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the arguments. Of the store only the path is kept."""
        nonfinite = self._adaptive_sampler.recorder.nonfinite
        named = {"shift": self.shift, "ignore_index": self.ignore_index, "joins": self.joins, "nonfinite": nonfinite}
        return elsewhere, (type(self), (), str(self.store.path), named)


def _named(position_ids: Any, seq_idx: Any, cu_seqlens: Any, attention_mask: Any) -> dict[str, Any]:
    """The arguments that tell documents apart, and padding from them, by name."""
    names = ("position_ids", "seq_idx", "cu_seqlens", "attention_mask")
    return dict(zip(names, (position_ids, seq_idx, cu_seqlens, attention_mask), strict=True))
