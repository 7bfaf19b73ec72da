"""What a store in an object store does when its server fails, refuses, or does what it was asked and does not answer."""

import os
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adaptive_sampler import ScoreStore
from adaptive_sampler.errors import NoStore, StoreDamaged, StoreError, Unreachable
from adaptive_sampler.remote.objects import Objects
from adaptive_sampler.scoring import Loss
from adaptive_sampler.storage.objects import ObjectStorage
from tests.storage.helpers import filled
from tests.storage.proxy import EXPIRED, Proxy

pytest.importorskip("obstore", reason="obstore is not installed (the extra cloud brings it)")


@pytest.mark.parametrize("failing", ["value/c/0", "manifests/2.json", "CURRENT"])
def test_a_commit_that_the_server_refuses_can_be_repeated(place: str, proxy: Proxy, failing: str) -> None:
    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.fold("loss", np.arange(5), np.arange(5))
        store.commit()
        store.fold("loss", [0], [7.0])
        proxy.rule = lambda method, path: 503 if method == "PUT" and failing in path else None
        told = r"commit of version 2 to s3://.* failed: .*503.*nothing in memory is lost.*commit again"
        with pytest.raises(StoreError, match=told):
            store.commit()
        with ScoreStore.open(place, mode="r") as reader:
            assert (reader.version, reader["loss"][0]) == (1, 0)
        proxy.rule = lambda method, path: None
        assert store.commit() == (3 if failing == "CURRENT" else 2)  # a number that may have been given is left out
    with ScoreStore.open(place, mode="r") as reader:
        assert reader["loss"].tolist() == [7, 1, 2, 3, 4]


def test_a_server_that_is_gone_amid_a_commit_leaves_the_last_version(place: str, proxy: Proxy) -> None:
    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.fold("loss", [0], [7.0])
        proxy.rule = lambda method, path: 500 if "CURRENT" not in path else None
        with pytest.raises(StoreError, match=r"commit of version 1 to .* failed"):
            store.commit()
        proxy.rule = lambda method, path: 500
        with pytest.raises(Unreachable, match=r"CURRENT cannot be read: .*500"):
            store.commit()
        proxy.rule = lambda method, path: None
        assert store.commit() == 1


def test_a_commit_whose_last_answer_was_lost_is_known_to_be_done(place: str, proxy: Proxy) -> None:
    """The pointer was changed, and the client does not know: it must neither fail nor believe that another one did it."""
    lost = []

    def rule(method: str, path: str) -> str | None:
        if method == "PUT" and path.endswith("CURRENT") and not lost:
            lost.append(path)
            return "lost"
        return None

    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.fold("loss", [0], [7.0])
        proxy.rule = rule
        assert store.commit() == 1
        assert lost
        assert store.commit() == 2


def lost_answers(what: str, then: int) -> Callable[[str, str], int | str | None]:
    """A rule: the answer to the first put of an object is lost, and the next `then` requests fail."""
    seen: list[str] = []

    def rule(method: str, path: str) -> int | str | None:
        if seen or (method == "PUT" and path.endswith(what)):
            seen.append(path)
            return "lost" if len(seen) == 1 else 503 if len(seen) <= 1 + then else None
        return None

    return rule


def test_a_commit_whose_last_answer_was_lost_with_the_question_for_it_is_known_to_be_done(
    place: str, proxy: Proxy
) -> None:
    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.fold("loss", [0], [7.0])
        proxy.rule = lost_answers("CURRENT", then=1)
        assert store.commit() == 1
        assert store.commit() == 2


def test_a_commit_after_whose_last_answer_the_server_was_gone_can_be_repeated(place: str, proxy: Proxy) -> None:
    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.fold("loss", [0], [7.0])
        proxy.rule = lost_answers("CURRENT", then=1000)
        with pytest.raises(StoreError, match=r"commit of version 1 to .* failed"):
            store.commit()
        with ScoreStore.open(place, mode="r") as reader:
            assert (reader.version, reader["loss"][0]) == (1, 7)  # it was done, for all that
        proxy.rule = lambda method, path: None
        assert store.commit() == 2


def test_a_put_of_the_pointer_that_comes_after_its_commit_was_given_up_changes_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Any] = []
    swap = Objects.swap

    def delayed(self: Objects, *args: Any) -> Any:
        if args[0] != "CURRENT" or late:
            return swap(self, *args)
        late.append(args)
        raise Unreachable("no answer")

    with ScoreStore.create(place, 5, [Loss()]) as store:
        store.fold("loss", [0], [7.0])
        monkeypatch.setattr(Objects, "swap", delayed)
        with pytest.raises(StoreError, match="no answer"):
            store.commit()
        assert swap(Objects(place), *late[0]) is None
        with ScoreStore.open(place, mode="r") as reader:
            assert reader.version == 0
        assert store.commit() == 2


def test_ranks_learn_the_number_that_a_commit_got_after_one_was_left_out(place: str, proxy: Proxy) -> None:
    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.session.keep_journal()
        proxy.rule = lambda method, path: 503 if method == "PUT" and "CURRENT" in path else None
        with pytest.raises(StoreError, match="503"):
            store.commit()
        assert store.session.journal is not None
        assert store.session.journal.next_version() == 2
        proxy.rule = lambda method, path: None
        assert store.commit() == 2
        assert [version.version for version in store.versions()] == [2]


def test_a_lock_that_could_not_be_given_back_is_taken_again_by_its_process(place: str, proxy: Proxy) -> None:
    store = ScoreStore.create(place, 5, [Loss()], options=proxy.options)
    proxy.rule = lambda method, path: EXPIRED
    store.close()
    proxy.rule = lost_answers("LOCK", then=1000)
    with pytest.raises(Unreachable):
        ScoreStore.open(place, options=proxy.options)
    ScoreStore.open(place).close()


def test_an_opening_that_breaks_off_gives_the_lock_back(place: str, proxy: Proxy) -> None:
    filled(place).close()
    proxy.rule = lambda method, path: 503 if "LINKS" in path else None
    with pytest.raises(Unreachable, match="LINKS cannot be listed") as told:  # which keeps what the opening had taken
        ScoreStore.open(place, options=proxy.options)
    ScoreStore.open(place).close()
    del told


def test_a_holder_whose_beat_was_done_without_an_answer_holds_its_lock(place: str, proxy: Proxy) -> None:
    lease = ObjectStorage(place, proxy.options).lease()
    lock = lease._lock
    lock._data += b" "  # as on servers whose ETag changes with each put
    proxy.rule = lost_answers("LOCK", then=1)
    with pytest.raises(Unreachable):
        lock.renew()
    proxy.rule = lambda method, path: None
    assert lock.renew()
    assert lease.mine
    lease.release()


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_server_that_ignores_conditions_is_refused(place: str, proxy: Proxy, condition: str) -> None:
    proxy.rule = lambda method, path: condition.lower()
    with pytest.raises(StoreError, match=f"its server ignores {condition}"):
        ScoreStore.create(place, 5, [Loss()], options=proxy.options)
    proxy.rule = lambda method, path: None
    ScoreStore.create(place, 5, [Loss()], options=proxy.options).close()


def test_conditional_puts_that_options_forbid_are_told(place: str) -> None:
    with pytest.raises(Unreachable, match="conditional put is disabled"):
        ScoreStore.create(place, 5, [Loss()], options={"aws_conditional_put": "disabled"})


def test_a_training_goes_on_with_new_credentials_of_the_environment(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they expire while it trains. Here it is the server that changes, as this one takes any credentials."""
    address = os.environ["AWS_ENDPOINT_URL"]
    with ScoreStore.create(place, 5, [Loss()], options={"retry_config": {"max_retries": 0}}) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(Unreachable):
            ScoreStore.open(place, mode="r", options={"retry_config": {"max_retries": 0}})
        storage = store.session.files.storage
        assert isinstance(storage, ObjectStorage)
        storage._objects._process = 0  # as after a request that was refused
        with pytest.raises(Unreachable):
            store.commit()
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert store.commit() == 1


def test_an_address_that_is_none_and_what_it_says_of_its_user_are_told_and_not_shown(place: str) -> None:
    quick, password = {"retry_config": {"max_retries": 0}}, str(10**9)
    with pytest.raises(Unreachable, match="cannot be listed"):
        ScoreStore.create(place, 5, [Loss()], options={"endpoint": "no address", **quick})
    with pytest.raises(Unreachable) as told:
        ScoreStore.create(place, 5, [Loss()], options={"endpoint": f"http://user:{password}@127.0.0.1:9", **quick})
    assert password not in "".join(traceback.format_exception(told.value))


def test_an_empty_object_that_stands_for_a_folder_is_no_content(place: str) -> None:
    import boto3

    bucket, _, key = place.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{key}/", Body=b"")
    with pytest.raises(NoStore):
        ScoreStore.open(place)
    ScoreStore.create(place, 5, [Loss()]).close()


def test_a_bucket_that_is_not_there_is_named(place: str) -> None:
    url = "s3://no-such-bucket/scores"
    for call in (lambda: ScoreStore.create(url, 5, [Loss()]), lambda: ScoreStore.open(url)):
        with pytest.raises(Unreachable, match=f"{url} cannot be listed: there is no such bucket"):
            call()


def test_a_prefix_in_place_of_a_store_is_told(place: str) -> None:
    filled(place).close()
    above = place.rpartition("/")[0]
    with pytest.raises(StoreDamaged, match=f"{above} holds no store: there is no CURRENT. Name the place"):
        ScoreStore.open(above)
    with pytest.raises(StoreError, match=f"{above} holds something else than a store"):
        ScoreStore.create(above, 5, [Loss()], overwrite=True)
    with pytest.raises(NoStore, match="nothing is there"):
        ScoreStore.open(f"{place}/CURRENT")


@pytest.mark.parametrize("status", [401, 403, EXPIRED])
def test_credentials_that_do_not_suffice_are_told_with_where_they_come_from(
    place: str, proxy: Proxy, status: int
) -> None:
    proxy.rule = lambda method, path: status
    with pytest.raises(Unreachable, match=r"the credentials are missing, have expired .*AWS_SESSION_TOKEN"):
        ScoreStore.create(place, 5, [Loss()], options=proxy.options)


def test_credentials_that_expire_in_a_training_lose_nothing(place: str, proxy: Proxy) -> None:
    with ScoreStore.create(place, 5, [Loss()], options=proxy.options) as store:
        store.fold("loss", [0], [7.0])
        proxy.rule = lambda method, path: EXPIRED
        with pytest.raises(Unreachable, match=r"have expired or do not suffice \(ExpiredToken\)"):
            store.commit()
        proxy.rule = lambda method, path: None
        assert store.commit() == 1


def test_a_server_that_fails_while_a_column_is_read_is_told_as_that_and_not_as_damage(place: str, proxy: Proxy) -> None:
    filled(place).close()
    with ScoreStore.open(place, mode="r", options=proxy.options) as store:
        proxy.rule = lambda method, path: 503
        with pytest.raises(Unreachable, match=f"^{place}/v.*Try again when the server answers"):
            store["loss"]
        proxy.rule = lambda method, path: None
        assert len(store["loss"]) == len(store)


def test_absent_credentials_are_told(place: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    nowhere = proxy.options | {"aws_metadata_endpoint": "http://127.0.0.1:9"}
    with pytest.raises(Unreachable, match="the credentials are missing"):
        ScoreStore.create(place, 5, [Loss()], options=nowhere)
