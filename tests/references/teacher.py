"""Twins of the teacher: a sample's features one by one, and REINFORCE's estimate as its formula stands."""

import numpy as np

# No torch up here: the tests of the core read this package too.


def teacher_features(logits, labels, calls, steps, kept_losses, best):
    """(batch, 2 · classes + 5), sample by sample. `kept_losses`: of every sample kept so far."""
    classes = logits.shape[1]
    so_far = np.mean(kept_losses) / np.log(classes) if len(kept_losses) else 1.0
    rows = []
    for scores, label in zip(np.asarray(logits, np.float64), labels, strict=True):
        p = np.exp(scores - scores.max())
        p /= p.sum()
        onehot = [float(c == label) for c in range(classes)]
        margin = p[label] - max(p[c] for c in range(classes) if c != label)
        loss = np.log(np.exp(scores - scores.max()).sum()) - (scores[label] - scores.max())
        rows.append([*onehot, min(calls / steps, 1), so_far, best, *p, loss / np.log(classes), margin])
    return np.array(rows)


def reinforce(gradients, rewards, discount):
    """Σ_t v_t · ∇ ln π(a_t | s_t), v_t = Σ_(k ≥ t) γ^(k − t) · r_k. gradients: one vector a call; rewards: one a call."""
    total = np.zeros_like(gradients[0])
    for t, gradient in enumerate(gradients):
        total += gradient * sum(discount ** (k - t) * rewards[k] for k in range(t, len(rewards)))
    return total
