#!/usr/bin/env bash
# A run on a Cloud TPU: asks for it (queued resources), waits, sets it up, runs, copies results back, deletes it.
#
#   TPU=ecg ZONE=us-west4-a ACCELERATOR=v5litepod-8 RUNTIME=v2-alpha-tpuv5-lite SPOT=1 \
#     scripts/cloud_tpu.sh all --config=configs/sweep_paper.py --workdir=gs://BUCKET/paper ...
#
#   create        ask for the TPU and wait until it is there; one that is there or asked for already is taken
#   setup         copy the last commit of this repository to all its hosts and install it there
#   run ARGS      python -m ecgjax.main ARGS on all hosts: several are one job (JAX finds them by itself)
#   fetch ARGS    copy the directory of --workdir in ARGS back from the first host, unless it is in a bucket
#   delete        give the TPU back; none is no failure
#   all ARGS      all of these; deletes the TPU however it ends (KEEP=1: not). A TPU that is preempted is asked for
#                 again, ATTEMPTS times, where the work directory is in a bucket
#
# Each may be repeated. For the shards of a sweep take a TPU of one host for each: TPU=ecg-1 ... all ...
# --config.shard=1/4. What runs ends with the connection; the same command continues it. PROJECT: else gcloud's own.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${TPU:=ecgjax}" "${ACCELERATOR:=v5litepod-8}" "${RUNTIME:=v2-alpha-tpuv5-lite}" "${SPOT:=}" "${KEEP:=}"
: "${ATTEMPTS:=10}" "${POLL:=30}"
FOLDER=ecgjax # on the hosts, in the home directory

place() { printf '%s\n' "--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"}; }

queued() { # queued SUBCOMMAND ARGS...
  mapfile -t where < <(place)
  gcloud compute tpus queued-resources "$1" "$TPU" "${where[@]}" "${@:2}"
}

on_hosts() { # on_hosts WHICH COMMAND
  mapfile -t where < <(place)
  gcloud compute tpus tpu-vm ssh "$TPU" "${where[@]}" "--worker=$1" "--command=$2"
}

state() { queued describe '--format=value(state.state)' 2>/dev/null || true; }

create() {
  case $(state) in
    FAILED | SUSPENDED | SUSPENDING) delete ;;
  esac
  if [ -z "$(state)" ]; then
    queued create "--node-id=$TPU" "--accelerator-type=$ACCELERATOR" "--runtime-version=$RUNTIME" ${SPOT:+--spot}
  fi
  local before='' now
  while now=$(state) && [ "$now" != ACTIVE ]; do
    case $now in
      FAILED | SUSPENDED | SUSPENDING | DELETING)
        echo "error: the request for $TPU is $now; gcloud compute tpus queued-resources describe $TPU says why" >&2
        return 1
        ;;
    esac
    [ "$now" = "$before" ] || echo "$TPU: ${now:-not there yet}"
    before=$now
    sleep "$POLL"
  done
  echo "$TPU: ACTIVE"
}

setup() {
  local archive
  archive=$(mktemp -d)
  git archive --format=tar.gz --output="$archive/ecgjax.tar.gz" HEAD
  mapfile -t where < <(place)
  gcloud compute tpus tpu-vm scp "$archive/ecgjax.tar.gz" "$TPU:" "${where[@]}" --worker=all
  rm -r "$archive"
  on_hosts all "mkdir -p $FOLDER && tar -xzf ecgjax.tar.gz -C $FOLDER && bash $FOLDER/scripts/machine.sh tpu"
}

run() {
  on_hosts all "cd $FOLDER && exec .venv/bin/python -m ecgjax.main $(printf '%q ' "$@")"
}

workdir() { # --workdir of ARGS
  local argument
  for argument in "$@"; do
    case $argument in --workdir=*) echo "${argument#--workdir=}" ;; esac
  done
}

fetch() {
  local from there
  from=$(workdir "$@")
  case $from in
    '') echo "no --workdir: nothing to copy back" ;;
    *://*) echo "results are in $from" ;;
    *)
      case $from in /*) there=$from ;; *) there=$FOLDER/$from ;; esac
      mkdir -p "$(dirname "$from")"
      mapfile -t where < <(place)
      gcloud compute tpus tpu-vm scp --recurse "$TPU:$there" "$(dirname "$from")/" "${where[@]}" --worker=0
      echo "results are in $from"
      ;;
  esac
}

delete() {
  local said
  if ! said=$(queued delete --force --quiet 2>&1); then
    case $said in
      *NOT_FOUND* | *"not found"*) echo "$TPU: not there" ;;
      *)
        echo "$said" >&2
        echo "error: $TPU may still be there, and cost; delete it by hand" >&2
        return 1
        ;;
    esac
  fi
}

all() {
  local attempt code
  [ -n "$KEEP" ] || trap 'code=$?; trap - EXIT; delete; exit $code' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    create
    code=0
    if scripts/cloud_tpu.sh setup; then
      scripts/cloud_tpu.sh run "$@" || code=$?
    else
      code=1
    fi
    [ "$(state)" != ACTIVE ] || break
    echo "$TPU: preempted"
    case $(workdir "$@") in
      *://*) ;;
      *)
        echo "error: what ran is lost with it; expected --workdir=gs://BUCKET/... for a TPU that can be taken away" >&2
        return 1
        ;;
    esac
  done
  [ "$(state)" != ACTIVE ] || fetch "$@"
  return "$code"
}

case ${1:-} in
  create | setup | run | fetch | delete | all)
    if [ -z "${ZONE:-}" ]; then
      echo "error: ZONE is not set; expected a zone with such TPUs, such as ZONE=us-west4-a" >&2
      exit 2
    fi
    "$@"
    ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 2
    ;;
esac
