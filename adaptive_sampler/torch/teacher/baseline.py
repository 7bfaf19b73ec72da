"""What rewards are measured against: those that earlier episodes brought at the same place."""


class Baseline:
    """The i-th reward of an episode is measured against the moving average of the i-th rewards of the episodes before.

    So the gradient varies less. Its expectation stays as it is, as no average knows the actions of its episode (Weaver & Tao
    2001), but only if what is kept does not change how many rewards come, and after which calls: a reward that an episode did not
    live to see is measured against nothing. The first reward at a place is its own baseline: the first episode teaches nothing.
    `means`: the averages, by place; as many as the longest episode had rewards. `rewards`: of this episode, which they take in when
    it ends, so that an episode may be forgotten.
    """

    def __init__(self) -> None:
        self.means: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Forget the episode."""
        self.rewards: list[float] = []

    def advantage(self, reward: float) -> float:
        """The next reward of the episode less its baseline."""
        place = len(self.rewards)
        self.rewards.append(reward)
        return reward - self.means[place] if place < len(self.means) else 0.0

    def learn(self, decay: float) -> None:
        """The averages, which decay so much, take in the episode's rewards."""
        for place, reward in enumerate(self.rewards):
            if place == len(self.means):
                self.means.append(reward)
            self.means[place] = decay * self.means[place] + (1 - decay) * reward
