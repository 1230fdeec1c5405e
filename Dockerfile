# The suite with all of its tools, for a CPU: `docker build -t rc2l-bench . && docker run --rm rc2l-bench make test`.
FROM python:3.11-slim-bookworm

# git: the tests and DVC work in repositories; g++: a few packages have no wheel for every machine.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git g++ make \
    && rm -rf /var/lib/apt/lists/*

# Not root: the tests check what happens to files that may not be read, and root may read all.
RUN useradd --create-home bench
USER bench
# Before WORKDIR, which would make it root's.
RUN mkdir /home/bench/rc2l-bench
WORKDIR /home/bench/rc2l-bench
ENV PYTHONDONTWRITEBYTECODE=1

# What was installed is kept as long as these files are the same, whatever else is edited.
COPY --chown=bench pyproject.toml hatch_build.py constraints.txt Makefile README.md LICENSE ./
COPY --chown=bench rc2l_bench/__init__.py rc2l_bench/__init__.py
RUN make setup

COPY --chown=bench . .
# `make` compares times, and a copy brings those of the host with it.
RUN touch .venv/.ready .venv/.tools
ENV PATH="/home/bench/rc2l-bench/.venv/bin:$PATH"
CMD ["rc2l-bench", "doctor"]
