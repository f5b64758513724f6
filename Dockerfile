# CUDA image with the recipes. The data, the results and the Hub's files stay outside of it:
#   docker build -t sam-ft .
#   docker run --gpus all --ipc host -it -e HF_TOKEN -v "$PWD/data:/sam-ft/data" -v "$PWD/out:/sam-ft/out" \
#       -v "$HOME/.cache/huggingface:/home/ubuntu/.cache/huggingface" sam-ft
# PyTorch's wheels contain the CUDA libraries, and a GPU only needs the driver, so the image is the smallest one.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04
# gcc and the headers of Python are for `compile_vision`
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# `ubuntu` is the user of the base image with the id 1000; `docker run --user` sets that of the mounted folders.
RUN install --directory --owner ubuntu --group ubuntu /sam-ft
USER ubuntu
WORKDIR /sam-ft
COPY --chown=ubuntu:ubuntu . .
RUN PIP_NO_CACHE_DIR=1 make setup
ENV PATH="/sam-ft/.venv/bin:$PATH"
CMD ["bash"]
