"""A plan is an immutable artifact: what it visits, what it is called, and what its files give back."""

import dataclasses
import io

import numpy as np
import pytest

from adaptive_sampler.errors import InvalidValue, RowError, StoreDamaged, UnknownName
from adaptive_sampler.plan import MadeFrom, Plan, from_files
from adaptive_sampler.selection import Draw, KeepAll, Prune, RandomPrune, Upsample
from tests.stores import scored

ABOUT = {"policy": {"kind": "Mine"}, "seed": 1, "epoch": 2, "made_from": MadeFrom(3, 4)}


def make(**arrays):
    """Rows 1, 3 and 8 of ten, row 3 twice, with loss weights ½, 2 and 1."""
    kept = np.packbits(np.isin(np.arange(10), [1, 3, 8]), bitorder="little")
    given = {"kept": kept, "counts": np.array([1, 2, 1]), "weights": np.array([0.5, 2, 1], np.float32)}
    return Plan(10, **(ABOUT | given | arrays))


def stored(plan):
    return {name: np.frombuffer(b"".join(parts), np.uint8) for name, parts in plan.files().items()}


def test_a_plan_says_what_an_epoch_visits_how_often_and_with_what_weight():
    plan = make()
    assert plan.rows.tolist() == [1, 3, 8]
    assert plan.indices().tolist() == [1, 3, 3, 8]
    assert plan.repeats.tolist() == [0, 1, 0, 2, 0, 0, 0, 0, 1, 0]
    assert plan.loss_weights.tolist() == [0, 0.5, 0, 2, 0, 0, 0, 0, 1, 0]
    assert (plan.num_rows, plan.num_samples, plan.weighted) == (3, 4, True)


def test_its_arrays_have_the_dtypes_that_they_promise():
    plan = make()
    dtypes = (plan.rows.dtype, plan.indices().dtype, plan.repeats.dtype, plan.loss_weights.dtype)
    assert dtypes == (np.int64, np.int64, np.uint32, np.float32)


def test_a_plan_without_arrays_visits_every_row_once_with_weight_one():
    plan = Plan(3, **ABOUT)
    assert plan.indices().tolist() == [0, 1, 2]
    assert (plan.repeats.tolist(), plan.loss_weights.tolist(), plan.weighted) == ([1, 1, 1], [1, 1, 1], False)


@pytest.mark.parametrize("arrays", [{}, {"kept": None, "counts": np.arange(10) % 3 + 1, "weights": None}])
def test_indices_are_the_rows_repeated(arrays):
    plan = make(**arrays)
    assert plan.indices().tolist() == np.repeat(np.arange(10), plan.repeats).tolist()


def test_weights_of_some_rows_come_in_their_order():
    assert make().loss_weights_of(np.array([8, 1, 1, 3])).tolist() == [1, 0.5, 0.5, 2]


@pytest.mark.parametrize("arrays", [{}, {"kept": None, "counts": None, "weights": None}])
@pytest.mark.parametrize("row", [-1, 10, 16, 10**9])
def test_a_row_that_the_store_lacks_is_visited_never(row, arrays):
    assert make(**arrays).repeats_of(np.array([1, row, 8])).tolist() == [1, 0, 1]


ASKED = [Plan.loss_weights_of, Plan.weights_or_none]


@pytest.mark.parametrize("of", ASKED)
@pytest.mark.parametrize("row", [0, 9, -1, 10])
@pytest.mark.parametrize("weights", [None, np.ones(3, np.float32)])
def test_a_row_outside_the_plan_has_no_weight(row, weights, of):
    with pytest.raises(RowError, match=rf"row {row} is not in plan [0-9a-f]{{16}} of epoch 2: only planned rows"):
        of(make(weights=weights), np.array([1, row]))


@pytest.mark.parametrize("of", ASKED)
@pytest.mark.parametrize("row", [-1, 10, 16, 10**9])
def test_a_row_that_the_store_lacks_has_no_weight_in_a_plan_of_all_rows(row, of):
    with pytest.raises(RowError, match=rf"row {row} is not in plan"):
        of(make(kept=None, counts=None, weights=None), [1, row])


def test_where_nothing_weighs_a_loop_is_given_no_weights():
    assert make(weights=None).weights_or_none(np.array([1, 8])) is None


def test_where_something_weighs_a_loop_is_given_the_weights_of_its_rows():
    rows = np.array([8, 1, 1, 3])
    assert make().weights_or_none(rows).tolist() == make().loss_weights_of(rows).tolist()


@pytest.mark.parametrize("field", ["n", "seed", "kept", "weights"])
def test_a_field_cannot_be_set(field):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(make(), field, None)


@pytest.mark.parametrize("array", ["kept", "counts", "weights"])
def test_an_array_cannot_be_written(array):
    with pytest.raises(ValueError, match="read-only"):
        getattr(make(), array)[0] = 1


def test_what_a_plan_hands_out_is_a_copy():
    plan = make()
    plan.repeats[:] = 7
    plan.loss_weights[:] = 7
    plan.rows[:] = 7
    assert plan.indices().tolist() == [1, 3, 3, 8]


def test_equal_plans_have_equal_ids_whatever_the_dtype_of_their_counts():
    assert make().id == make(counts=np.array([1, 2, 1], np.uint32)).id


@pytest.mark.parametrize(
    "change",
    [
        {"policy": {"kind": "Other"}},
        {"seed": 2},
        {"epoch": 3},
        {"made_from": MadeFrom(3, 5)},
        {"kept": np.packbits(np.isin(np.arange(10), [1, 3, 9]), bitorder="little")},
        {"counts": np.array([2, 1, 1])},
        {"counts": None},
        {"weights": np.array([0.5, 2, 1.5], np.float32)},
        {"weights": None},
    ],
)
def test_any_difference_changes_the_id(change):
    assert make().id != make(**change).id


def test_an_id_is_the_same_on_every_machine_and_in_every_version_that_reads_format_one():
    assert Plan(3, **ABOUT).id == "918802fb09f28328"
    assert make().id == "93ab0675edbdfc95"


@pytest.mark.parametrize(
    "plan", [make(), Plan(3, **ABOUT), make(counts=None), make(weights=None, counts=np.array([1, 300, 1]))]
)
def test_files_give_the_plan_back(plan):
    again = from_files(stored(plan), "here")
    assert again.id == plan.id
    assert again.indices().tolist() == plan.indices().tolist()
    assert again.loss_weights.tolist() == plan.loss_weights.tolist()
    assert (again.policy, again.seed, again.epoch, again.made_from) == (
        plan.policy,
        plan.seed,
        plan.epoch,
        plan.made_from,
    )


def test_files_are_no_larger_than_they_must_be():
    n = 1_000_000
    plan = Prune(0.4, "loss").plan(scored(np.arange(n)), epoch=0, seed=0)
    assert sum(map(len, stored(plan).values())) < n / 8 + 1000


@pytest.mark.parametrize("name", ["kept", "counts", "weights"])
def test_each_array_is_a_file_that_numpy_reads_and_is_not_copied_into_it(name):
    plan = make()
    array = getattr(plan, name)
    again = np.load(io.BytesIO(stored(plan)[f"{name}.npy"].tobytes()))
    np.testing.assert_array_equal(again, array, strict=True)
    assert plan.files()[f"{name}.npy"][1] is array


@pytest.mark.parametrize("name", ["kept.npy", "counts.npy", "weights.npy", "plan.json"])
def test_a_missing_file_is_refused_with_the_remedy(name):
    files = stored(make())
    del files[name]
    with pytest.raises(StoreDamaged, match=r"plans/x is not a plan as it was saved.*Delete that folder"):
        from_files(files, "plans/x")


@pytest.mark.parametrize("name", ["kept.npy", "counts.npy", "weights.npy"])
@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_changed_byte_of_an_array_is_refused(name, at):
    files = {name: data.copy() for name, data in stored(make()).items()}
    files[name][at] ^= 1
    with pytest.raises(StoreDamaged, match="not a plan as it was saved"):
        from_files(files, "plans/x")


@pytest.mark.parametrize("name", ["kept.npy", "counts.npy", "weights.npy", "plan.json"])
@pytest.mark.parametrize("length", [0, 10])
def test_a_truncated_file_is_refused(name, length):
    files = stored(make())
    files[name] = files[name][:length]
    with pytest.raises(StoreDamaged, match="not a plan as it was saved"):
        from_files(files, "plans/x")


@pytest.mark.parametrize(
    ("old", "new"), [(b'"seed": 1', b'"seed": 2'), (b'"n": 10', b'"n": 11'), (b'"Mine"', b'"Thine"')]
)
def test_a_changed_value_in_plan_json_is_refused(old, new):
    data = stored(make())["plan.json"].tobytes()
    assert old in data
    files = stored(make()) | {"plan.json": np.frombuffer(data.replace(old, new), np.uint8)}
    with pytest.raises(StoreDamaged, match="not a plan as it was saved"):
        from_files(files, "plans/x")


@pytest.mark.parametrize("data", [b"[]", b"3", b"null", b"{}", b"\xff\xfe"])
def test_a_plan_json_that_is_something_else_is_refused(data):
    with pytest.raises(StoreDamaged, match="not a plan as it was saved"):
        from_files({"plan.json": np.frombuffer(data, np.uint8)}, "plans/x")


@pytest.mark.parametrize("policy", [KeepAll(), Prune(0.5, "loss"), Upsample(3, "loss"), Draw("loss", unbiased=True)])
def test_a_store_keeps_a_plan_and_finds_it_by_id(policy):
    store = scored([1.0, 2.0, 3.0, 4.0])
    plan = policy.plan(store, epoch=1, seed=2)
    store.session.plans.keep(plan)
    store.session.plans.keep(plan)
    assert store.plan(plan.id).id == plan.id


@pytest.mark.parametrize("plan_id", ["0" * 16, "../../etc/passwd", ""])
def test_a_plan_that_a_store_does_not_hold_is_an_error_that_says_why(plan_id):
    with pytest.raises(
        UnknownName, match=r"holds no plan .*made from a version that has been dropped, or in another store"
    ):
        scored([1.0]).plan(plan_id)


def test_a_plan_names_the_scores_that_it_was_made_from():
    store = scored([1.0, 2.0, 3.0])
    store.commit()
    store.update([0], loss=[5.0])
    store.update([1], loss=[5.0])
    assert KeepAll().plan(store, epoch=0, seed=0).made_from == MadeFrom(1, 2)


def test_a_plan_is_shown_without_its_bits():
    plan = make()
    assert repr(plan).startswith(f"Plan({plan.id}: 3 of 10 rows, 4 samples, epoch 2, {{'kind': 'Mine'}}, MadeFrom(")


@pytest.mark.parametrize("of", [*ASKED, Plan.repeats_of])
@pytest.mark.parametrize("rows", [[True, False], np.ones(10, np.bool_), [0.0, 1.0], ["0"], [[0, 1]]])
def test_what_are_no_row_numbers_is_told_by_a_plan(of, rows):
    with pytest.raises(InvalidValue, match=r"rows have (dtype|shape) .*(integers|row numbers)"):
        of(make(), rows)


def test_a_list_of_rows_is_as_good_as_an_array():
    plan = make()
    rows = plan.rows.tolist()
    assert plan.repeats_of(rows).tolist() == plan.repeats_of(plan.rows).tolist()
    assert plan.loss_weights_of(rows).tolist() == plan.loss_weights_of(plan.rows).tolist()
    assert plan.repeats_of([]).tolist() == plan.loss_weights_of([]).tolist() == []


@pytest.mark.parametrize("epoch", [-1, 1.0, "1", None, True, float("nan")])
def test_an_epoch_or_seed_that_is_no_number_of_one_is_refused_where_a_draw_goes_by_it(epoch):
    for address in ({"epoch": epoch, "seed": 0}, {"epoch": 0, "seed": epoch}):
        with pytest.raises(InvalidValue, match=r"both must be 0 or more\. Pass non-negative integers"):
            RandomPrune(0.5).plan(scored([1.0, 2.0]), **address)
