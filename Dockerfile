# Two images: "scoring" runs the daemon and has no torch; "training" fits all families.
#
#   docker build --target scoring  -t detector .
#   docker build --target training -t detector-training .

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY detector detector
COPY examples/servers examples/servers
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS build-scoring
RUN python -m venv /opt/detector
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels
RUN /opt/detector/bin/pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheels/*.whl)[confluent]"

FROM build-scoring AS build-training
# Empty: torch as PyPI has it, with CUDA. The README says where a CPU build is.
ARG TORCH_INDEX=""
RUN /opt/detector/bin/pip install --no-cache-dir -c /tmp/constraints.txt \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && /opt/detector/bin/pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /wheels/*.whl)[train]"

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/detector/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1 \
    DETECTOR__WEB__LISTEN_ADDRESS=0.0.0.0:9877
# Numeric, so that Kubernetes can see that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM
EXPOSE 9877
ENTRYPOINT ["detector"]

FROM base AS training
COPY --from=build-training /opt/detector /opt/detector
CMD ["train", "--help"]

FROM base AS scoring
COPY --from=build-scoring /opt/detector /opt/detector
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9877/-/healthy', timeout=4)"]
CMD ["run", "/etc/detector/config.yaml"]
