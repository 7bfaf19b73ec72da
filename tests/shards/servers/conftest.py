"""The servers of this folder's tests, each started once per process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.helpers.nginx import PROGRAM, WITHOUT, nginx
from tests.shards.tars import shards

COUNT, SIZE = 6, 4_000  # samples of a shard, bytes of a sample
FAILURES = (403, 416, 444, 503)  # 444 is nginx's own: it hangs up without an answer


@dataclass(frozen=True)
class Site:
    """An nginx with three shards: `address`, the `folder` of the shards, and the folder of `switches`.

    A location that fails does so only while its file lies in `switches`.
    """

    address: str
    folder: Path
    switches: Path

    def urls(self, location: str, shards: str = "{0..2}") -> str:
        """The URLs of the shards at a location, in WebDataset's notation."""
        return f"{self.address}/{location}/shard-00{shards}.tar"


def _failing(status: int) -> str:
    """While the switch is on, the second shard's bytes from 10,000 on are refused."""
    return f"""
    location = /{status}/shard-001.tar {{
      alias FOLDER/shard-001.tar; set $now "$late";
      if (-f SWITCHES/{status}) {{ set $now "$now on"; }}
      if ($now = "late on") {{ return {status}; }}
    }}
    location /{status}/ {{ alias FOLDER/; }}
    """


HTTP = """
  map $http_range $late { default early; "~^bytes=[0-9]{5,}-" late; }
  limit_req_zone $server_addr zone=slow:64k rate=1r/s;
  upstream nodes { server unix:HOME/one.sock; server unix:HOME/two.sock; }
  upstream proxies { server unix:HOME/one.sock; server unix:HOME/weak.sock; }
  proxy_cache_path HOME/cache keys_zone=cache:1m; proxy_cache_valid 200 206 1h;
  server { listen unix:HOME/one.sock; root FOLDER; etag off; add_header ETag '"one"'; }
  server { listen unix:HOME/two.sock; root FOLDER; etag off; add_header ETag '"two"'; }
  server { listen unix:HOME/weak.sock; root FOLDER; etag off; add_header ETag 'W/"one"'; }
"""

SITE = """
    location /plain/ { alias FOLDER/; }
    location /no-ranges/ { alias FOLDER/; max_ranges 0; }
    location /gzip/ { alias FOLDER/; gzip on; gzip_types application/x-tar; gzip_min_length 1; gzip_proxied any; }
    location /encoded/ { alias FOLDER/; add_header Content-Encoding gzip; }
    location /list/ { alias FOLDER/; autoindex on; }
    location /no-list/ { alias FOLDER/; }
    location /silent/ { alias FOLDER/; limit_rate 1; }
    location /busy/ { alias FOLDER/; limit_req zone=slow; limit_req_status 429; error_page 429 @busy; }
    location @busy { add_header Retry-After 1 always; return 429; }
    location /cache/default/ { proxy_pass SELF/plain/; proxy_cache cache; }
    location /cache/sliced/ {
      proxy_pass SELF/plain/; proxy_cache cache; slice 4k; proxy_set_header Range $slice_range;
      proxy_http_version 1.1; proxy_cache_key $uri$slice_range;
    }
    location /cache/key-with-range/ {
      proxy_pass SELF/plain/; proxy_cache cache; proxy_set_header Range $http_range; proxy_cache_key $uri$http_range;
    }
    location /cache/key-without-range/ {
      proxy_pass SELF/plain/; proxy_cache cache; proxy_set_header Range $http_range; proxy_cache_key $uri;
    }
    location /nodes/ { proxy_pass http://nodes/; }
    location /weakened/ { proxy_pass http://proxies/; }
    location /signed/ {
      alias FOLDER/;
      if ($request_uri !~ "^/signed/shard%2D00[0-2]\\.tar\\?sig=a%2Fb%3Ac%7Ed%27e$") { return 403; }
    }
    location /moved/ { rewrite ^/moved/shard-(.*)$ /moved-to/$1; }
    location ~ ^/moved-to/(.*)$ { return 302 "/signed/shard%2D$1?sig=a%2Fb%3Ac%7Ed%27e"; }
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One nginx for all tests that change no shard."""
    if PROGRAM is None:
        pytest.skip(WITHOUT)
    folder, switches = tmp_path_factory.mktemp("shards"), tmp_path_factory.mktemp("switches")
    shards(folder, [COUNT] * 3, SIZE)
    texts = [t.replace("FOLDER", str(folder)).replace("SWITCHES", str(switches)) for t in (SITE, HTTP)]
    fail = "".join(map(_failing, FAILURES)).replace("FOLDER", str(folder)).replace("SWITCHES", str(switches))
    with nginx(texts[0] + fail, texts[1]) as address:
        yield Site(address, folder, switches)
