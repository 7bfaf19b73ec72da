"""A model of transformers on a pack of its own collator: packed, each document has the scores that it has alone."""

import numpy as np
import pytest
import torch

from tests.torch.tokens.samples import hooked

transformers = pytest.importorskip("transformers")

WORDS, LENGTHS, ROWS = 40, [5, 3, 8, 2], [9, 4, 1, 6]


def tiny(attention):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=WORDS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        attn_implementation=attention,
    )
    return transformers.LlamaForCausalLM(config).train()


def documents():
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(WORDS, (length,), generator=generator).tolist()} for length in LENGTHS]


def packed(model, *names):
    """A hook that recorded the collator's pack, told by the bounds of these names, and the model's own loss of it."""
    collator = transformers.DataCollatorWithFlattening(
        return_tensors="pt", return_seq_idx=True, return_flash_attn_kwargs=True
    )
    batch, hook = collator(documents()), hooked()
    bounds = {"position_ids": batch["position_ids"], "seq_idx": batch["seq_idx"], "cu_seqlens": batch["cu_seq_lens_q"]}
    given = {name: batch[name] for name in ("input_ids", "labels", "position_ids")}
    out = model(**given, use_cache=False)
    value = hook(out.logits, batch["labels"], rows=ROWS, **{name: bounds[name] for name in names})
    return hook, value, out.loss


@pytest.fixture(params=["eager", "sdpa"])
def model(request):
    return tiny(request.param)


@pytest.mark.parametrize(
    "names",
    [["position_ids"], ["seq_idx"], ["cu_seqlens"], ["position_ids", "seq_idx", "cu_seqlens"]],
    ids=lambda names: "+".join(names),
)
def test_a_pack_of_its_own_collator_has_the_scores_of_single_documents(model, names):
    hook, value, loss = packed(model, *names)
    alone = hooked()
    for row, document in zip(ROWS, documents(), strict=True):
        ids = torch.tensor([document["input_ids"]])
        alone(model(ids, use_cache=False).logits, ids, rows=[row])
    assert torch.equal(value, loss)
    for name in hook.store.names:
        np.testing.assert_allclose(hook.store[name], alone.store[name], rtol=1e-5, atol=1e-6)
