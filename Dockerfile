# One image for one kind of hardware: docker build --build-arg ACCELERATOR=cpu|cuda12|cuda13|tpu --tag REGISTRY/ellav:TAG .
# The CUDA libraries come as wheels, so that the machine needs the driver only.
FROM python:3.11-slim-bookworm

ARG ACCELERATOR=cpu
ENV PATH=/opt/ellav/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/ellav-source
COPY requirements.lock ./
RUN case "$ACCELERATOR" in \
      cpu) jax="jax" ;; \
      cuda12 | cuda13 | tpu) jax="jax[$ACCELERATOR]" ;; \
      *) echo "ACCELERATOR=$ACCELERATOR: expected cpu, cuda12, cuda13 or tpu" >&2; exit 2 ;; \
    esac \
    && python -m venv /opt/ellav \
    && /opt/ellav/bin/pip install --no-cache-dir --requirement requirements.lock --constraint requirements.lock "$jax"

COPY setup.py pyproject.toml README.md LICENSE NOTICE ./
COPY ellav_jax ellav_jax
COPY data_pipelines data_pipelines
COPY configs configs
COPY launch launch
RUN /opt/ellav/bin/pip install --no-cache-dir --no-deps . && ellav --version

WORKDIR /work
CMD ["ellav", "--help"]
