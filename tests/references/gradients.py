"""Twins of the gradient scores, which take one sample or one retraining at a time.

torch is imported inside the functions, because the core's tests run without it.
"""

import numpy as np


def gradients_one_by_one(model, loss_fn, inputs, labels):  # type: ignore[no-untyped-def]  # torch is imported late
    """(batch, parameters): each sample's gradient by its own backward pass over the whole batch, in the model's mode."""
    import torch

    theta = [p for p in model.parameters() if p.requires_grad]
    losses = loss_fn(model(inputs), labels)
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, theta, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(theta, found, strict=True)]
            )
        )
    return torch.stack(rows)


def gradients_alone(model, loss_fn, inputs, labels):  # type: ignore[no-untyped-def]  # torch is imported late
    """(batch, parameters): each sample's gradient in a batch of its own, in the model's mode."""
    import torch

    alone = [gradients_one_by_one(model, loss_fn, inputs[i : i + 1], labels[i : i + 1]) for i in range(len(inputs))]
    return torch.cat(alone)


def grand_one_by_one(model, loss_fn, inputs, labels):  # type: ignore[no-untyped-def]  # torch is imported late
    """(batch,) GraNd: gradient norms in eval mode, every sample in a batch of its own (Paul et al. 2021)."""
    training = model.training
    model.eval()
    norms = gradients_alone(model, loss_fn, inputs, labels).norm(dim=1)
    model.train(training)
    return norms


def l2rw_from_gradients(gradients, clean):  # type: ignore[no-untyped-def]  # torch is imported late
    """(batch,) L2RW's weights from the gradients of the batch and of the clean samples, one row per sample."""
    kept = (gradients @ clean.mean(0)).clamp(min=0)
    return kept / kept.sum() if kept.sum() > 0 else kept


def influence_from_gradients(model, loss_fn, inputs, labels, gradients, clean, damping):  # type: ignore[no-untyped-def]  # torch is imported late
    """(n,) influences of samples with given gradients. Second backward passes give the whole Hessian."""
    import torch

    theta = [p for p in model.parameters() if p.requires_grad]
    first = torch.autograd.grad(
        loss_fn(model(inputs), labels).mean(), theta, create_graph=True, allow_unused=True, materialize_grads=True
    )
    slope = torch.cat([g.flatten() for g in first])
    rows = torch.autograd.grad(
        slope,
        theta,
        torch.eye(len(slope), dtype=slope.dtype),
        is_grads_batched=True,
        allow_unused=True,
        materialize_grads=True,
    )
    matrix = torch.cat([row.flatten(1) for row in rows], 1)
    solved = torch.linalg.solve(matrix + damping * torch.eye(len(slope), dtype=slope.dtype), clean.mean(0))
    return -(gradients @ solved) / len(inputs)


def l2rw_two_steps(model, inputs, labels, clean_inputs, clean_labels, loss_fn, step=0.1):  # type: ignore[no-untyped-def]  # torch is imported late
    """(batch,) L2RW's weights by definition (Ren et al. 2018): look ahead by ε, differentiate by ε, rectify, normalise.

    The training pass draws its dropout masks from torch's generator as it is. The clean pass draws them from a
    generator that is seeded with the next number of that generator.
    Run it under `sdpa_kernel(SDPBackend.MATH)`: flash attention has no second derivative.
    """
    import torch
    from torch.func import functional_call

    before = torch.get_rng_state()
    theta = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    losses = loss_fn(functional_call(model, {**theta, **buffers}, (inputs,)), labels)
    epsilon = torch.zeros_like(losses, requires_grad=True)
    slope = torch.autograd.grad((epsilon * losses).sum(), list(theta.values()), create_graph=True)
    ahead = {name: p - step * g for (name, p), g in zip(theta.items(), slope, strict=True)}
    torch.set_rng_state(before)
    torch.manual_seed(int(torch.randint(2**62, ())))
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    clean = loss_fn(functional_call(model, {**ahead, **buffers}, (clean_inputs,)), clean_labels).mean()
    (by_epsilon,) = torch.autograd.grad(clean, epsilon)
    torch.set_rng_state(before)
    kept = (-by_epsilon).clamp(min=0)
    return kept / kept.sum() if kept.sum() > 0 else kept


def influence_explicit(model, loss_fn, inputs, labels, clean_inputs, clean_labels, damping):  # type: ignore[no-untyped-def]  # torch is imported late
    """(n,) influences −(1/n) ⟨(H + damping·I)⁻¹ ∇L_clean, ∇ℓ_i⟩, with the whole Hessian as a matrix."""
    import torch
    from torch.func import functional_call, hessian, jacrev

    named = dict(model.named_parameters())
    theta = torch.cat([p.detach().flatten() for p in named.values()])

    def losses(vector, x, y):  # type: ignore[no-untyped-def]  # torch is imported late
        parts = vector.split([p.numel() for p in named.values()])
        shaped = {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}
        return loss_fn(functional_call(model, shaped, (x,)), y)

    matrix = hessian(lambda v: losses(v, inputs, labels).mean())(theta)
    clean = jacrev(lambda v: losses(v, clean_inputs, clean_labels).mean())(theta)
    solved = torch.linalg.solve(matrix + damping * torch.eye(len(theta), dtype=theta.dtype), clean)
    return -(jacrev(lambda v: losses(v, inputs, labels))(theta) @ solved) / len(inputs)


def fit_logistic(inputs, labels, classes, decay, weights=None, start=None, inverse=None):  # type: ignore[no-untyped-def]  # untyped as the rest
    """Minimise (1/n) Σ w_i ℓ_i + decay/2·‖θ‖² over a linear layer with bias, by Newton steps in NumPy.

    `inputs` (n, features) float64, `labels` (n,) int; θ is (classes, features + 1), the bias last. Returns θ and the
    inverse of the last Hessian. If `inverse` is given, that of a similar problem, no Hessian is made: this takes more
    steps to the same minimum.
    """
    n = len(inputs)
    with_one = np.hstack([inputs, np.ones((n, 1))])
    weights = np.ones(n) if weights is None else weights
    hot = np.eye(classes)[labels]
    theta = np.zeros((classes, with_one.shape[1])) if start is None else start
    fixed = inverse
    for _ in range(500):
        logits = with_one @ theta.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        slope = ((p - hot) * weights[:, None]).T @ with_one / n + decay * theta
        if np.abs(slope).max() < 1e-11 and inverse is not None:
            break
        if fixed is None:
            blocks = np.einsum("nk,kl->nkl", p, np.eye(classes)) - np.einsum("nk,nl->nkl", p, p)
            curve = np.einsum("n,nkl,ni,nj->kilj", weights, blocks, with_one, with_one, optimize=True) / n
            inverse = np.linalg.inv(curve.reshape(theta.size, -1) + decay * np.eye(theta.size))
        theta = theta - (inverse @ slope.ravel()).reshape(theta.shape)
    return theta, inverse
