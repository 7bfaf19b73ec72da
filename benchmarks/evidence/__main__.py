"""`python -m benchmarks.evidence [QUESTION ...] [options]`: answer these questions, or all of them, and write the page.

Runs that the results have, or that an interrupted command has left, are not done again.
"""

import warnings

from benchmarks.evidence.page import PAGE, QUESTIONS, page
from benchmarks.evidence.runs import answer, arguments, results
from benchmarks.harness import RESULTS

if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=ResourceWarning)  # WebDataset leaves its shards open
    parser = arguments("Do these samplers make models better? Answers, and docs/evidence.md.")
    parser.add_argument("names", nargs="*", metavar="QUESTION", help=", ".join(q.name for q in QUESTIONS))
    given = parser.parse_args()
    for question in QUESTIONS:
        if question.name in (given.names or [question.name]):
            answer(question, given)
    if given.repeat is None and results(given).parent == RESULTS:
        PAGE.write_text(page())
