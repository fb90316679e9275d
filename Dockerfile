# The first stage builds and installs; the second holds only what runs, as a user who owns nothing but /data.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/bridge \
 && /opt/bridge/bin/pip install --no-cache-dir "$(ls /wheels/*.whl)[mp3,s3]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /data bridge
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Inside a container loopback reaches nobody.
ENV BRIDGE_HOST=0.0.0.0
USER bridge
# A bridge.toml put here is read.
WORKDIR /data
VOLUME /data
EXPOSE 8080
# SIGTERM drains: the bridge takes no new calls and waits DRAIN_TIMEOUT_S for those it has.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:%s/healthz' % (os.environ.get('BRIDGE_PORT') or 8080), timeout=3)"]
CMD ["bridge", "serve"]
