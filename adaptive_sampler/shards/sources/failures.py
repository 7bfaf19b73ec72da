"""What went wrong with a request, whoever made it: whether to try again, and when."""

import errno
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from adaptive_sampler.shards.errors import ShardError, ShardMissing, WrongRange
from adaptive_sampler.shards.sources.base import PUT_BACK
from adaptive_sampler.shards.sources.plain import Answer, Refused

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_CREDENTIALS = ("Unauthenticated", "Credential", "169.254.169.254", "metadata.google", "managed identity")

SIGN_IN = (
    "Give credentials that may read it: options of Access, or the environment (S3: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY)"
)
RAN_OUT = (
    "Credentials and signed URLs run out: give new ones and resume by state_dict, or a credential_provider, which renews "
    "them, in Access(options=...)"
)
RENEW = "Give a URL that may be read: a signed one runs out, and a folder is no shard"
_AGAIN = "Try again when its server answers, or mend the URL; Access(retry=...) tries for longer"
_NO_BUCKET = "Make the bucket first, or name another one"
_ROUND = "Its redirects lead round in a circle: give the URL of the shard itself"


def no_shard(url: str, what: str) -> ShardMissing:
    """The error for a URL of something else."""
    return ShardMissing(
        f"{url}: is {what}, not a shard. Give the URLs of the shards themselves, as 'name-{{000..099}}.tar' or a list; a "
        "handler that returns True goes on without it."
    )


def status_of(error: Exception) -> int | None:
    """The status of the answer that `error` tells of, None if there was none. obstore has it in its words only."""
    if isinstance(error, Refused):
        return error.status
    found = re.search(r"status code: (\d{3})", str(error)) if of_obstore(error) else None
    return int(found[1]) if found else 404 if isinstance(error, FileNotFoundError) else None


def pause(error: Exception) -> float | None:
    """The seconds to wait before trying again may help, as the server asks; 0 if it does not ask.

    None if trying again will not help: after 403 or 404, but not after a dropped connection, a time-out or overload.
    """
    if isinstance(error, WrongRange):
        return 0.0  # the next answer may come from elsewhere
    if _goes_round(error):
        return None
    status = status_of(error)
    if status is not None:
        return (_asked(error.wait) if isinstance(error, Refused) else 0.0) if status in _TRANSIENT else None
    if isinstance(error, ShardError) or lacks_credentials(error) or getattr(error, "errno", None) == errno.EINVAL:
        return None
    return 0.0 if isinstance(error, OSError) or unanswered(error) else None


def remedy(error: Exception, *, web: bool) -> str:
    """What helps where a shard does not open. web: on a web server, not in an object store."""
    if status_of(error) in (401, 403) or (not web and lacks_credentials(error)):
        return RENEW if web else SIGN_IN
    if of_obstore(error) and re.search("<Code>(NoSuchBucket|ContainerNotFound)</Code>", str(error)):
        return _NO_BUCKET
    if _goes_round(error):
        return _ROUND
    return PUT_BACK if pause(error) is None else _AGAIN


def expect_no_page(url: str, answer: Answer) -> None:
    """Raise ShardMissing if a web page came in place of a shard."""
    if answer.status != 206 and answer.header("Content-Type").startswith("text/html"):
        raise no_shard(url, "a web page (a folder's list of files, or a page to sign in)")


def _goes_round(error: Exception) -> bool:
    """Whether redirects have led to no end; obstore follows ten."""
    return of_obstore(error) and "error following redirect" in str(error).partition("\n")[0]


def unanswered(error: Exception) -> bool:
    """Whether `error` is obstore's for a connection that was not made, was cut or fell silent."""
    return of_obstore(error) and "HTTP error: " in str(error).partition("\n")[0].replace("Generic HTTP error: ", "")


def of_obstore(error: Exception) -> bool:
    """Whether obstore raised `error`. Its classes are others after a fork, when it was loaded anew."""
    return type(error).__module__.startswith("obstore") or "\nDebug source:" in str(error)


def lacks_credentials(error: Exception) -> bool:
    """Whether `error` says that nobody gave credentials: obstore then asks the machine that it runs on."""
    return of_obstore(error) and any(word in f"{type(error).__name__}: {error}" for word in _CREDENTIALS)


def ran_out(error: Exception) -> bool:
    """Whether `error` says that who asks may no longer: S3 says so of its tokens with status 400."""
    return status_of(error) in (401, 403) or (of_obstore(error) and "<Code>ExpiredToken</Code>" in str(error))


def _asked(told: str) -> float:
    """The seconds of a Retry-After header, which has a number or a date; 0 if there is none."""
    if told.isdecimal():
        return float(told)
    try:
        until = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return 0.0
    return max((until - datetime.now(UTC)).total_seconds(), 0.0) if until.tzinfo else 0.0
