"""Gradient scores of tiny Hugging Face models, one of each kind of wiring, against plain autograd on one sample at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from adaptive_sampler.torch import alignment, grand, l2rw_weights
from adaptive_sampler.torch.gradients.functional import cross_entropy
from adaptive_sampler.torch.gradients.influence import influence
from tests.references import gradients_alone, influence_from_gradients, l2rw_from_gradients

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
# BLOOM's own GELU, and the grouped products of the mixtures
pytestmark = pytest.mark.filterwarnings("ignore:(GeLUFunction|_grouped_mm) has no forward-mode derivative")

VOCABULARY, CLASSES, LENGTH = 20, 3, 5
SIZES = (1, 4, 16)
COMMON = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
GROUPED = {**COMMON, "num_key_value_heads": 1}
IMAGES = {**COMMON, "image_size": 8, "patch_size": 4}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", {**COMMON, "embedding_size": 6}),
    "bart": (
        "Bart",
        {
            "d_model": 8,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 12,
            "decoder_ffn_dim": 12,
            "max_position_embeddings": 16,
        },
    ),
    "bert": ("Bert", COMMON),
    "bloom": ("Bloom", {"hidden_size": 8, "n_layer": 1, "n_head": 2}),
    "convbert": ("ConvBert", {**COMMON, "embedding_size": 8, "conv_kernel_size": 3}),
    "deberta v2": ("DebertaV2", {**COMMON, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "distilbert": (
        "DistilBert",
        {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 16},
    ),
    "electra": ("Electra", {**COMMON, "embedding_size": 8}),
    "falcon": ("Falcon", {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}),
    "fnet": (
        "FNet",
        {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12, "max_position_embeddings": 16},
    ),
    "funnel": ("Funnel", {"d_model": 8, "n_head": 2, "d_head": 4, "d_inner": 12, "block_sizes": [1]}),
    "gemma 2": ("Gemma2", {**GROUPED, "head_dim": 4}),
    "gpt 2": ("GPT2", {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}),
    "gpt neox": ("GPTNeoX", COMMON),
    "llama": ("Llama", GROUPED),
    "mamba 2": ("Mamba2", {**COMMON, "state_size": 4, "num_heads": 4, "head_dim": 4, "n_groups": 1, "chunk_size": 4}),
    "mistral": ("Mistral", GROUPED),
    "mixtral": ("Mixtral", {**GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "opt": ("OPT", {**COMMON, "ffn_dim": 12, "word_embed_proj_dim": 8}),
    "phi": ("Phi", COMMON),
    "qwen 2": ("Qwen2", GROUPED),
    "qwen 2 moe": (
        "Qwen2Moe",
        {
            **GROUPED,
            "num_experts": 3,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 8,
            "shared_expert_intermediate_size": 8,
        },
    ),
    "roberta": ("Roberta", COMMON),
    "t5": ("T5", {"d_model": 8, "d_ff": 12, "d_kv": 4, "num_layers": 1, "num_heads": 2}),
    "vit": ("ViT", IMAGES),
    "xlnet": ("XLNet", {"d_model": 8, "n_layer": 1, "n_head": 2, "d_inner": 12}),
}
FLOAT32 = {"mixtral", "qwen 2 moe"}  # torch multiplies grouped matrices in no wider dtype
# The Hessian is written out: the smallest that compute in float64 throughout, so that its solver converges.
WITH_INFLUENCE = ("bert", "distilbert", "electra", "fnet", "gpt 2", "vit")


class Classifier(nn.Module):
    """Logits as a plain tensor, whatever the family gives."""

    def __init__(self, family: nn.Module) -> None:
        super().__init__()
        self.family = family

    def forward(self, inputs: Tensor) -> Tensor:
        out = self.family(inputs)
        return out.logits if hasattr(out, "logits") else out.last_hidden_state.mean(1)


def built(name: str) -> nn.Module:
    prefix, sizes = FAMILIES[name]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    config = getattr(transformers, f"{prefix}Config")(
        vocab_size=VOCABULARY, num_labels=CLASSES, **special, decoder_start_token_id=0, **sizes
    )
    heads = ("T5EncoderModel",) if name == "t5" else (f"{prefix}For{t}Classification" for t in ("Sequence", "Image"))
    kind = next((getattr(transformers, h) for h in heads if hasattr(transformers, h)), None)
    torch.manual_seed(0)
    model = Classifier((kind or getattr(transformers, f"{prefix}Model"))(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) / 10  # freshly made, logits are nearly equal and biases zero
    return model if name in FLOAT32 else model.double()


class Case:
    """A model of one family, data for it, and its samples' gradients one at a time, made once a size."""

    def __init__(self, name: str) -> None:
        self.name, self.model = name, built(name)
        self._gradients: dict[int, Tensor] = {}

    def data(self, size: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(size)
        labels = torch.randint(CLASSES, (size,), generator=generator)
        if self.name == "vit":
            return torch.randn(size, 3, 8, 8, generator=generator, dtype=torch.float64), labels
        tokens = torch.randint(3, VOCABULARY, (size, LENGTH), generator=generator)
        tokens[:, -1] = 2  # BART classifies by its end
        return tokens, labels

    def gradients(self, size: int) -> Tensor:
        if size not in self._gradients:
            with sdpa_kernel(SDPBackend.MATH):
                self._gradients[size] = gradients_alone(self.model, cross_entropy, *self.data(size))
        return self._gradients[size]


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def close(found: Tensor, wanted: Tensor) -> None:
    """Within 1e-5: norms, softmax and rotary embeddings compute in float32 in many a family."""
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("size", SIZES)
def test_grand_is_the_norm_of_each_samples_gradient_alone(case: Case, size: int) -> None:
    close(grand(case.model, *case.data(size)), case.gradients(size).norm(dim=1))


@pytest.mark.parametrize("size", SIZES)
def test_alignment_is_each_samples_gradient_alone_times_the_direction(case: Case, size: int) -> None:
    wanted = case.gradients(size)
    direction = torch.randn(wanted.shape[1], dtype=wanted.dtype, generator=torch.Generator().manual_seed(1))
    direction /= direction.norm()
    found = alignment(case.model, *case.data(size), direction)
    torch.testing.assert_close(found, wanted @ direction, rtol=1e-5, atol=1e-5 * float(wanted.norm(dim=1).max()))


@pytest.mark.parametrize("size", SIZES)
def test_l2rw_weighs_by_the_samples_gradients_alone(case: Case, size: int) -> None:
    found = l2rw_weights(case.model, *case.data(size), *case.data(3))
    close(found, l2rw_from_gradients(case.gradients(size), case.gradients(3)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", WITH_INFLUENCE, indirect=True)
def test_influence_is_by_the_samples_gradients_alone(case: Case, size: int) -> None:
    data, clean = case.data(size), case.data(3)
    gradients = case.gradients(size), case.gradients(3)
    with sdpa_kernel(SDPBackend.MATH):
        wanted = influence_from_gradients(case.model, cross_entropy, *data, *gradients, damping=100.0)
    close(influence(case.model, [data], [clean], damping=100.0), wanted)


def by_name(attention: Callable[[int], Tensor]) -> tuple[nn.Module, dict[str, Tensor], Tensor, Tensor]:
    case = Case("bert")
    tokens, labels = case.data(4)
    mask = torch.stack([attention(length) for length in (5, 2, 4, 3)])
    tokens = torch.where(mask.bool(), tokens, 0)
    model = case.model.family
    rows = []
    for token, kept, label in zip(tokens, mask, labels, strict=True):
        loss = cross_entropy(model(token[None], kept[None]).logits, label[None])
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in found]))
    return model, {"input_ids": tokens, "attention_mask": mask}, labels, torch.stack(rows)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_inputs_by_name_are_scored_as_each_sample_alone(side: str) -> None:
    def attention(length: int) -> Tensor:
        kept = torch.arange(LENGTH) < length
        return (kept.flip(0) if side == "left" else kept).long()

    model, inputs, labels, gradients = by_name(attention)
    close(grand(model, inputs, labels), gradients.norm(dim=1))
    close(alignment(model, inputs, labels, gradients[0]), gradients @ gradients[0])
