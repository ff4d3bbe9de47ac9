# docker build --file docker/cuda.Dockerfile --tag roicli:cuda .
# docker run --rm --gpus all --volume "$PWD:/data" roicli:cuda align feats.h5 rois.npy --provider cuda
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
# One ONNX Runtime: the CPU's package and CUDA's are the same module.
RUN python -m venv /opt/roicli && /opt/roicli/bin/python -m pip install --no-cache-dir '.[cuda,figures,report,parquet,voc,zarr]' \
    && /opt/roicli/bin/python -m pip uninstall --yes onnxruntime \
    && /opt/roicli/bin/python -m pip install --no-cache-dir 'onnxruntime-gpu>=1.31.1'

FROM python:3.12-slim
COPY --from=build /opt/roicli /opt/roicli
RUN useradd --create-home --uid 1000 roicli && mkdir /data && chown roicli /data
USER 1000
ENV PATH=/opt/roicli/bin:$PATH
WORKDIR /data
ENTRYPOINT ["roicli"]
CMD ["--help"]
