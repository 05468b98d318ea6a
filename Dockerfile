FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# The requirements change seldom, the code often: each in a layer of its own.
COPY requirements-build.txt requirements-runtime.txt ./
RUN pip install --require-hashes --requirement requirements-build.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --require-hashes --only-binary :all: --requirement requirements-runtime.txt

COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /venv/bin/pip uninstall --yes pip setuptools


FROM python:3.11-slim
RUN groupadd --system --gid 10001 tallyman \
    && useradd --system --uid 10001 --gid tallyman --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tallyman \
    # A volume that is mounted here is theirs, as this folder is.
    && install --directory --mode=0700 --owner=tallyman --group=tallyman /var/lib/tallyman
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Nothing under / needs to be written: /tmp may be a tmpfs and the rest read-only.
WORKDIR /tmp
ENTRYPOINT ["tallyman"]
CMD ["worker"]
