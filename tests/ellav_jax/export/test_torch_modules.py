"""The PyTorch models against the JAX models on the same weights: outputs, loss, gradients, cached decoding."""

import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch

from ellav_jax.export import torch_modules as twin
from ellav_jax.export.convert import to_torch, torch_config
from ellav_jax.hybrid_sequence import LayoutConfig, build_sequence
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.models.nar import Nar, NarConfig, NarInputs, nar_segment
from ellav_jax.training.losses import gar_sums, nar_sums
from ellav_jax.vocabulary import PAD, Vocabulary

pytestmark = pytest.mark.usefixtures("quick_compilation")

PHONES = 5
LENGTH = 40
ORDERS = ("compact", "paper", "valle")
both_presets = pytest.mark.parametrize("preset", ["paper", "llama"])


def _utterance(rng, phones):
    durations = rng.integers(1, 4, phones)
    return rng.integers(0, PHONES, phones), durations, rng.integers(0, 1024, (durations.sum(), 8))


def _pack(rows_of_segments):
    """Rows of lists of dicts of arrays → a batch with segment ids and positions; what is left stays 0."""
    batch = {}
    for row, segments in enumerate(rows_of_segments):
        start = 0
        for index, segment in enumerate(segments, start=1):
            length = len(segment["loss_mask"])
            places = {"segment_ids": np.full(length, index), "positions": np.arange(length)}
            for name, array in (segment | places).items():
                shape = (len(rows_of_segments), LENGTH, *array.shape[1:])
                dtype = bool if array.dtype == bool else np.int32
                batch.setdefault(name, np.zeros(shape, dtype))[row, start : start + length] = array
            start += length
    return batch


@functools.cache
def _gar_batch(order):
    """Two packed rows with padding: two utterances, and one."""
    rng = np.random.default_rng(0)

    def segment(phones):
        sequence = build_sequence(*_with_first_layer(rng, phones), LayoutConfig(order), Vocabulary(PHONES))
        return {"inputs": sequence.inputs_L, "targets": sequence.targets_L, "loss_mask": sequence.loss_mask_L}

    batch = _pack([[segment(3), segment(4)], [segment(5)]])
    return batch | {"inputs": np.where(batch["segment_ids"] > 0, batch["inputs"], PAD)}


def _with_first_layer(rng, phones):
    phones, durations, codes = _utterance(rng, phones)
    return phones, durations, codes[:, 0]


@functools.cache
def _nar_batch():
    rng = np.random.default_rng(1)

    def segment(phones, prompt, stage):
        arrays = nar_segment(*_utterance(rng, phones), prompt, stage)
        return arrays | {"loss_mask": arrays["is_frame"] & (arrays["known"] < 8)}

    batch = _pack([[segment(3, 2, 2), segment(4, 0, 5)], [segment(6, 3, 8)]])
    return batch | {"stage": np.maximum(batch["stage"], 2)}


def _random(definition):
    """Parameters of which none is 0 or 1, so that each one shows."""
    rng = np.random.default_rng(2)
    at_norms = {"scale": 1.0}

    def one(path, leaf):
        scale = 0.1 if path[-1].key in ("scale", "bias") else leaf.shape[-1] ** -0.5
        return rng.normal(at_norms.get(path[-1].key, 0.0), scale, leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(one, definition.shapes)


@pytest.fixture(scope="module")
def pair(tiny):
    """`pair("gar", "paper")`: one model as a torch `module`, and `jax(batch)` → its outputs, loss and gradients in JAX."""

    @functools.cache
    def make(kind, preset, **choices):
        config = tiny(preset)
        shape = twin.TransformerConfig(**torch_config(config))
        if kind == "gar":
            definition = ModelDefinition.of(lambda key: Gar(GarConfig(config), Vocabulary(PHONES), key))
            module = twin.Gar(shape, PHONES)
        else:
            definition = ModelDefinition.of(lambda key: Nar(NarConfig(config, **choices), PHONES, key))
            module = twin.Nar(shape, PHONES, **choices)
        params = _random(definition)
        module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(params).items()})

        def outputs(params, batch):
            model = definition.merge(params)
            if kind == "gar":
                return model(batch["inputs"], batch["segment_ids"], batch["positions"])
            return model(NarInputs(**{name: batch[name] for name in NarInputs.__dataclass_fields__}))

        def loss(params, batch):
            total = (gar_sums if kind == "gar" else nar_sums)(definition.merge(params), batch, None)
            return total["objective"] / total["tokens"]

        run = jax.jit(lambda *arguments: (outputs(*arguments), *jax.value_and_grad(loss)(*arguments)))
        return SimpleNamespace(module=module, params=params, jax=lambda batch: jax.device_get(run(params, batch)))

    return make


@pytest.fixture(autouse=True)
def _one_thread():
    """Arrays this small gain nothing from threads, which wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _tensors(batch):
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def _nar_inputs(batch):
    return twin.NarInputs(**{name: batch[name] for name in twin.NarInputs.__dataclass_fields__})


SEGMENTS = {
    "packed": lambda ids, causal: twin.Segments.packed(ids),
    "masked": lambda ids, causal: twin.Segments.masked(ids, causal=causal),
}
both_masks = pytest.mark.parametrize("mask", ["packed", "masked"])


def _assert_same_gradients(module, grads):
    expected = to_torch(grads)
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-5, err_msg=name)


@both_presets
@both_masks
@pytest.mark.parametrize("order", ORDERS)
def test_gar_scores_loss_and_gradients_are_those_of_jax(pair, preset, order, mask):
    model, batch = pair("gar", preset), _gar_batch(order)
    expected, loss, grads = model.jax(batch)
    tensors = _tensors(batch)
    segments = SEGMENTS[mask](tensors["segment_ids"], True)
    found = model.module(tensors["inputs"], tensors["positions"], segments).detach()
    real = batch["segment_ids"] > 0
    np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=1e-4)
    model.module.zero_grad()
    ours = twin.gar_loss(
        model.module, *(tensors[name] for name in ("inputs", "targets", "loss_mask", "positions")), segments
    )
    ours.backward()
    assert ours.item() == pytest.approx(float(loss), abs=1e-5)
    _assert_same_gradients(model.module, grads)


@both_presets
@both_masks
@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({}, id="default"),
        pytest.param({"aligned_phones": False, "tied_heads": False}, id="other", marks=pytest.mark.slow),
    ],
)
def test_nar_scores_loss_and_gradients_are_those_of_jax(pair, preset, choices, mask):
    model, batch = pair("nar", preset, **choices), _nar_batch()
    features, loss, grads = model.jax(batch)
    tensors = _tensors(batch)
    segments = SEGMENTS[mask](tensors["segment_ids"], False)
    found = model.module(_nar_inputs(tensors), segments)
    real = batch["segment_ids"] > 0
    for stage in (2, 8):
        head = (
            model.params["heads"][stage - 2] if "heads" in model.params else model.params["code_embedding"][stage - 1]
        )
        expected = features[real] @ head.T
        np.testing.assert_allclose(model.module.logits(found[real], stage).detach(), expected, rtol=0, atol=1e-4)
    model.module.zero_grad()
    ours = twin.nar_loss(model.module, _nar_inputs(tensors), tensors["loss_mask"], segments)
    ours.backward()
    assert ours.item() == pytest.approx(float(loss), abs=1e-5)
    _assert_same_gradients(model.module, grads)


def _unpacked(batch):
    """The utterances of a packed batch, one a row, and their lengths."""
    pieces = [
        {name: array[row][batch["segment_ids"][row] == one] for name, array in batch.items()}
        for row in range(len(batch["segment_ids"]))
        for one in range(1, batch["segment_ids"][row].max() + 1)
    ]
    lengths = [len(piece["positions"]) for piece in pieces]
    rows = {
        name: torch.stack([_to_length(torch.from_numpy(piece[name]), max(lengths)) for piece in pieces])
        for name in batch
    }
    return rows | {"stage": rows["stage"].clamp(min=2)} if "stage" in rows else rows, torch.tensor(lengths)


def _to_length(tensor, length):
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])


@both_presets
def test_padded_batches_give_the_loss_of_packed_rows(pair, preset):
    model, batch = pair("gar", preset), _gar_batch("compact")
    rows, lengths = _unpacked(batch)
    segments = twin.Segments.padded(lengths, rows["inputs"].shape[1], causal=True)
    assert segments.mask is None  # the fast path: nothing but is_causal
    names = ("inputs", "targets", "loss_mask", "positions")
    found = twin.gar_loss(model.module, *(rows[name] for name in names), segments)
    assert found.item() == pytest.approx(float(model.jax(batch)[1]), abs=1e-5)

    model, batch = pair("nar", preset), _nar_batch()
    rows, lengths = _unpacked(batch)
    segments = twin.Segments.padded(lengths, rows["stage"].shape[1], causal=False)
    found = twin.nar_loss(model.module, _nar_inputs(rows), rows["loss_mask"], segments)
    assert found.item() == pytest.approx(float(model.jax(batch)[1]), abs=1e-5)


@both_presets
def test_cached_decoding_is_the_whole_forward(pair, preset):
    module = pair("gar", preset).module
    tokens = torch.randint(0, 1028 + PHONES, (3, 14), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = module(tokens)
        for lengths in ([1, 6, 4], [5, 5, 5]):
            at = list(lengths)
            logits, cache = module.prefill(tokens[:, : max(lengths)], lengths, slots=14)
            while max(at) < 14:
                np.testing.assert_allclose(logits, whole[range(3), [n - 1 for n in at]], rtol=0, atol=1e-4)
                logits = module.step(tokens[range(3), at], cache)
                at = [n + 1 for n in at]
            np.testing.assert_allclose(logits, whole[range(3), [n - 1 for n in at]], rtol=0, atol=1e-4)


def test_dropout_zeroes_its_share_in_training_alone(tiny):
    config = twin.TransformerConfig(**torch_config(tiny("llama", dropout=0.25)))
    block = twin.Block(config)
    for norm in (block.ff_norm, block.attention_norm):
        torch.nn.init.zeros_(norm.weight)  # the feed-forward adds nothing
    x, mixed = torch.zeros(1, 4000, 32), torch.ones(1, 4000, 2, 16)
    block.train()
    dropped = block.finish(x, mixed)
    block.eval()
    whole = block.finish(x, mixed)
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(0.25, abs=0.01)
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept].detach(), (whole / 0.75)[kept].detach(), rtol=1e-5)
    assert not (whole == 0).any()
