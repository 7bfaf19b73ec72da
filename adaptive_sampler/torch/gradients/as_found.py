"""Runs a model and leaves everything about it as it was: modes, weights, random state, and torch's switches."""

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.torch.gradients.randomness import same_random_state


@contextlib.contextmanager
def as_found(model: nn.Module, *, evaluate: bool = False) -> Iterator[None]:
    """A context in which the model runs eagerly and with gradients; afterwards modes, weights and random state are restored.

    Args:
        model: the module whose training flags are kept.
        evaluate: put every module into eval mode inside the context.

    Raises:
        InvalidValue: the model wrote to a parameter.
    """
    _load_derivatives()
    modes = [(module, module.training) for module in model.modules()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(same_random_state(model))
        stack.enter_context(_same_weights(model))
        for context in _transparent(model):
            stack.enter_context(context)
        try:
            if evaluate:
                model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training


@contextlib.contextmanager
def _same_weights(model: nn.Module) -> Iterator[None]:
    """Undo what embeddings with a max_norm do to the rows that they look up, and allow no other write to a parameter.

    Raises `InvalidValue` if the model wrote to another parameter.
    """
    norm_bound = [
        m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag) and m.max_norm is not None
    ]
    weights = {id(m.weight): (m.weight, m.weight.detach().clone()) for m in norm_bound}
    others = [(name, p) for name, p in model.named_parameters() if id(p) not in weights and not p.is_inference()]
    before = [p._version for _, p in others]
    try:
        yield
    finally:
        for weight, kept in weights.values():
            weight.data.copy_(kept)  # by .data, so that graphs of the caller do not notice
    for (name, p), version in zip(others, before, strict=True):
        if p._version != version:
            raise InvalidValue(
                f"the model writes in its parameter {name!r} as it runs, and so has this pass: scores are of a model that "
                "stays as it is; write in it after optimizer.step() rather than in forward (nn.Embedding's max_norm may stay)"
            )


@functools.cache
def _load_derivatives() -> None:
    """Make torch load its forward-mode and vmap rules, without the DeprecationWarning that torch itself gives when it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]  # untyped in torch
        torch.func.vmap(torch.sin)(torch.zeros(1))


def _transparent(model: nn.Module) -> list[contextlib.AbstractContextManager[Any]]:
    """Contexts in which each operator has as many derivatives as torch offers for it."""
    contexts: list[contextlib.AbstractContextManager[Any]] = [
        torch.inference_mode(False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),  # flash attention has no forward mode and no second derivative
        _no_fast_path(),
        _no_autocast_cache(),
    ]
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        # cuDNN's recurrent layers have no backward in eval mode, and no second derivative in any mode
        contexts.append(torch.backends.cudnn.flags(enabled=False))
    # if it is not imported, nothing is compiled; importing it takes seconds
    if "torch._dynamo" in sys.modules:
        # a compiled graph has neither forward mode nor hooks
        contexts.append(torch.compiler.set_stance("force_eager"))
    return contexts


@contextlib.contextmanager
def _no_fast_path() -> Iterator[None]:
    """Keep MultiheadAttention from its fused inference kernel, which has no derivatives."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Turn off autocast's cache, which would keep cast copies of our temporary parameters until the caller's region ends."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
