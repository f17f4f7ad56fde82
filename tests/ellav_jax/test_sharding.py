"""Logical axes on a mesh, without devices: an abstract mesh has shape enough."""

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from ellav_jax.errors import InputError
from ellav_jax.sharding import (
    MESH_AXES,
    MeshConfig,
    ShardingRules,
    constrain,
    make_mesh,
    mesh_shape,
    on_mesh,
    per_shard,
)


def _mesh(data=2, fsdp=4, tensor=2):
    return AbstractMesh((data, fsdp, tensor), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def test_each_logical_axis_goes_to_its_mesh_axis():
    rules = ShardingRules()
    assert rules.spec(("layers", "embed", "mlp"), (12, 32, 64), _mesh(), "w") == P(None, "fsdp", "tensor")
    assert rules.spec((None,), (7,), _mesh(), "scale") == P(None)
    assert rules.spec(("batch", None), (16, 3), _mesh(), "batch") == P(("data", "fsdp"), None)


@pytest.mark.parametrize("axes, shape, size, devices", [(("embed",), (30,), 30, 4), (("batch",), (12,), 12, 8)])
def test_a_size_that_does_not_divide_names_array_size_and_devices(axes, shape, size, devices):
    with pytest.raises(
        InputError, match=rf"^head.kernel: a dimension of {size} does not divide over {devices} devices"
    ):
        ShardingRules().spec(axes, shape, _mesh(), "head.kernel")


def test_two_dimensions_on_one_mesh_axis_are_refused():
    rules = ShardingRules(mlp="fsdp")
    with pytest.raises(InputError, match=r"up.kernel: two dimensions claim one mesh axis \(fsdp, fsdp\)"):
        rules.spec(("embed", "mlp"), (32, 64), _mesh(), "up.kernel")
    with pytest.raises(InputError, match="two dimensions claim one mesh axis"):
        ShardingRules().spec(("batch", "embed"), (16, 32), _mesh(), "x")


def test_parameters_are_named_by_their_path():
    shapes = {"block": {"kernel": jax.ShapeDtypeStruct((30, 64), "float32")}}
    with pytest.raises(InputError, match=r"^parameter block\.kernel: a dimension of 30"):
        ShardingRules().of_params(shapes, {"block": {"kernel": ("embed", "mlp")}}, _mesh())


def test_a_mesh_takes_all_devices():
    mesh = make_mesh(MeshConfig())
    assert dict(mesh.shape) == {"data": jax.device_count(), "fsdp": 1, "tensor": 1}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, -1, 1), (0, 1, 1), (-1, 3, 1), (-2, 1, -1)])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(sizes):
    with pytest.raises(InputError, match=r"does not fit 1 devices"):
        make_mesh(MeshConfig(*sizes), jax.devices()[:1])


def test_the_first_pattern_that_matches_the_hardwares_whole_name_gives_the_mesh():
    config = MeshConfig(-1, 8, 1, hardware=((r"v5e-\d+", -1, 16, 1), (r"(\d+x)?v5.*", 2, -1, 4)))
    assert mesh_shape(config, "v5e-256", 256) == (16, 16, 1)
    assert mesh_shape(config, "2xv5p-256", 256, slices=2) == (2, 32, 4)
    assert mesh_shape(config, "h100-32", 32) == (4, 8, 1)
    assert mesh_shape(config, "my-v5e-256", 256) == (32, 8, 1)
    with pytest.raises(InputError, match=r"'v5\(' is not a regular expression"):
        MeshConfig(hardware=(("v5(", 1, 1, 1),))


def test_slices_lie_along_data():
    assert mesh_shape(MeshConfig(-1, 4, 1), "2xv5e-16", 32, slices=2) == (8, 4, 1)
    with pytest.raises(InputError, match="2 slices lie along data, whose size 1"):
        mesh_shape(MeshConfig(1, -1, 1), "2xv5e-16", 32, slices=2)


def test_outside_of_a_mesh_arrays_and_kernels_are_left_alone():
    x = jax.numpy.ones((2, 3))
    assert constrain(x, "batch", "mlp") is x
    assert per_shard(len, [("batch", None)], ("batch",)) is len


def test_on_a_mesh_an_activation_must_divide():
    with on_mesh(make_mesh(MeshConfig(), jax.devices()[:1]), ShardingRules()):
        assert constrain(jax.numpy.ones((2, 3)), "batch", None).shape == (2, 3)
    message = "an activation: a dimension of 3 does not divide over 8"
    with jax.sharding.use_abstract_mesh(_mesh()), pytest.raises(InputError, match=message):
        constrain(jax.numpy.ones((3, 3)), "batch", None)
