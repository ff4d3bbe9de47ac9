# docker build --file docker/cpu.Dockerfile --tag roicli .
# docker run --rm --volume "$PWD:/data" roicli align feats.h5 rois.npy
FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/roicli && /opt/roicli/bin/python -m pip install --no-cache-dir '.[native,figures,report,parquet,voc,zarr]'

FROM python:3.13-slim
COPY --from=build /opt/roicli /opt/roicli
RUN useradd --create-home --uid 1000 roicli && mkdir /data && chown roicli /data
USER 1000
ENV PATH=/opt/roicli/bin:$PATH
WORKDIR /home/roicli
# The compiled kernels, kept where this user finds them: a first run need not wait for them.
RUN roicli sample && roicli align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --provider native --output a.npy --quiet \
    && roicli pool sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --provider native --output p.npy --quiet \
    && rm -r a.npy p.npy sample_data
WORKDIR /data
ENTRYPOINT ["roicli"]
CMD ["--help"]
