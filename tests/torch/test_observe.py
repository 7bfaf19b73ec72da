"""`observe`: one scoring pass in evaluation mode, without gradients, that leaves the model as it was."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from adaptive_sampler.errors import InvalidValue
from adaptive_sampler.scoring import EL2N, Loss
from adaptive_sampler.torch import IndexedDataset, observe
from tests.torch.samples import CLASSES, N, dataset, make_store


class Model(nn.Module):
    """A linear classifier whose dropout and batch norm would show in training mode."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, CLASSES)
        self.gradients = []

    def forward(self, inputs):
        self.gradients.append(torch.is_grad_enabled())
        return self.head(self.drop(self.norm(inputs)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


def loader(batch_size=7, **arguments):
    return DataLoader(IndexedDataset(dataset()), batch_size=batch_size, **arguments)


def test_every_sample_is_scored_on_its_row(model):
    store = make_store(EL2N())
    assert observe(model, loader(shuffle=True), store, progress=False) == N
    inputs, labels = dataset().tensors
    logits = model.eval()(inputs)
    error = logits.softmax(1) - nn.functional.one_hot(labels, CLASSES)
    np.testing.assert_allclose(store["el2n"], error.norm(dim=1).detach(), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5, N])
def test_the_scores_do_not_depend_on_the_batch_size(model, batch_size):
    first, second = make_store(), make_store()
    observe(model, loader(7), first, progress=False)
    observe(model, loader(batch_size), second, progress=False)
    np.testing.assert_allclose(first["el2n"], second["el2n"], rtol=1e-5)


def test_no_gradients_are_taken(model):
    observe(model, loader(), make_store(), progress=False)
    assert model.gradients == [False] * 4


def test_the_models_modes_parameters_and_statistics_stay_as_they_were(model):
    model.train()
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    observe(model, loader(), make_store(), progress=False)
    assert [module.training for module in (model, model.norm, model.drop, model.head)] == [True, True, False, True]
    assert [torch.equal(value, before[name]) for name, value in model.state_dict().items()] == [True] * len(before)


def test_the_modes_come_back_after_an_error_too(model):
    model.train()
    with pytest.raises(InvalidValue, match="carries no rows"):
        observe(model, DataLoader(dataset(), batch_size=4), make_store(), progress=False)
    assert model.norm.training


def test_several_passes_average_over_runs(model):
    store, single = make_store(EL2N()), []
    for run in range(3):
        nn.init.normal_(model.head.weight)
        store.begin_run(f"initialisation {run}")
        observe(model, loader(), store, progress=False)
        alone = make_store(EL2N())
        observe(model, loader(), alone, progress=False)
        single.append(alone["el2n"])
    np.testing.assert_allclose(store["el2n"], np.mean(single, axis=0), rtol=1e-5)
    assert store.count("el2n").tolist() == [3] * N


def test_an_epoch_may_be_named(model):
    store = make_store()
    observe(model, loader(), store, epoch=20, progress=False)
    assert set(store.last_seen("el2n").tolist()) == {20}


def test_dict_samples_go_to_the_model_by_name_and_its_logits_are_taken():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Named(nn.Module):
        def forward(self, x, labels):
            return Output(torch.stack([x, -x], dim=1))

    samples = [{"x": torch.tensor(float(i)), "labels": i % 2} for i in range(N)]
    store = make_store(EL2N())
    observe(Named(), DataLoader(IndexedDataset(samples, key="row"), batch_size=5), store, progress=False)
    assert store["el2n"][0] == pytest.approx(np.sqrt(0.5), rel=1e-6)
    assert store.observed("el2n") == N


def test_what_is_observed_may_be_said_by_a_function(model):
    store = make_store(Loss())
    observe(model, loader(), store, progress=False, observation=lambda model, sample: {"loss": sample[0][:, 0]})
    assert store["loss"].tolist() == list(range(N))


def test_a_sample_that_is_neither_a_pair_nor_a_dict_is_refused_with_the_remedy(model):
    triples = [(torch.zeros(4), 0, 1)] * N
    with pytest.raises(InvalidValue, match=r"a sample of type list is neither .*: pass observation="):
        observe(model, DataLoader(IndexedDataset(triples), batch_size=4), make_store(), progress=False)


def test_no_progress_is_shown_where_it_is_not_wanted(model, capsys):
    observe(model, loader(), make_store(), progress=False)
    assert capsys.readouterr() == ("", "")
