"""A real nginx on 127.0.0.1, for as long as a test needs it: it runs as whoever runs the test, and leaves nothing behind."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
WITHOUT = "nginx is not installed (Debian: apt-get install nginx-light)"

# One process, in the foreground, with every file that it writes inside its own folder. `master_process off` also keeps it
# from changing to a user who may not read the test's files.
_CONFIG = """
daemon off; master_process off; pid {home}/pid; error_log stderr error;
events {{ worker_connections 512; }}
http {{
  access_log off;
  types {{ application/x-tar tar; text/html html; }}
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  {http}
  server {{
    listen 127.0.0.1:{port};
    location = /{token} {{ return 200 ""; }}
    {locations}
  }}
}}
"""


@contextmanager
def nginx(locations: str, http: str = "") -> Iterator[str]:
    """The address (http://127.0.0.1:port) of an nginx with these `locations`; `http` stands outside its server.

    In both texts HOME stands for the server's own folder, and SELF for its address.
    """
    assert PROGRAM is not None, WITHOUT
    with tempfile.TemporaryDirectory(prefix="nginx-") as home:
        for _ in range(10):  # another process may take the free port before nginx does
            port, token = _free_port(), uuid.uuid4().hex
            address = f"http://127.0.0.1:{port}"
            texts = [text.replace("HOME", home).replace("SELF", address) for text in (http, locations)]
            config = _CONFIG.format(home=home, port=port, token=token, http=texts[0], locations=texts[1])
            Path(home, "nginx.conf").write_text(config)
            command = [PROGRAM, "-p", home, "-c", f"{home}/nginx.conf", "-e", "stderr"]
            with Path(home, "stderr").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
                try:
                    if _answers(process, f"{address}/{token}"):
                        yield address
                        return
                finally:
                    process.kill()
        raise RuntimeError(f"nginx does not start: {Path(home, 'stderr').read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until this very nginx answers; False if it ends instead."""
    while process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return True
        except urllib.error.HTTPError:
            return False  # the port is another server's
        except OSError:
            time.sleep(0.01)
    return False
