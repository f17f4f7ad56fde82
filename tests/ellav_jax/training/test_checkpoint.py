"""Checkpoints: what goes in comes out, and what does not fit is named."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.models.definition import on_one_device
from ellav_jax.training.checkpoint import Checkpoints, find_checkpoint, load_params, read_card

CARD = {"experiment": {"kind": "gar", "numbers": [1, 2]}, "frontend": {"phones": ["SIL", "ä"]}, "codec": {"name": "x"}}


def _state(step):
    params = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3) + step}, "b": jnp.full(4, step, jnp.float32)}
    moments = jax.tree.map(lambda leaf: leaf * 0.5, params)
    return {"params": params, "optimizer": (moments, jnp.int32(step)), "step": jnp.int32(step)}


def _abstract(state):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def _open(workdir, every=10, keep=2, keep_every=0, say=print):
    return Checkpoints(workdir / "checkpoints", every=every, keep=keep, keep_every=keep_every, card=CARD, say=say)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A work directory with one checkpoint, at step 7. Read only."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = _open(workdir)
    checkpoints.save(7, _state(7), 56, force=True)
    checkpoints.close()
    return workdir


def _equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_state_and_position_come_back_as_they_were(saved):
    checkpoints = _open(saved)
    state, next_row = checkpoints.restore(_abstract(_state(0)))
    checkpoints.close()
    _equal(state, _state(7))
    assert next_row == 56


def test_an_empty_work_directory_restores_nothing(tmp_path):
    checkpoints = _open(tmp_path)
    assert checkpoints.restore(_abstract(_state(0))) is None
    checkpoints.close()


def test_steps_to_save_are_saved_and_the_latest_kept(tmp_path):
    checkpoints = _open(tmp_path, every=2, keep=2)
    for step in range(1, 8):
        checkpoints.save(step, _state(step), 10 * step)
    checkpoints.save(7, _state(7), 70, force=True)
    checkpoints.save(7, _state(7), 70, force=True)  # once is enough
    checkpoints.close()
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [6, 7]
    assert find_checkpoint(tmp_path).name == "7"


def test_a_state_may_go_on_changing_while_it_is_saved(tmp_path):
    checkpoints = _open(tmp_path)
    state = _state(3)
    checkpoints.save(3, state, 1, force=True)
    donate = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0, state), donate_argnums=0)
    donate(state)
    checkpoints.close()
    _equal(load_params(tmp_path / "checkpoints" / "3", on_one_device(_state(0)["params"])), _state(3)["params"])


def test_the_card_is_carried(saved):
    assert read_card(find_checkpoint(saved)) == CARD


def test_parameters_alone_come_whole_to_one_device(saved):
    params = load_params(find_checkpoint(saved), on_one_device(_state(0)["params"]))
    _equal(params, _state(7)["params"])
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(params))


def test_every_weight_that_does_not_fit_is_named(saved):
    wanted = {
        "a": {"kernel": jax.ShapeDtypeStruct((2, 4), jnp.float32), "bias": jax.ShapeDtypeStruct((4,), jnp.float32)},
        "c": jax.ShapeDtypeStruct((1,), jnp.float32),
    }
    with pytest.raises(InputError) as error:
        load_params(find_checkpoint(saved), wanted)
    for part in ("a.bias is missing", "c is missing", "b is left over", "a.kernel is [2, 3], expected [2, 4]"):
        assert part in str(error.value)
    checkpoints = _open(saved)
    with pytest.raises(InputError, match=r"a\.bias is missing; c is missing; b is left over; a\.kernel is"):
        checkpoints.restore(_abstract(_state(0)) | {"params": wanted})
    checkpoints.close()


def _cut_files(path):
    for file in path.rglob("*"):
        if file.is_file() and file.stat().st_size > 0 and "ocdbt" not in file.name:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "files cut in half": _cut_files,
    "weights gone": lambda path: [shutil.rmtree(p) for p in (path / "params").iterdir() if p.is_dir()],
    "weights emptied": lambda path: [p.write_bytes(b"") for p in (path / "params").rglob("*") if p.is_file()],
    "metadata gone": lambda path: [p.unlink() for p in path.rglob("_*") if p.is_file()],
    "folder emptied": lambda path: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in path.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_an_input_error_that_names_it(saved, tmp_path, damage):
    shutil.copytree(saved, tmp_path / "w")
    path = tmp_path / "w" / "checkpoints" / "7"
    DAMAGES[damage](path)
    with pytest.raises(InputError, match="/7: "):
        read_card(find_checkpoint(path))
        load_params(find_checkpoint(path), _state(0)["params"])
    checkpoints = _open(tmp_path / "w")
    with pytest.raises(InputError, match="/7: "):
        checkpoints.restore(_abstract(_state(0)))
    checkpoints.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_restored(tmp_path, damage):
    checkpoints = _open(tmp_path, keep=3)
    for step in (3, 5, 7):
        checkpoints.save(step, _state(step), 10 * step, force=True)
    checkpoints.close()
    for step in ("5", "7"):
        DAMAGES[damage](tmp_path / "checkpoints" / step)
    said = []
    checkpoints = _open(tmp_path, say=said.append)
    state, next_row = checkpoints.restore(_abstract(_state(0)))
    _equal(state, _state(3))
    assert next_row == 30
    assert ["/7: " in said[0], "/5: " in said[1]] == [True, True]
    # The steps are trained and saved again.
    checkpoints.save(7, _state(7), 70, force=True)
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "5.damaged", "7", "7.damaged"]
    checkpoints = _open(tmp_path)
    _equal(checkpoints.restore(_abstract(_state(0)))[0], _state(7))
    checkpoints.close()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(InputError, match="neither a work directory"):
        find_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="no finished checkpoint yet"):
        find_checkpoint(tmp_path)
