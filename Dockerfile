# The image of every worker: Beam's SDK image with bisift and its weights in it. docs/deployment.md says how it is used.
# It was written without a container engine at hand, so it has not been built: hadolint and tests/unit/test_image.py
# check it.
#
#   docker build -t REGISTRY/bisift:0.1.0 .                                  for Flink and Kubernetes, not run as root
#   docker build --target dataflow -t REGISTRY/bisift-dataflow:0.1.0 .       for Dataflow, the Flex Template of score included
#   docker build --target dataflow --build-arg JOB=rank -t REGISTRY/bisift-dataflow-rank:0.1.0 .       the same for rank

# The Beam of constraints.txt and the Python that submits the jobs: they must be the same on both sides.
ARG BASE=apache/beam_python3.11_sdk:2.77.0
ARG LAUNCHER=gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00

FROM ${LAUNCHER} AS launcher

FROM ${BASE} AS wheel
WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY bisift/ bisift/
COPY filter/ filter/
COPY models/ models/
COPY pipelines/ pipelines/
COPY trainer/ trainer/
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# Beam is in the base already: only what bisift adds is installed, in the versions that were tested. The last command
# loads rules, language id and both models, so that an image without its weights does not come to be.
FROM ${BASE} AS package
WORKDIR /opt/bisift
COPY constraints.txt ./
COPY --from=wheel /wheels/ ./
RUN pip install --no-cache-dir --constraint constraints.txt ./*.whl \
    && pip check \
    && filter-cli explain --source "Mind the gap." --target "Attenti al vuoto." --source-lang en --target-lang it
ENV OMP_NUM_THREADS=1

# Dataflow mounts folders of root's into workers, and the launcher writes to /var/log: both run as root, as in Beam's
# own image. The service starts launchers with the launcher and workers with the entry point.
FROM package AS dataflow
ARG JOB=score
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY deploy/dataflow/${JOB}.py /template/
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/${JOB}.py
ENTRYPOINT ["/opt/apache/beam/boot"]

# boot makes a virtual environment for each worker process below /opt/apache/beam-venv.
FROM package AS worker
RUN useradd --create-home --uid 1000 bisift \
    && install --directory --owner=bisift --group=bisift /opt/apache/beam-venv
USER 1000
WORKDIR /home/bisift
ENTRYPOINT ["/opt/apache/beam/boot"]
