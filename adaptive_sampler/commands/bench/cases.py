"""The cases: which piece of work, and who does it."""

from adaptive_sampler.commands.bench.base import Case, Contestant, Package
from adaptive_sampler.commands.bench.contestants import own

TORCH = Package("torch", "torch")
TORCHDATA = Package("torchdata", "torchdata")
GRAIN = Package("grain", "grain")
SPDL = Package("spdl", "spdl")
CATALYST = Package("catalyst", "catalyst")
TORCHSAMPLER = Package("torchsampler", "torchsampler")
LHOTSE = Package("lhotse", "lhotse")
INFOBATCH = Package("infobatch", "git+https://github.com/NUS-HPC-AI-Lab/InfoBatch")
PACKAGES = (TORCH, TORCHDATA, GRAIN, SPDL, CATALYST, TORCHSAMPLER, LHOTSE, INFOBATCH)

_C = Contestant


def _ours(function: str, *arguments: object, module: str = "ours", package: Package | None = None) -> Contestant:
    return Contestant("ours", f"{module}:{function}", arguments, package)


def _torch(
    name: str,
    function: str,
    *arguments: object,
    least: float | None = None,
    refuses: bool = False,
    module: str = "torch",
) -> Contestant:
    return Contestant(name, f"{module}:{function}", arguments, TORCH, least, refuses=refuses)


EPOCHS = (
    Case(
        "shuffled epoch, lists of 256",
        (
            _ours("batches", 1.0),
            _torch("torch RandomSampler", "random_batches"),
            _torch("torch DistributedSampler", "distributed_batches"),
            _C("torchdata RandomSampler", "torchdata:stateful_batches", (), TORCHDATA),
            _C("torchdata nodes", "torchdata:node_batches", (), TORCHDATA),
            _C("Grain IndexSampler", "grain:batches", (), GRAIN),
            _C("SPDL DistributedRandomSampler", "spdl:batches", (), SPDL),
            _C("catalyst MiniEpochSampler", "catalyst:mini_epochs", (), CATALYST),
        ),
        own=own.EPOCH,
    ),
    Case(
        "half kept, lists of 256",
        (
            _ours("batches", 0.5),
            _torch("torch SubsetRandomSampler", "subset_batches", least=8),
            _torch("torch RandomSampler, n/2 rows", "random_half", least=8),
        ),
        own=own.HALF,
    ),
    Case(
        "half kept, single rows through torch's BatchSampler",
        (
            _ours("singles", package=TORCH),
            _torch("torch SubsetRandomSampler", "subset_batches", least=4),
            _torch("torch RandomSampler, n/2 rows", "random_half", least=4),
        ),
    ),
    Case(
        "InfoBatch epoch, plan included, lists of 256",
        (
            _ours("infobatch"),
            _C(
                "InfoBatch's authors",
                "infobatch:batches",
                (),
                INFOBATCH,
                remark="in lists by hand: BatchSampler restarts it",
            ),
        ),
    ),
    Case(
        "set_epoch to first batch, all kept",
        (_ours("first_batch", 1.0), _torch("torch RandomSampler", "first_batch", least=100)),
        least_from=10**8,
    ),
    Case(
        "set_epoch to first batch, half kept, plan included",
        (_ours("first_batch", 0.5), _torch("torch RandomSampler", "first_batch", least=15)),
        least_from=10**8,
    ),
    Case(
        "set_epoch and a thousand batches, half kept, plan included",
        (_ours("some_batches", 0.5),),
    ),
)

PLANS = (
    Case(
        "plan: keep the top half",
        (
            _ours("plan", 0),
            _C("np.argpartition", "numpy:argpartition", (0,), least=5),
            _C("np.argsort", "numpy:argsort", (0,), least=40),
        ),
    ),
    Case(
        "plan: top half of five distinct scores",
        (_ours("plan", 5), _C("np.argpartition", "numpy:argpartition", (5,), least=2.5)),
    ),
)

WEIGHTED = (
    Case(
        "n weighted draws, one array in random order",
        (
            _ours("draws", True),
            _torch("torch.multinomial", "multinomial", True, least=10, refuses=True),
            _C("np.random.Generator.choice", "numpy:choice", (True,), least=30),
        ),
    ),
    Case(
        "n/2 weighted draws without replacement, one array",
        (
            _ours("draws", False),
            _torch("torch.multinomial", "multinomial", False, least=10, refuses=True),
            _C("np.random.Generator.choice", "numpy:choice", (False,)),
        ),
    ),
    Case(
        "n weighted draws, lists of 256",
        (
            _ours("drawn_batches", True),
            _torch("torch WeightedRandomSampler", "weighted_batches", True, refuses=True),
            _C("SPDL DistributedRandomSampler", "spdl:weighted_batches", (), SPDL),
            _C("catalyst BalanceClassSampler", "catalyst:balanced_batches", (), CATALYST, remark="by class"),
            _C("ImbalancedDatasetSampler", "torchsampler:balanced_batches", (), TORCHSAMPLER, remark="by class"),
        ),
        own=own.DRAWS,
    ),
    Case(
        "n/2 weighted draws without replacement, lists of 256",
        (
            _ours("drawn_batches", False),
            _torch("torch WeightedRandomSampler", "weighted_batches", False, refuses=True),
            _C(
                "lhotse WeightedSimpleCutSampler",
                "lhotse:weighted_batches",
                (),
                LHOTSE,
                remark="holds and yields cuts, not rows",
            ),
        ),
    ),
)

TRAINING = (
    *(
        Case(
            f"2000 updates of six scores, batch {size}",
            (_ours("update", size), _C("NumPy", "updates:numpy", (size,), least=least)),
            most=10**7,
            grows=False,
        )
        for size, least in ((256, 8), (4096, 5))
    ),
    *(
        Case(
            f"200 updates of six scores from logits of {classes:,} classes, batch {size}",
            (
                _ours("update_outputs", size, classes),
                _C("NumPy", "updates:numpy_outputs", (size, classes), least=8),
            ),
            most=10**7,
            grows=False,
        )
        for classes in (10, 1000)
        for size in (256, 4096)
    ),
    Case(
        "DataLoader epoch with __getitems__",
        (
            _ours("loader_epoch", "arrays", module="training", package=TORCH),
            _C("ours, lists", "training:loader_epoch", ("lists",), TORCH),
            _C("lists that were made before", "training:loader_epoch", ("made before",), TORCH),
            _C("torch RandomSampler", "training:loader_epoch", ("torch",), TORCH, least=1.3),
        ),
        most=10**6,
        least_from=10**6,
    ),
    Case(
        "training step with LossHook",
        (
            _ours("step", True, module="training", package=TORCH),
            _C("no hook", "training:step", (False,), TORCH, least=1 / 1.03),
        ),
        most=10**7,
        least_from=0,
        grows=False,
        in_one=60,
    ),
    Case(
        "import",
        (
            _ours("imported", "adaptive_sampler", module="training"),
            _C("import numba", "training:imported", ("numba",), least=1 / 1.25),
        ),
        sized=False,
        least_from=0,
    ),
    *(
        Case(
            name,
            (
                _ours("first_epoch", "adaptive_sampler", imported, module="training"),
                _torch("torch RandomSampler", "first_epoch", "torch", imported, least=least, module="training"),
                _C("an empty function of Numba's", "training:first_epoch", ("numba", imported)),
            ),
            sized=False,
            least_from=0,
        )
        for name, imported, least in (
            ("import, and the first batch of a first epoch", False, 3),
            ("first batch of a first epoch, after the import", True, None),
        )
    ),
)

CASES = (*EPOCHS, *PLANS, *WEIGHTED, *TRAINING)
