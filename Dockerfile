# CUDA image with the recipes: docker build -t sam-ft . && docker run --gpus all -it -v "$PWD/data:/sam-ft/data" sam-ft
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04
RUN apt-get update && apt-get install --yes --no-install-recommends make python3 python3-venv git && rm -rf /var/lib/apt/lists/*
WORKDIR /sam-ft
COPY . .
RUN make setup
ENV PATH="/sam-ft/.venv/bin:$PATH"
CMD ["bash"]
