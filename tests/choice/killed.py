"""A process that chooses, and waits in a training until it is killed: `python -m tests.choice.killed FILE TRAININGS`."""

import sys
import time

from adaptive_sampler.choice import choose
from tests.choice.simulated import CANDIDATES, training

if __name__ == "__main__":
    train, left = training(0, gain=5), int(sys.argv[2])

    def slow(candidate: int, seed: int, share: float) -> float:
        global left
        if not left:
            print("waits", flush=True)
            time.sleep(600)
        left -= 1
        return train(candidate, seed, share)

    choose(CANDIDATES, slow, path=sys.argv[1])
