"""What rewards are measured against: those that earlier episodes brought at the same place."""


class Baseline:
    """The i-th reward of an episode is measured against the moving average of the i-th rewards of the episodes before.

    So the gradient varies less. Its expectation stays as it is, as no average knows the actions of its episode (Weaver & Tao
    2001), but only if what is kept does not change how many rewards come, and after which calls: a reward that an episode did not
    live to see is measured against nothing. The first reward at a place is its own baseline: the first episode teaches nothing.
    `means`: the averages, by place; as many as the longest episode had rewards.
    """

    def __init__(self) -> None:
        self.means: list[float] = []

    def advantage(self, place: int, reward: float, decay: float | None) -> float:
        """The reward less its baseline; the average takes it in for the episodes to come.

        `decay`: of the averages; None: there is no baseline, and rewards count as they are.
        """
        if decay is None:
            return reward
        if place == len(self.means):
            self.means.append(reward)
        before = self.means[place]
        self.means[place] = decay * before + (1 - decay) * reward
        return reward - before
