"""`python ranks.py 2 SCRIPT ...`: the script on so many ranks, as torchrun begins them: its imports are loaded once, and forked."""

import os
import runpy
import socket
import sys


def _rank(script: str, rank: int, ranks: int, port: int) -> None:
    """Run the script as this rank, in a process of its own."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"} | numbers
    os.environ |= {name: str(value) for name, value in told.items()}
    runpy.run_path(script, run_name="__main__")


def main(ranks: int, script: str) -> int:
    """Fork the ranks -> 0 if all of them ended well."""
    runpy.run_path(script)  # its imports and functions: it trains as __main__ alone
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = []
    for rank in range(ranks):
        begun.append(os.fork())
        if not begun[-1]:
            _rank(script, rank, ranks, port)
            return 0
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in begun)


if __name__ == "__main__":
    count, sys.argv = int(sys.argv[1]), sys.argv[2:]
    sys.exit(main(count, sys.argv[0]))
