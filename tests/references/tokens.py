"""A twin of the token loss hook's scores, on plain lists: one token after another."""

from collections import defaultdict
from collections.abc import Callable, Sequence

IGNORED = -100


def document_means(
    logits: Sequence[Sequence[Sequence[float]]],
    labels: Sequence[Sequence[int]],
    documents: Sequence[Sequence[int]],
    measure: Callable[[Sequence[float], int], float],
    *,
    shift: bool = True,
) -> dict[int, tuple[int, float]]:
    """Document -> (how many of its tokens count, the mean of their `measure`); without documents of none.

    `logits` (batch, tokens, words), `labels` (batch, tokens). `documents` (batch, tokens): the document of each token; −1
    for padding. With `shift` a token is predicted from the one before it, if that is of the same document.
    """
    values = defaultdict(list)
    for one, label, document in zip(logits, labels, documents, strict=True):
        for t in range(len(label)):
            predicted = t + 1 if shift else t
            if predicted == len(label) or document[predicted] != document[t] or document[t] < 0:
                continue
            if label[predicted] != IGNORED:
                values[document[t]].append(measure(one[t], label[predicted]))
    return {document: (len(some), sum(some) / len(some)) for document, some in values.items()}
