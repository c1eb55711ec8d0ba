# One image for all roles; docker-compose.yml says which role a container is.

FROM python:3.13-slim AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv
# Only this file decides about the layer: a change of code leaves it in the cache.
COPY requirements.txt .
RUN pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements.txt

FROM python:3.13-slim AS code
WORKDIR /srv/aftercommit
COPY alembic.ini ./
COPY alembic alembic
COPY aftercommit aftercommit
COPY app app
# The root file system may be read-only: nothing compiles later.
RUN python -m compileall -q -j 0 .

FROM python:3.13-slim
RUN useradd --uid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin aftercommit
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /srv/aftercommit /srv/aftercommit
# Handlers are mounted or copied to /handlers; WORKER_MODULES names their modules. They come first, so that a package
# `app` among them is theirs: `aftercommit worker` does without ours.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/handlers:/srv/aftercommit \
    ALEMBIC_CONFIG=/srv/aftercommit/alembic.ini \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    API_HOST=0.0.0.0 \
    HEALTH_FILE=/tmp/health
WORKDIR /handlers
# By number, so that Kubernetes' runAsNonRoot can tell.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "aftercommit.runtime.liveness"]
CMD ["python", "-m", "aftercommit", "api"]
