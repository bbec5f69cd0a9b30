# Makes an image for each service:  docker build --build-arg SERVICE=notifier -t taskbell-notifier .
# SERVICE is scheduler, notifier or maintenance; or operator, with all commands of `taskbell`; or devstack, for the demo.
# Any base with Python 3.11 to 3.14 works, such as one of an internal mirror: --build-arg BASE_IMAGE=…, the same for all
# stages. With --build-arg PYTHON_DIGEST=sha256:… the base is that very image, whatever its tag means by then.
ARG BASE_IMAGE=python
ARG PYTHON_DIGEST=""
ARG BASE=${BASE_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}

FROM python:3.13-slim-trixie AS python

# Makes our own wheels once for all services: this stage does not depend on SERVICE. The tools that build them come by
# hash too, and nothing else is fetched.
FROM ${BASE} AS wheels
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.txt ./
RUN python -m venv --without-pip /opt/build \
    && python -m pip --python /opt/build/bin/python install --quiet --no-cache-dir --require-hashes \
       --only-binary :all: -r build.txt
COPY libs libs
COPY services services
RUN for package in libs/common libs/devstack services/scheduler services/notifier services/maintenance; do \
      (cd $package && /opt/build/bin/python -m hatchling build --target wheel --directory /wheels) || exit 1; \
    done

# Makes the service's environment. Third-party packages come first, by hash, so that a change in our code does not fetch
# them again.
FROM ${BASE} AS environment
ARG SERVICE
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/taskbell
COPY requirements/${SERVICE}.txt /requirements.txt
RUN python -m pip --python /opt/taskbell/bin/python install --quiet --no-cache-dir --require-hashes \
    --only-binary :all: -r /requirements.txt
COPY --from=wheels /wheels /wheels
RUN case ${SERVICE} in \
      operator) ours="/wheels/taskbell_scheduler-*.whl /wheels/taskbell_notifier-*.whl /wheels/taskbell_maintenance-*.whl" ;; \
      *) ours=/wheels/taskbell_${SERVICE}-*.whl ;; \
    esac \
    && python -m pip --python /opt/taskbell/bin/python install --quiet --no-cache-dir --no-deps \
       /wheels/taskbell-*.whl ${ours} \
    && /opt/taskbell/bin/taskbell version

FROM ${BASE}
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="taskbell-${SERVICE}" \
      org.opencontainers.image.description="Taskbell's ${SERVICE}: background work for task-management apps" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/taskbell/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8080
COPY --from=environment /opt/taskbell /opt/taskbell
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080
# Checks readiness, not only liveness: a service that waits for its broker or database is not healthy yet.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-m", "taskbell.healthcheck"]
# Exec form, so that SIGTERM reaches Python itself. `run all` runs all installed services, which here is one.
ENTRYPOINT ["taskbell"]
CMD ["run", "all"]
