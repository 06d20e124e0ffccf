# syntax=docker/dockerfile:1
# The command line of fastdc. With a GPU the host needs NVIDIA's container toolkit.
#
#   docker build --tag fastdc .
#   docker run --rm --shm-size=1g --volume "$PWD:/work" --user "$(id -u):$(id -g)" fastdc demo
#
#   docker build --tag fastdc:cuda --build-arg DEVICE=cuda .
#   docker run --rm --shm-size=1g --volume "$PWD:/work" --user "$(id -u):$(id -g)" --gpus all fastdc:cuda doctor
#
# `--build-arg EXTRAS=ffcv,report,hf` chooses the extras.
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS cpu
# PyTorch's own index has builds without CUDA, which are gigabytes smaller. Their versions (+cpu) precede those of PyPI.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

# PyPI's torch brings the CUDA libraries, so the base needs no more than the driver's interface.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# hadolint ignore=DL3006
FROM ${DEVICE}
ARG EXTRAS=report
ENV PATH=/opt/fastdc/bin:$PATH PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/fastdc
WORKDIR /src
COPY constraints.txt ./
# torch has its own layer, which is kept when the sources change.
RUN pip install --constraint constraints.txt torch torchvision
# hadolint ignore=DL3008
RUN case ",${EXTRAS}," in *,ffcv,*) \
        apt-get update \
        && apt-get install --yes --no-install-recommends g++ pkg-config libturbojpeg0-dev libopencv-dev \
        && rm -rf /var/lib/apt/lists/* ;; \
    esac
COPY pyproject.toml README.md LICENSE ./
COPY fastdc fastdc
RUN pip install --constraint constraints.txt ".[${EXTRAS}]"

# Any user may run it, so caches are in a folder that all can write.
ENV HOME=/tmp NUMBA_CACHE_DIR=/tmp/fastdc-kernels
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["fastdc"]
CMD ["--help"]
