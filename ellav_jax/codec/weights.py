"""Reading EnCodec weights: three file formats into one flat dict with the encodec package's state-dict names."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ellav_jax.codec.config import (
    KERNEL_SIZE,
    LSTM_LAYERS,
    NUM_CODEBOOKS,
    RATIOS,
    RESIDUAL_KERNEL_SIZE,
    SAMPLE_RATE,
    CodecConfig,
    CodecFacts,
)
from ellav_jax.errors import InputError
from ellav_jax.files import sha256_of_file

BUNDLED_FILE = Path(__file__).parent / "bundled" / "encodec_24khz_small.safetensors"
# Left out on purpose: moving averages that only training needs, and codebooks beyond those that ELLA-V uses.
_UNUSED = re.compile(r"quantizer\.vq\.layers\.(\d+)\._codebook\.(embed_avg|cluster_size|inited|embed)")


@dataclasses.dataclass(frozen=True)
class CodecWeights:
    """All arrays float32, named as in the encodec package's state dict (weight norm kept as weight_g and weight_v).

    name: what the user called the weights. sha256: of the file's bytes. These arrays are also what an export writes.
    """

    name: str
    sha256: str
    config: CodecConfig
    arrays: Mapping[str, np.ndarray]

    @property
    def facts(self) -> CodecFacts:
        """What data sets made with these weights depend on."""
        return CodecFacts(
            name=self.name,
            sha256=self.sha256,
            sample_rate=SAMPLE_RATE,
            hop=self.config.hop,
            frame_rate=self.config.frame_rate,
            num_codebooks=NUM_CODEBOOKS,
            codebook_size=self.config.codebook_size,
        )


def codebook_name(layer: int) -> str:
    """The state-dict name of a codebook in the encodec package."""
    return f"quantizer.vq.layers.{layer}._codebook.embed"


def expected_shapes(config: CodecConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a model of these sizes, as the encodec package has them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(prefix: str, first: int, second: int, size: int, biases: int) -> None:
        shapes[f"{prefix}.weight_v"] = (first, second, size)
        shapes[f"{prefix}.weight_g"] = (first, 1, 1)
        shapes[f"{prefix}.bias"] = (biases,)

    def residual_block(prefix: str, channels: int) -> None:
        hidden = channels // 2
        conv(f"{prefix}.block.1.conv.conv", hidden, channels, RESIDUAL_KERNEL_SIZE, hidden)
        conv(f"{prefix}.block.3.conv.conv", channels, hidden, 1, channels)
        conv(f"{prefix}.shortcut.conv.conv", channels, channels, 1, channels)

    def lstm(prefix: str, size: int) -> None:
        for layer in range(LSTM_LAYERS):
            for side in ("ih", "hh"):
                shapes[f"{prefix}.weight_{side}_l{layer}"] = (4 * size, size)
                shapes[f"{prefix}.bias_{side}_l{layer}"] = (4 * size,)

    channels, index = config.filters, 1
    conv("encoder.model.0.conv.conv", channels, 1, KERNEL_SIZE, channels)
    for ratio in reversed(RATIOS):
        residual_block(f"encoder.model.{index}", channels)
        conv(f"encoder.model.{index + 2}.conv.conv", 2 * channels, channels, 2 * ratio, 2 * channels)
        channels, index = 2 * channels, index + 3
    lstm(f"encoder.model.{index}.lstm", channels)
    conv(f"encoder.model.{index + 2}.conv.conv", config.dimension, channels, KERNEL_SIZE, config.dimension)

    conv("decoder.model.0.conv.conv", channels, config.dimension, KERNEL_SIZE, channels)
    lstm("decoder.model.1.lstm", channels)
    index = 3
    for ratio in RATIOS:
        # A transposed convolution has its inputs on the first axis.
        conv(f"decoder.model.{index}.convtr.convtr", channels, channels // 2, 2 * ratio, channels // 2)
        channels //= 2
        residual_block(f"decoder.model.{index + 1}", channels)
        index += 3
    conv(f"decoder.model.{index}.conv.conv", 1, channels, KERNEL_SIZE, 1)

    for layer in range(NUM_CODEBOOKS):
        shapes[codebook_name(layer)] = (config.codebook_size, config.dimension)
    return shapes


def package_name(name: str) -> str:
    """A name of transformers' EncodecModel as the encodec package has it; other names unchanged."""
    name = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", name)
    # Newer torch keeps weight norm as a parametrization: original0 is g, original1 is v.
    name = name.replace(".conv.parametrizations.weight.original0", ".conv.weight_g")
    name = name.replace(".conv.parametrizations.weight.original1", ".conv.weight_v")
    match = re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.*)", name)
    if match is None:
        return name
    side, index, rest = match.groups()
    if rest.startswith("lstm."):
        return f"{side}.model.{index}.{rest}"
    transposed = side == "decoder" and (int(index) - 3) % 3 == 0 and 3 <= int(index) < 3 + 3 * len(RATIOS)
    wrapper = "convtr.convtr." if transposed else "conv.conv."
    return f"{side}.model.{index}." + re.sub(r"\bconv\.(?=\w+$)", wrapper, rest)


def _config_of(arrays: Mapping[str, np.ndarray], where: str) -> CodecConfig:
    first_kernel, codebook = arrays.get("encoder.model.0.conv.conv.weight_v"), arrays.get(codebook_name(0))
    if first_kernel is None or codebook is None or first_kernel.ndim != 3 or codebook.ndim != 2:
        found = ", ".join(sorted(arrays)[:5]) or "none"
        raise InputError(
            f"{where}: not the weights of an EnCodec 24 kHz model (its first convolution or first codebook is not "
            f"there); the first names found: {found}. Give a file with the state dict of the encodec package or of "
            "transformers' EncodecModel"
        )
    return CodecConfig(filters=first_kernel.shape[0], codebook_size=codebook.shape[0], dimension=codebook.shape[1])


def weights_from_arrays(
    arrays: Mapping[str, np.ndarray], *, name: str, sha256: str, allow_equal_vectors: bool = False
) -> CodecWeights:
    """Renames, checks and converts a state dict of the encodec package or of transformers.EncodecModel.

    Raises InputError that lists every missing, unknown, ill-shaped or non-finite array; and, unless
    `allow_equal_vectors`, when a codebook's vectors are all the same (a fresh model's zeros: every code ties).
    """
    named = {package_name(key): value for key, value in arrays.items()}
    config = _config_of(named, name)
    shapes = expected_shapes(config)
    problems = []
    for key, shape in shapes.items():
        if key not in named:
            problems.append(f"missing {key} {list(shape)}")
        elif named[key].shape != shape:
            problems.append(f"{key} has shape {list(named[key].shape)}, expected {list(shape)}")
        elif not np.isfinite(named[key]).all():
            problems.append(f"{key} has NaN or infinite values")
    problems += [f"unknown {key}" for key in named if key not in shapes and not _UNUSED.fullmatch(key)]
    if problems:
        raise InputError(
            f"{name}: not the weights of an EnCodec 24 kHz model with {config.filters} filters: " + "; ".join(problems)
        )
    if not allow_equal_vectors:
        for layer in range(NUM_CODEBOOKS):
            codebook = named[codebook_name(layer)]
            if (codebook == codebook[0]).all():
                raise InputError(
                    f"{name}: all vectors of codebook {layer + 1} are equal, so that every code ties: a fresh "
                    "model? Train it, or fill its codebooks (ellav_jax.codec.bootstrap.fill_codebooks)"
                )
    return CodecWeights(name, sha256, config, {key: np.asarray(named[key], np.float32) for key in shapes})


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); download it again") from None


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: reading a torch file needs torch: pip install 'ellav-jax[torch]'") from None
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not a readable torch file of plain weights ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no flat state dict; expected the encodec package's checkpoint format")
    return {key: value.float().numpy() for key, value in state.items()}


def _download(repository: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(
            f"codec {repository!r}: fetching from Hugging Face needs huggingface_hub: pip install 'ellav-jax[torch]'; "
            "or give a local file or folder"
        ) from None
    try:
        return Path(huggingface_hub.hf_hub_download(repository, "model.safetensors"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"codec {repository!r}: no such file or folder here, and not fetched from Hugging Face ({reason}); give "
            "'bundled', a .safetensors or .th file, a folder with model.safetensors, or a hub id such as "
            "facebook/encodec_24khz (needs a network)"
        ) from None


def weights_file(spec: str) -> Path:
    """The local file of `bundled`, a .safetensors/.th/.pt file, a folder with model.safetensors, or a hub id.

    Raises InputError when there is none and none could be fetched.
    """
    if spec == "bundled":
        return BUNDLED_FILE
    path = Path(spec).expanduser()
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.is_file():
            raise InputError(f"codec {spec!r}: the folder has no model.safetensors")
        return path
    if path.is_file():
        return path
    if path.suffix in (".safetensors", ".th", ".pt") or not re.fullmatch(r"[\w.-]+/[\w.-]+", spec):
        raise InputError(
            f"codec {spec!r}: no such file; give 'bundled', 'encodec', a .safetensors or .th file, a folder with "
            "model.safetensors, or a hub id such as facebook/encodec_24khz"
        )
    return _download(spec)


def read_weights(spec: str, *, name: str | None = None) -> CodecWeights:
    """Reads the weights that `weights_file(spec)` finds, called `name` (or `spec`). InputError when they don't fit."""
    path = weights_file(spec)
    arrays = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return weights_from_arrays(arrays, name=name or spec, sha256=sha256_of_file(path))
