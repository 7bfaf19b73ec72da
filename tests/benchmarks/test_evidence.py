"""The evidence's questions run at their smallest size, and their tables and page are what the kept runs make."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("faiss")
pytest.importorskip("webdataset")

from adaptive_sampler import ScoreStore
from adaptive_sampler.commands.bench.result import digest, markdown
from adaptive_sampler.scoring import Forgetting, Loss, Margin, Score
from adaptive_sampler.scoring.folds import Last
from adaptive_sampler.selection import Prune
from benchmarks.evidence import libraries
from benchmarks.evidence.advice import LINES, advice
from benchmarks.evidence.again import Task
from benchmarks.evidence.again_ways import GROUPS, LONGER, halves, infobatch, scored
from benchmarks.evidence.coverage import from_centre, nearest
from benchmarks.evidence.curriculum import reached
from benchmarks.evidence.how_many import averaged, in_doubt
from benchmarks.evidence.jtt import GroupDRO
from benchmarks.evidence.left_out import retrained, small
from benchmarks.evidence.page import QUESTIONS, page
from benchmarks.evidence.removed import hardness
from benchmarks.evidence.runs import Question, Trial, best_of_each_seed, recorded, spread, verdict
from benchmarks.evidence.training import by_group, digits, learning_rate, made_up, of_each, some, with_wrong_labels
from benchmarks.evidence.velocity import Watched
from benchmarks.harness import RESULTS

ROOT = Path(__file__).parents[2]
KEPT = RESULTS / "evidence"

Answer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def answer(folder: Path) -> Answer:
    """These questions, or all, at their smallest size, in a process of its own: one thread, and WebDataset's open shards."""

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        folders = ["--runs", str(folder / "runs"), "--out", str(folder)]
        command = [sys.executable, "-m", "benchmarks.evidence", *names, "--quick", *folders]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def answered(answer: Answer, folder: Path) -> Path:
    done = answer()
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_a_question_writes_its_runs_table_and_figure(question: Question, answered: Path) -> None:
    records = recorded(answered / "evidence" / f"{question.name}.jsonl")
    body = json.loads((answered / "evidence" / f"{question.name}.json").read_text())
    assert {record["seed"] for record in records} == {0, 1}
    assert body["rows"] == question.table(records)
    assert (answered / "evidence" / f"{question.name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_tells_every_question_that_was_answered(answered: Path) -> None:
    told = page(answered)
    assert all(f"## {question.title}" in told for question in QUESTIONS)


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_a_kept_table_is_what_the_kept_runs_make(path: Path) -> None:
    body, question = json.loads(path.read_text()), next(q for q in QUESTIONS if q.name == path.stem)
    assert body["digest"] == digest(body)
    assert body["rows"] == question.table(recorded(path.with_suffix(".jsonl")))
    assert path.with_suffix(".md").read_text() == markdown(body)


def test_the_page_is_what_the_kept_runs_make() -> None:
    assert (ROOT / "docs/evidence.md").read_text() == page(), "runs have changed: python -m benchmarks.evidence.page"


def test_the_spread_is_the_mean_and_its_standard_error() -> None:
    assert spread(np.array([1.0, 2.0, 3.0])) == (2.0, pytest.approx(1 / np.sqrt(3)))


@pytest.mark.parametrize(("least", "end"), [(2.0, ": met."), (2.1, ": not met.")])
def test_a_verdict_follows_from_the_mean(least: float, end: str) -> None:
    assert verdict("ahead", np.array([1.0, 3.0]), least).endswith(end)


def test_wrong_labels_are_as_many_as_asked_for_and_all_wrong() -> None:
    labels = made_up().train.labels.numpy()
    given = with_wrong_labels(labels, 0.2, seed=3)
    assert (given != labels).sum() == 120
    assert given.min() >= 0
    assert given.max() <= 9


def test_wrong_labels_are_of_the_classes_there_are() -> None:
    labels = np.arange(100) % 5
    given = with_wrong_labels(labels, 1.0, seed=0, classes=5)
    assert (given != labels).all()
    assert set(given) == set(range(5))


def test_the_best_of_each_seed_is_by_the_figure_asked_for() -> None:
    records = [{"seed": 0, "found": {"validation": v, "sooner": s}} for v, s in ((90.0, -50.0), (80.0, -20.0))]
    assert best_of_each_seed(records) == records[:1]
    assert best_of_each_seed(records, "sooner") == records[1:]


def test_the_hardest_have_the_highest_forgetting_and_the_lowest_margin() -> None:
    store = ScoreStore.create(None, 4, [Forgetting(), Margin()])
    store.fold("forgetting", range(4), [0, 1, 1, 1])  # wrong from the first presentation on: never learnt
    store.fold("margin", range(4), [3, 0, 1, 2])
    assert hardness(store, "forgetting").tolist() == pytest.approx([0, 200 / 3, 200 / 3, 200 / 3])
    assert hardness(store, "margin").tolist() == pytest.approx([0, 100, 200 / 3, 100 / 3])


def test_libraries_give_as_many_documents_each_as_vectors_of_one_length_that_parts_leave_as_they_are() -> None:
    data = libraries.load(quick=True)
    labels = torch.cat([data.train.labels, data.test.labels])
    assert labels.bincount().tolist() == [libraries.FEW] * len(libraries.QUICK)
    vectors, _ = data.train.part(np.arange(10))[:]
    assert torch.equal(vectors, data.train.images[:10])
    assert vectors.norm(dim=1).numpy() == pytest.approx(libraries.SCALE, rel=1e-5)


@pytest.mark.parametrize(("aim", "share"), [(70, 25.0), (75, 75.0), (99, 100.0)])
def test_a_curve_reaches_an_aim_where_it_is_first_there(aim: float, share: float) -> None:
    assert reached([70.0, 60.0, 80.0, 80.0], aim) == share


def test_a_child_goes_on_from_its_parent_and_takes_the_samples_in_an_order_of_its_own(tmp_path: Path) -> None:
    watched = Watched(Trial(0, made_up(), tmp_path, quick=True, epochs=2), 0.0)
    parent, _ = watched.states[2]
    last, one, other = (watched.child(epoch, number) for epoch, number in ((2, 0), (1, 0), (1, 1)))
    assert all(torch.equal(a, b) for a, b in zip(parent.parameters(), last.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_the_distance_from_a_centre_is_that_from_the_mean_of_the_class() -> None:
    points, labels = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]), np.array([4, 4, 7])
    with pytest.warns(RuntimeWarning):  # the other eight classes have no image
        assert from_centre(points, labels).tolist() == [1.0, 1.0, 0.0]


def test_nearness_is_the_mean_over_images_of_one_minus_the_cosine_to_the_nearest_kept_one() -> None:
    some, kept = np.float32([[1, 0], [3, 3]]), np.float32([[5, 0], [0, 1]])
    assert nearest(some, kept) == pytest.approx((0 + 1 - np.sqrt(0.5)) / 2, abs=1e-6)


def test_each_seed_has_other_images_and_as_many_as_asked_for() -> None:
    data = made_up().train
    one, again, other = (some(data, 50, seed).images for seed in (0, 0, 1))
    assert len(one) == 50
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_of_each_class_there_are_as_many_images_as_asked_for_and_the_others_are_the_rest() -> None:
    data = made_up().train
    taken, rest = of_each(data, [5, 0, *[1000] * 8], seed=3)
    counts, every = (part.labels.bincount(minlength=10).tolist() for part in (taken, data))
    assert counts == [5, 0, *every[2:]]
    assert rest.labels.bincount(minlength=10).tolist() == [every[0] - 5, every[1], *[0] * 8]


def test_a_planned_epoch_is_as_long_as_everything_and_has_only_what_the_policy_keeps(tmp_path: Path) -> None:
    trial, store = Trial(0, None, tmp_path), ScoreStore.create(None, 8, [Loss()])
    store.fold("loss", np.arange(8), np.arange(8))
    drawn = list(trial.planned(store, Prune(2, "loss")))
    assert len(drawn) == 8
    assert set(drawn) == {6, 7}
    assert len(list(trial.planned(store, Prune(2, "loss"), length=5))) == 5


def test_scores_whose_making_was_cut_off_are_made_again_and_finished_ones_are_not(tmp_path: Path) -> None:
    trial, made = Trial(0, None, tmp_path), []

    def make(path: Path) -> ScoreStore:
        made.append(path)
        store = ScoreStore.create(path, 2, [Loss()], overwrite=True)
        store.fold("loss", range(2), [1, 2])
        return store

    for cut_off in (True, False, False):
        assert trial.scored("early", make)["loss"].tolist() == [1, 2]
        if cut_off:
            (made[0] / "CURRENT").unlink()
    assert len(made) == 2


def test_kinds_are_drawn_equally_often(tmp_path: Path) -> None:
    kinds = torch.tensor([0] * 900 + [1] * 100)
    drawn = list(Trial(0, None, tmp_path).equally(kinds))
    assert len(drawn) == 1000
    assert 400 < int(kinds[drawn].sum()) < 600


def test_the_accuracy_of_a_group_is_that_of_its_images() -> None:
    data, model = made_up().train, torch.nn.Linear(1, 1)
    model.forward = lambda images: torch.eye(10)[[3]].expand(len(images), 10)  # always class 3
    assert by_group(model, data, data.labels) == [0, 0, 0, 100, 0, 0, 0, 0, 0, 0]


def test_an_image_that_is_left_out_changes_nothing_in_its_net_and_something_in_the_others() -> None:
    images, labels = digits(0)
    images, labels = images[:60], torch.from_numpy(labels[:60])
    counted = torch.ones(2, 60)
    counted[1, 7] = 0
    relabelled = labels.clone()
    relabelled[7] = (labels[7] + 1) % 10
    one, other = (retrained(small(0), images, given, counted, 2, seed=0) for given in (labels, relabelled))
    assert all(torch.equal(one[name][1], other[name][1]) for name in one)
    assert not any(torch.equal(one[name][0], other[name][0]) for name in one)


def test_nets_that_are_trained_side_by_side_are_those_of_a_loop() -> None:
    """The rate and its warm-up, momentum and decay as torch's SGD has them."""
    images, labels = digits(0)
    images, labels = images[:80], torch.from_numpy(labels[:80])
    found = retrained(small(0), images, labels, torch.ones(2, 80), 3, seed=0)
    model, order = small(0), np.random.default_rng([0, 1])
    optimizer = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9, weight_decay=0.01)
    batches = [rows for _ in range(3) for rows in torch.from_numpy(order.permutation(80)).split(50)]
    for step, rows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 0.1 * min(1, (step + 1) / 0.6) * 0.5 * (1 + np.cos(np.pi * step / 6))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    for name, values in model.named_parameters():
        assert torch.allclose(found[name][0], values, atol=1e-5)


def test_a_mean_of_runs_is_the_store_s_own() -> None:
    assert averaged(list(np.float32([[1, 5], [2, 6], [6, 10]])))["score"].tolist() == [3.0, 7.0]


def test_in_doubt_are_rows_whose_scores_lie_on_either_side_of_the_median() -> None:
    """Means 0, 1, 5.5, 10, so that the median is 3.25: only the third row's band, 1.76 to 9.24, has it inside."""
    assert in_doubt(list(np.float32([[0, 1, 0, 10], [0, 1, 11, 10]]))) == 25.0


def test_each_line_of_the_page_s_advice_is_there_once_its_question_is_answered(answered: Path) -> None:
    kept = {question.name: recorded(answered / "evidence" / f"{question.name}.jsonl") for question in QUESTIONS}
    assert advice(kept).count("\n- **") == len(LINES)
    assert "When?" not in advice({name: records for name, records in kept.items() if name != "online"})
    assert advice({}) == ""


@pytest.mark.parametrize("name", [*GROUPS, *LONGER])
def test_a_group_has_every_way_that_the_group_whose_choice_it_takes_over_may_choose(name: str) -> None:
    labels, group = np.arange(60) % 10, (GROUPS | LONGER)[name]
    assert list(group.ways(group.epochs, labels)) == list(GROUPS[group.like or name].ways(8, labels))


def test_each_half_is_half_of_the_samples_of_all_epochs_together() -> None:
    n, rng = 1000, np.random.default_rng(0)
    store = ScoreStore.create(
        None, n, [Score(name, lambda value: value, Last()) for name in ("el2n", "margin", "rank")]
    )
    for name in store.names:
        store.fold(name, range(n), rng.random(n))
    for name, way in halves(8, np.arange(n) % 10).items():
        if not way.online:
            visits = sum(way.policy.plan(store, epoch=epoch, seed=0).num_samples for epoch in range(8))
            assert visits == pytest.approx(4 * n, rel=0.02), name


@pytest.mark.parametrize("more", [0.0, 0.08])
def test_every_way_of_infobatch_saves_30_percent_where_78_percent_are_easy(more: float) -> None:
    """As in the trainings of the page: of twelve epochs the first is of everything."""
    n = 1000
    store = ScoreStore.create(None, n, [Loss()])
    store.fold("loss", range(n), np.r_[np.linspace(0.0, 0.1, 780), np.linspace(1.0, 2.0, 220)])
    for name, way in infobatch(12, np.arange(n) % 10, more).items():
        visits = n + sum(way.policy.plan(store, epoch=epoch, seed=0).num_samples for epoch in range(1, 12))
        assert visits <= 0.7 * 12 * n, name


def test_what_chooses_is_the_third_of_the_training_images_that_the_choice_is_not_trained_on(tmp_path: Path) -> None:
    data = made_up()
    fit, held = Task(Trial(0, data, tmp_path, quick=True), "half, equal steps").parts
    assert len(held) == len(data.train) // 3
    both = torch.cat([fit.images, held.images]).flatten(1)
    assert torch.equal(both.unique(dim=0), data.train.images.flatten(1).unique(dim=0))


def test_the_mean_of_ranks_is_highest_for_what_is_hardest_by_all_scores(tmp_path: Path) -> None:
    with scored(made_up().train, 0, 1, 2, tmp_path / "scores.zarr") as store:
        places = [np.argsort(np.argsort(score)) for score in (store["el2n"], -store["margin"], store["forgetting"])]
        assert store["rank"].tolist() == pytest.approx(np.mean(places, axis=0).tolist())


def test_the_learning_rate_rises_from_little_and_falls_to_nothing() -> None:
    rates = [learning_rate(done) for done in (0, 0.25, 0.6, 1.0)]
    assert rates[0] < 0.01
    assert rates[1] == max(rates)
    assert rates[3] == pytest.approx(0, abs=1e-9)


def test_group_dro_weighs_groups_as_its_paper() -> None:
    """q = [.5, .5], losses [1, 3], η = .01 → q = [.495, .505], robust loss 2.01 (Sagawa et al. 2020, algorithm 1)."""
    criterion = GroupDRO(0.01)
    criterion.q = torch.tensor([0.5, 0.5, 0.0, 0.0])
    logits = torch.tensor([[-np.log(np.e - 1), 0.0], [-np.log(np.e**3 - 1), 0.0]])
    loss = criterion(logits.float(), torch.tensor([0, 1]))
    assert criterion.q[:2].tolist() == pytest.approx([0.49500017, 0.50499983])
    assert float(loss) == pytest.approx(2.0099999668)
