# The Python that requirements.lock is written for and the tests run on.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml requirements.lock ./
# uv comes from the lock too, so that even the installer is checked against its hash.
RUN sed -n '/^uv==/,/# via/p' requirements.lock > uv.txt \
    && python -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --require-hashes -r uv.txt
# pyproject.toml says what running needs, the lock says which versions and hashes: nothing for development gets in.
RUN python -m venv --without-pip /app \
    && /tools/bin/uv pip install --no-cache --python /app/bin/python --compile-bytecode \
        --require-hashes --constraints requirements.lock -r pyproject.toml
# The code comes last: a changed line of it does not install the libraries again.
COPY README.md LICENSE ./
COPY api api
COPY domain domain
COPY infra infra
COPY migrations migrations
COPY projections projections
RUN /tools/bin/uv build --no-cache --wheel --require-hashes --build-constraints requirements.lock --out-dir dist . \
    && /tools/bin/uv pip install --no-cache --python /app/bin/python --compile-bytecode --no-deps dist/*.whl

FROM python:3.11-slim
# A fixed number, so that the owner of mounted secrets can be set to it.
RUN useradd --uid 10001 --create-home --home-dir /var/lib/ledger ledger \
    && install --directory --owner ledger /var/lib/ledger/.ledger /var/lib/ledger/.ledger/media
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1
USER ledger
# Uploaded images are kept under .ledger/media here, and so is the service's own database when none is configured.
WORKDIR /var/lib/ledger
EXPOSE 8000
# The image has no curl; Python is there anyway. An answer of 400 or above raises, and so fails the check.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["ledger", "serve", "--host", "0.0.0.0"]
