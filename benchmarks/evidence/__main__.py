"""`python -m benchmarks.evidence [QUESTION ...] [options]`: answer these questions, or all of them.

Runs that are recorded already are not repeated.
"""

import warnings

from benchmarks.evidence.page import QUESTIONS
from benchmarks.evidence.runs import answer, arguments

if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=ResourceWarning)  # WebDataset leaves its shards open
    parser = arguments("Do these samplers make models better? Then: python -m benchmarks.evidence.page")
    parser.add_argument("names", nargs="*", metavar="QUESTION", help=", ".join(q.name for q in QUESTIONS))
    given = parser.parse_args()
    for question in QUESTIONS:
        if question.name in (given.names or [question.name]):
            answer(question, given)
