"""The page's first paragraph: when to prune, by what, how much, and when not to. Each figure is from the recorded runs."""

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.evidence import coverage, how_many, online, when, window, window_settings
from benchmarks.evidence.runs import Records, shown, values

Answered = Mapping[str, Records]


def advice(answered: Answered) -> str:
    """The lines whose questions have been answered, as a Markdown list. `answered`: the records by the question's name."""
    told = [f"- **{head}** {line(answered)}\n" for head, (asked, line) in LINES.items() if answered.keys() >= asked]
    return "\nWhat to do about it, in short; the tables below are what it rests on:\n\n" + "".join(told) if told else ""


def points(differences: np.ndarray) -> str:
    """Mean ± standard error, with a sign."""
    return shown(differences, signed=True)


def _when(answered: Answered) -> str:
    records = answered["online"]
    shorter = next(name for name in online.methods(records) if name.endswith("epochs"))

    def told(method: str) -> str:
        saved, accuracy = (online.against_plain(records, method, key) for key in ("samples", "accuracy"))
        return f"{shown(saved, digits=1)} % fewer samples and {points(accuracy)} points of accuracy"

    return (
        f"Within one training, keep what had the highest losses, anew in each epoch: `Prune(0.65, 'loss')` is "
        f"{told('highest 65 % of loss')}, half with a way back (`Prune(0.5, 'loss', max_age=3)`) "
        f"{told(f'highest 50 % of loss, max_age {online.MAX_AGE}')}. A training that is a third shorter costs "
        f"{points(online.against_plain(records, shorter, 'accuracy'))}."
    )


def _by_what(answered: Answered) -> str:
    records = answered["data_diet"]
    by = {by: values(records, by=by, keep=0.5, equal="epochs") for by in ("grand", "el2n", "margin", "random")}
    gap = {name: points(found - values(records, by="full")) for name, found in by.items()}
    return (
        "For many trainings, prune once, by EL2N, GraNd or the margin: with half of the images and half of the steps "
        f"{gap['el2n']}, {gap['grand']} and {gap['margin']} points from everything, a random half {gap['random']}."
    )


def _how_much(answered: Answered) -> str:
    records = answered["coverage"]

    def ahead(by: str, keep: float) -> str:
        return points(coverage.at(records, by, keep) - coverage.at(records, "random", keep))

    stratified = coverage.at(records, "stratified", 0.1) - values(records, by="full")
    return (
        f"Of 55,000 images to half by EL2N alone, and no further: the highest are {ahead('highest', 0.5)} points from a random "
        f"share at 50 %, {ahead('highest', 0.3)} at 30 %. For less, cover: `Spread` at 30 % {ahead('spread', 0.3)}, `Stratified` "
        f"without its hardest at 10 % {ahead('stratified', 0.1)}; but that is {points(stratified)} from everything."
    )


def _good_enough(answered: Answered) -> str:
    records, random = answered["when"], when.by_chance(answered["when"])
    peak, end, margin = (
        when.at(records, *asked) - random for asked in (("el2n", 4), ("el2n", when.WHOLE), ("margin", 4))
    )
    short = how_many.figures(answered["how_many"], "el2n", 1)
    return (
        f"With {when.NUMBER:,} images, halves by EL2N taken after 4 of {when.WHOLE} epochs, as the learning rate peaks, are "
        f"{points(peak)} points from random ones; taken at the end {points(end)}, or at the end of a single training of "
        f"{how_many.SCORE_EPOCHS} epochs {points(short)}; by the margin, a mean over all of 4 epochs, {points(margin)}."
    )


def _wrong_labels(answered: Answered) -> str:
    short, long = answered["window"], answered["window_settings"]
    highest = values(short, noise=0.2, kept=f"{window.OFFSETS[-1]}") - values(short, noise=0.2, kept="random")
    best = values(window_settings.chosen(long))
    gain, stopped = (best - window_settings.full(long, long=True), best - window_settings.full(long, long=False))
    return (
        f"With 20 % wrong labels the highest half is {points(highest)} points from a random one. A window below them, chosen on "
        f"held-out images, is {points(gain)} from everything in a training long enough to learn them by heart, and "
        f"{points(stopped)} from one of a third as many epochs."
    )


LINES: dict[str, tuple[set[str], Callable[[Answered], str]]] = {
    "When?": ({"online"}, _when),
    "By what?": ({"data_diet"}, _by_what),
    "How much?": ({"coverage"}, _how_much),
    "Not by a hasty score.": ({"when", "how_many"}, _good_enough),
    "Not the hardest, where labels are wrong.": ({"window", "window_settings"}, _wrong_labels),
}
