# One image for every Tidemark process: worker, watcher, API and migrations. The command decides which.

FROM python:3.11.14-slim-bookworm AS dependencies

RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8

WORKDIR /tidemark
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-cache


FROM python:3.11.14-slim-bookworm

RUN useradd --uid 10001 --no-create-home --home-dir /tidemark --shell /usr/sbin/nologin tidemark

WORKDIR /tidemark
ENV PATH=/tidemark/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /tidemark/.venv .venv
COPY topup topup
COPY activities activities
COPY workflows workflows
COPY adapters adapters
COPY runtime runtime
COPY starter starter
COPY console console
COPY api api
COPY worker.py LICENSE ./

USER 10001:10001
CMD ["python", "-m", "worker"]
