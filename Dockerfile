# The first stage installs and slims; the second holds only what runs, as a user who owns nothing but /data.
ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Pinned, and a layer of their own: a changed line of the bridge does not fetch them again.
COPY deploy/image deploy/image
RUN python -m venv --without-pip /opt/bridge \
 && pip --python /opt/bridge/bin/python install --no-compile --no-deps -r deploy/image/requirements.txt \
 && python deploy/image/slim.py /opt/bridge/lib/python3*/site-packages
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
# The last line imports all of the bridge, so that nothing it needs is missing, and compiles what makes it start slowly.
RUN pip wheel --no-deps --wheel-dir /wheels . \
 && pip --python /opt/bridge/bin/python install --no-compile --no-deps /wheels/*.whl \
 && /opt/bridge/bin/python -B deploy/image/import_all.py

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 bridge \
 && useradd --system --uid 10001 --gid bridge --no-create-home --home-dir /data bridge \
 && install -d -m 0700 -o bridge -g bridge /data
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Inside a container loopback reaches nobody.
ENV BRIDGE_HOST=0.0.0.0 SIP_HOST=0.0.0.0
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
# A bridge.toml put here is read.
WORKDIR /data
VOLUME /data
EXPOSE 8080/tcp 5060/udp 5060/tcp 5061/tcp
# SIGTERM drains: the bridge takes no new calls and waits DRAIN_TIMEOUT_S for those it has.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s CMD ["python", "-m", "bridge.server.healthcheck"]
CMD ["bridge", "serve"]
