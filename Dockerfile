# The service for an exported model of images: ONNX Runtime, no PyTorch.
#   docker build -t tutelage-serve .
#   docker run --rm -p 127.0.0.1:8080:8080 -e TUTELAGE_TOKEN -v "$PWD/model:/opt/ml/model:ro" tutelage-serve
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY requirements.lock /tmp/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/requirements.lock \
        alembic fastapi numpy onnxruntime pillow prometheus-client "psycopg[binary]" python-multipart sqlalchemy uvicorn \
    && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && rm -r /wheels /tmp/requirements.lock \
    && useradd --uid 10001 --no-create-home tutelage \
    && install --directory --owner=tutelage /data
USER 10001
WORKDIR /data
ENV TUTELAGE_HOST=0.0.0.0 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('TUTELAGE_PORT', '8080') + '/ping', timeout=3)"]
ENTRYPOINT ["python", "-m", "tutelage.production.serving"]
