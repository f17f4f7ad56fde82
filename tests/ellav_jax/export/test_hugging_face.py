"""The GAR that transformers loads: scores, greedy speech and tokens are those of the JAX model and its decoder."""

import dataclasses
import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from data_pipelines.records import Dataset
from ellav_jax.errors import InputError
from ellav_jax.export import ellav_logits_processor as shipped
from ellav_jax.export.hugging_face import write_llama
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.hybrid_sequence import LayoutConfig, build_sequence, decoding_prefix
from ellav_jax.models.definition import ModelDefinition
from ellav_jax.models.gar import Gar, GarConfig
from ellav_jax.synthesis.first_layer import Stretch, decode_stretches
from ellav_jax.synthesis.prompts import Prompt
from ellav_jax.synthesis.sampling import SamplingConfig
from ellav_jax.synthesis.shapes import GarShape
from ellav_jax.synthesis.trained_model import TrainedModel
from ellav_jax.training.losses import gar_sums
from ellav_jax.vocabulary import EOS, FIRST_PHONE, NUM_CODES, NUM_OUTPUTS, PAD, Vocabulary

pytestmark = pytest.mark.usefixtures("quick_compilation")

LENGTH = 256
LAYOUTS = {
    "compact": LayoutConfig(),
    "compact, local advance 3": LayoutConfig(local_advance=3),
    "compact without global advance": LayoutConfig(global_advance=False, local_advance=1),
    "paper": LayoutConfig(order="paper", local_advance=2),
    "valle": LayoutConfig(order="valle"),
}
all_layouts = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Arrays this small gain nothing from threads, which wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def speech(prepared_bundled):
    """Bundled clips of less than LENGTH positions, and the frontend they were prepared with."""
    dataset = Dataset.open(prepared_bundled)
    clips = {split: list(dataset.records(split)) for split in ("train", "test")}
    short = {k: [one for one in v if 3 * one.num_phones + one.num_frames < LENGTH] for k, v in clips.items()}
    return SimpleNamespace(frontend=dataset.frontend, vocabulary=Vocabulary(len(dataset.frontend.phones)), **short)


def _sequence(clip, layout, vocabulary):
    return build_sequence(clip.phones_N, clip.durations_N, clip.codes_Tx8[:, 0], layout, vocabulary)


def _padded(sequences, name, fill):
    return np.stack([np.pad(getattr(one, name), (0, LENGTH - len(one)), constant_values=fill) for one in sequences])


@pytest.fixture(scope="module")
def gar(tiny, speech):
    """A GAR that has seen the clips for a few dozen steps: `definition`, `params`, `config`, `trained`."""
    config = GarConfig(tiny("llama"))
    definition = ModelDefinition.of(lambda key: Gar(config, speech.vocabulary, key))
    sequences = [_sequence(clip, LAYOUTS["compact"], speech.vocabulary) for clip in speech.train[:4]]
    inputs = _padded(sequences, "inputs_L", PAD)
    batch = {
        "inputs": inputs,
        "targets": _padded(sequences, "targets_L", 0),
        "loss_mask": _padded(sequences, "loss_mask_L", False),
        "segment_ids": (inputs != PAD).astype(np.int32),
        "positions": np.tile(np.arange(LENGTH), (len(inputs), 1)),
    }
    optimizer = optax.adam(2e-2)

    def loss(params):
        sums = gar_sums(definition.merge(params), batch, None)
        return sums["objective"] / sums["tokens"]

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    params = jax.jit(definition.init)(jax.random.key(1))
    state = optimizer.init(params)
    for _ in range(30):
        params, state = step(params, state)
    return SimpleNamespace(config=config, model=definition.merge(params), trained=TrainedModel(definition, params))


@pytest.fixture(scope="module")
def exported(gar, speech, tmp_path_factory):
    """`exported(name of a layout)`: a folder, and what transformers loads from it."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp("llama") / "gar"
        write_llama(gar.trained.params, gar.config, LAYOUTS[name], speech.frontend, folder, "float32", "# A GAR")
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        return SimpleNamespace(folder=folder, model=model, layout=shipped.Layout.of(model.config))

    return make


@all_layouts
def test_scores_are_those_of_the_jax_model_on_whole_clips(name, gar, speech, exported):
    sequences = [_sequence(clip, LAYOUTS[name], speech.vocabulary) for clip in speech.test[:4]]
    inputs = _padded(sequences, "inputs_L", PAD)
    positions = np.tile(np.arange(LENGTH), (len(inputs), 1))
    expected = np.asarray(_forward(gar.model)(inputs, (inputs != PAD).astype(np.int32), positions))
    # At the left there, as for generation.
    width = max(map(len, sequences))
    ids = torch.tensor(
        np.stack([np.pad(one.inputs_L, (width - len(one), 0), constant_values=PAD) for one in sequences])
    )
    mask = (ids != PAD).long()
    with torch.inference_mode():
        found = exported(name).model(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    for row, one in enumerate(sequences):
        scores = found[row, width - len(one) :].numpy()
        np.testing.assert_allclose(scores[:, :NUM_OUTPUTS], expected[row, : len(one)], rtol=0, atol=1e-4)
        assert np.all(scores[:, NUM_OUTPUTS:].max(1) < scores[:, :NUM_OUTPUTS].max(1))


@functools.cache
def _forward(model):
    return jax.jit(lambda tokens, segments, positions: model(tokens, segments, positions))


def _prompt(clip, seconds=1.0):
    """The beginning of a clip, up to the end of a phone."""
    phones = max(int(np.searchsorted(np.cumsum(clip.durations_N), 75 * seconds)), 2)
    durations = clip.durations_N[:phones]
    return Prompt(
        clip.phones_N[:phones].astype(np.int32), durations, clip.codes_Tx8[: durations.sum()].astype(np.int32)
    )


def _cases(speech, count):
    """Prompts out of clips with phones of others, of different lengths; and limits on their frames."""
    rng = np.random.default_rng(0)
    for at in range(count):
        phones = speech.test[-1 - at].phones_N.astype(np.int32)
        floors = rng.integers(1, 4, len(phones))
        yield _prompt(speech.test[at]), phones, floors, floors + rng.integers(0, 9, len(phones))


def _sentences(layout, cases):
    return [
        shipped.sentence(
            layout,
            [FIRST_PHONE + int(phone) for phone in phones],
            [FIRST_PHONE + int(phone) for phone in prompt.phones_P],
            prompt.durations_P.tolist(),
            prompt.codes_Tx8[:, 0].tolist(),
            floors.tolist(),
            caps.tolist(),
        )
        for prompt, phones, floors, caps in cases
    ]


def _generate(one, sentences, **options):
    inputs = shipped.batch(sentences)
    output = one.model.generate(
        **inputs,
        logits_processor=LogitsProcessorList([shipped.PhoneByPhone(one.layout, sentences)]),
        max_new_tokens=max(sentence.max_new_tokens for sentence in sentences),
        **options,
    )
    return output[:, inputs["input_ids"].shape[1] :]


def _assert_is_a_sequence(layout, vocabulary, case, sentence, row, spoken):
    """What was fed and said is the hybrid sequence of phones, durations and codes that came out of it."""
    prompt, phones, _, _ = case
    ids = row.tolist()
    known = spoken.durations is not None
    rest = spoken.durations if known else np.diff(np.arange(len(phones) + 1) * len(spoken.codes) // len(phones))
    sequence = build_sequence(
        np.concatenate([prompt.phones_P, phones]),
        np.concatenate([prompt.durations_P, rest]),
        np.concatenate([prompt.codes_Tx8[:, 0], spoken.codes]),
        layout,
        vocabulary,
    )
    assert sentence.prompt_ids + ids[: ids.index(EOS)] == sequence.inputs_L.tolist()


@all_layouts
def test_greedy_speech_is_that_of_the_jax_decoder(name, gar, speech, exported):
    layout, one = LAYOUTS[name], exported(name)
    cases = list(_cases(speech, 3))
    stretches = [Stretch(*case) for case in cases]
    shape = GarShape(prefix=256, phones=64, frames=512)
    greedy = SamplingConfig(temperature=0.0)
    model = (gar.trained, layout, len(speech.frontend.phones))
    expected = decode_stretches(*model, stretches, shape, greedy, batch_size=3)
    sentences = _sentences(one.layout, cases)
    assert len({len(sentence.prompt_ids) for sentence in sentences}) > 1
    rows = list(_generate(one, sentences))
    rows += _generate(one, sentences[:1])  # without padding
    for at, row in zip([0, 1, 2, 0], rows, strict=True):
        spoken = shipped.take_apart(one.layout, sentences[at], row)
        assert spoken.finished and expected[at].finished
        assert spoken.codes == expected[at].codes_T.tolist()
        if layout.interleaved:
            assert spoken.durations == stretches[at].left.durations_behind(expected[at].durations).tolist()
            _, _, floors, caps = cases[at]
            # It would be easy to say the same where nothing is chosen.
            assert len(set(spoken.codes)) > 10
            assert np.any((floors < spoken.durations) & (spoken.durations < caps))
        _assert_is_a_sequence(layout, speech.vocabulary, cases[at], sentences[at], row, spoken)


def test_sampled_speech_keeps_to_phones_floors_and_caps(speech, exported):
    name = "compact, local advance 3"
    one, cases = exported(name), list(_cases(speech, 2))
    sentences = _sentences(one.layout, cases)
    torch.manual_seed(0)
    rows = _generate(one, sentences, do_sample=True, top_k=0, num_return_sequences=2)
    free = 0
    for at, row in zip([0, 0, 1, 1], rows, strict=True):
        spoken = shipped.take_apart(one.layout, sentences[at], row)
        _, _, floors, caps = cases[at]
        assert np.all((floors <= spoken.durations) & (spoken.durations <= caps))
        free += int(np.sum((floors < spoken.durations) & (spoken.durations < caps)))
        _assert_is_a_sequence(LAYOUTS[name], speech.vocabulary, cases[at], sentences[at], row, spoken)
    assert free
    assert rows[0].tolist() != rows[1].tolist()


@all_layouts
def test_what_stands_ahead_of_speech_is_what_the_jax_decoder_is_given(name):
    layout, rng = LAYOUTS[name], np.random.default_rng(1)
    theirs = shipped.Layout(layout.order, layout.global_advance, layout.local_advance)
    for _ in range(100):
        durations = rng.integers(1, 6, rng.integers(0, 5)).astype(np.int32)
        durations += 5 * (np.arange(len(durations)) == len(durations) - 1)  # room for the local advance
        prompt, phones = rng.integers(0, 5, len(durations)), rng.integers(0, 5, rng.integers(1, 4))
        codes = rng.integers(0, NUM_CODES, durations.sum())
        expected, ahead = decoding_prefix(prompt, durations, codes, phones, layout, Vocabulary(5))
        found = shipped.sentence(theirs, FIRST_PHONE + phones, FIRST_PHONE + prompt, durations, codes)
        assert found.prompt_ids == expected.tolist()
        if layout.interleaved:
            assert [*found.ahead, found.started] == ahead.tolist()


def test_tokens_come_back_as_they_were_written(exported, speech):
    tokenizer = AutoTokenizer.from_pretrained(exported("compact").folder)
    assert len(tokenizer) == speech.vocabulary.size
    names = " ".join(speech.frontend.phones)
    assert tokenizer(names).input_ids == list(range(FIRST_PHONE, speech.vocabulary.size))
    hybrid = "SIL HH AY SIL <bos> SIL <c0> <c1023> HH <c17> <eop> <eos> <pad>"
    ids = tokenizer(hybrid).input_ids
    assert ids[4:8] == [1026, 1028, 0, 1023] and ids[-4:] == [17, 1024, 1025, 1027]
    assert tokenizer.decode(ids) == hybrid
    assert tokenizer(["SIL", "HH AY"], padding=True).input_ids[0] == [PAD, FIRST_PHONE]
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (1025, 1026, 1027)
    with pytest.raises(Exception, match="UNK"):
        tokenizer("SIL QQ")


def test_phones_of_the_ipa_are_found_however_their_marks_are_written(gar, tmp_path):
    phones = ("SIL", "ã", "ç", "iː")
    frontend = dataclasses.replace(default_frontend(), phones=phones, phone_set="ipa", aligner="textgrid")
    params = _with_phones(gar, len(phones))
    write_llama(params, gar.config, LayoutConfig(), frontend, tmp_path, "float32", "")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("ã a\u0303 c\u0327 iː").input_ids == [1029, 1029, 1030, 1031]


def _with_phones(gar, count):
    return gar.trained.params | {"embedding": gar.trained.params["embedding"][: FIRST_PHONE + count]}


@pytest.mark.parametrize(("dtype", "near"), [("bfloat16", 0.4), ("float16", 0.05)])
def test_weights_may_take_half_the_room(dtype, near, gar, speech, exported, tmp_path):
    write_llama(gar.trained.params, gar.config, LayoutConfig(), speech.frontend, tmp_path, dtype, "")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == getattr(torch, dtype)
    whole = exported("compact")
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * (whole.folder / "model.safetensors").stat().st_size
    ids = torch.arange(30)[None]
    with torch.inference_mode():
        np.testing.assert_allclose(model.float()(ids).logits, whole.model(ids).logits, rtol=0, atol=near)


def test_the_example_of_the_readme_runs_without_jax(exported):
    folder = exported("compact, local advance 3").folder
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# A GAR\n")
    example = re.search(r"```python\n(.*?)```", text, re.S)[1]
    script = f"import sys; sys.modules |= dict.fromkeys(('jax', 'flax', 'ellav_jax'))\n{example}"
    command = [sys.executable, "-c", script]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    codes, durations, finished = re.fullmatch(r"\[(.*)\] \[(.*)\] (\w+)\n", done.stdout).groups()
    assert finished == "True"
    assert len(codes.split()) == sum(map(int, durations.split(",")))


def test_all_of_the_folder_is_there(exported, speech):
    folder = exported("compact").folder
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "ellav_logits_processor.py",
        "frontend.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (folder / "ellav_logits_processor.py").read_bytes() == Path(shipped.__file__).read_bytes()
    assert type(speech.frontend).from_json(folder / "frontend.json") == speech.frontend


def test_without_the_processor_nothing_but_outputs_of_the_gar_is_sampled(exported):
    model = exported("compact").model
    ids = torch.full((200, 1), 1026)
    torch.manual_seed(0)
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=True, top_k=0, temperature=50.0
    )[:, 1:]
    assert int(said[said != PAD].max()) < NUM_OUTPUTS  # padding follows EOS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": "paper"}, "rmsnorm, swiglu and rotary positions .* this GAR has layernorm, relu and sinusoidal"),
        ({"dtype": "int8"}, "dtype 'int8' .* expected one of float32, bfloat16, float16"),
        ({"phones": ("SIL", "<c5>")}, "phone '<c5>' has the name of another token"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_written(change, message, gar, tiny, tmp_path):
    config = GarConfig(tiny(change.get("config", "llama")))
    phones = change.get("phones", ("SIL", "a"))
    frontend = dataclasses.replace(default_frontend(), phones=phones, phone_set="ipa", aligner="textgrid")
    with pytest.raises(InputError, match=message):
        write_llama({}, config, LayoutConfig(), frontend, tmp_path / "out", change.get("dtype", "float32"), "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phones": []}, "one or more ids from 1028 on"),
        ({"phones": [5]}, "one or more ids from 1028 on"),
        ({"prompt_durations": [3, 4]}, "2 durations of 7 frames in all, and 4 codes"),
        ({"prompt_codes": [1, 2, 3, 1024]}, "must be 0 to 1023, got 1 to 1024"),
        ({"floors": [0]}, "a floor of at least 1 frame"),
        ({"floors": [5], "caps": [4]}, "a cap not below it"),
        ({"phones": [1030, 1031], "caps": [2, 9]}, "at most 2 frames ends within the 3 frames"),
    ],
)
def test_sentences_that_do_not_fit_together_are_told(change, message):
    good = {"phones": [1030], "prompt_phones": [1028], "prompt_durations": [4], "prompt_codes": [1, 2, 3, 4]}
    layout = shipped.Layout("compact", True, 3)
    shipped.sentence(layout, **good)
    with pytest.raises(ValueError, match=message):
        shipped.sentence(layout, **good | change)
