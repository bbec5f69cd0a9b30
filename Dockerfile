# One image a service:  docker build --build-arg SERVICE=notifier -t taskbell-notifier .
# SERVICE is scheduler, notifier or maintenance; operator has all commands of `taskbell`, devstack is the demo's.
# Any Python 3.11 to 3.14 base does, such as an internal mirror's: --build-arg BASE_IMAGE=…; all stages need the same one.
ARG BASE_IMAGE=python

FROM python:3.13-slim-trixie AS python

# Our own wheels, once for all services: this stage does not depend on SERVICE.
FROM ${BASE_IMAGE} AS wheels
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt ./
COPY libs libs
COPY services services
RUN PIP_CONSTRAINT=/src/constraints.txt python -m pip wheel --quiet --no-cache-dir --no-deps --wheel-dir /wheels \
    ./libs/common ./libs/devstack ./services/scheduler ./services/notifier ./services/maintenance

# The service's environment: third-party packages first, by hash, so that a change of ours does not fetch them again.
FROM ${BASE_IMAGE} AS environment
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

FROM ${BASE_IMAGE}
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
# Ready, not only alive: what waits for its broker or database is not healthy yet.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-m", "taskbell.healthcheck"]
# Exec form: SIGTERM reaches Python itself. `run all` runs what is installed, which here is one service.
ENTRYPOINT ["taskbell"]
CMD ["run", "all"]
