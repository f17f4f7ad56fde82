#!/usr/bin/env bash
# A run on Cloud TPU VMs, from the machine that started it: everything goes through gcloud. `ellav launch tpu-vm` copies this
# file beside the job's settings.sh and tpu_vm_worker.sh; its page is docs/launching.md.
# shellcheck disable=SC2153 # the names in capitals are those of settings.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=/dev/null
source ./settings.sh
POLL_SECONDS=${POLL_SECONDS:-30}
LOST="PREEMPTED|TERMINATED|STOPPED|GONE"
USAGE="usage: bash tpu_vm_job.sh up|keep|create|setup|start|status|follow|stop|delete
  up      create, set up, start
  keep    up, then watch: after a preemption or a failure the run goes on; ends when the run does
  create  the slices, or those that are there        setup   code, packages and mounts on all workers
  start   the run on all workers                     status  of each worker
  follow  the first worker's log                     stop    the run, which saves a checkpoint
  delete  the slices"

say() { printf 'tpu-vm: %s\n' "$*" >&2; }

tpu() { gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE" --quiet; }

nodes() {
  if ((SLICES == 1)); then echo "$NAME"; else seq -f "$NAME-%.0f" 0 $((SLICES - 1)); fi
}

# Of the queued resource; empty where there is none. Fails where gcloud does: then nothing is known.
queue_state() {
  tpu queued-resources list --format='value(name.basename(),state.state)' | awk -v name="$NAME" '$1 == name { print $2 }'
}

# A line for each node: its state, or GONE.
node_states() {
  local listed
  listed=$(tpu tpu-vm list --format='value(name.basename(),state)') || return
  nodes | awk 'NR == FNR { state[$1] = $2; next } { print ($1 in state) ? state[$1] : "GONE" }' \
    <(printf '%s\n' "$listed") -
}

count() { grep -cxE "$1" <<< "$2" || true; } # count STATES TEXT: lines that are one of STATES (A|B)

on_workers() { # on_workers WORKER COMMAND: on the worker (or all) of every node
  local node
  while read -r node; do
    tpu tpu-vm ssh "$node" --worker="$1" --command="$2" < /dev/null || return
  done < <(nodes)
}

create() {
  local state states
  state=$(queue_state)
  states=$(node_states)
  if (($(count READY "$states") == SLICES)); then
    say "$NAME is there: it is used again"
    return
  fi
  if [[ $state == ACTIVE ]] && (($(count "$LOST" "$states"))); then state=LOST; fi
  case "$state" in
    LOST | SUSPENDING | SUSPENDED | FAILED)
      say "$NAME is $state: it is made anew"
      delete
      request
      ;;
    "") request ;;
    *) say "$NAME is asked for already" ;;
  esac
  while true; do
    state=$(queue_state)
    case "$state" in
      ACTIVE)
        states=$(node_states)
        if (($(count READY "$states") == SLICES)); then return; fi
        ;;
      SUSPENDING | SUSPENDED | FAILED | "")
        say "$NAME was not given: ${state:-gone}; see gcloud compute tpus queued-resources describe $NAME --zone=$ZONE"
        return 1
        ;;
    esac
    say "$NAME: $state, waiting"
    sleep "$POLL_SECONDS"
  done
}

request() {
  local options=(--accelerator-type="$ACCELERATOR_TYPE" --runtime-version="$RUNTIME_VERSION" --scopes=cloud-platform)
  if ((SLICES == 1)); then
    options+=(--node-id="$NAME")
  else
    options+=(--node-count="$SLICES" --node-prefix="$NAME")
  fi
  if [[ $SPOT == yes ]]; then options+=(--spot); fi
  if [[ -n $SERVICE_ACCOUNT ]]; then options+=(--service-account="$SERVICE_ACCOUNT"); fi
  if [[ -n $NETWORK ]]; then options+=(--network="$NETWORK"); fi
  tpu queued-resources create "$NAME" "${options[@]}"
}

delete() { tpu queued-resources delete "$NAME" --force; }

setup() {
  local node
  on_workers all "mkdir -p '$DIRECTORY'"
  while read -r node; do
    tpu tpu-vm scp "${FILES[@]}" "$node:$DIRECTORY/" --worker=all < /dev/null
  done < <(nodes)
  send_secrets
  on_workers all "bash '$DIRECTORY/tpu_vm_worker.sh' setup"
}

# Values go from this environment into a file that only its owner can read, on each worker, and stay in none here.
send_secrets() {
  local folder name node
  if ((${#SECRETS[@]} == 0)); then return; fi
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now is meant
  trap "rm -rf '$folder'" EXIT
  for name in "${SECRETS[@]}"; do
    if [[ -z ${!name:-} ]]; then
      say "the environment has no $name; export it, and give the command again"
      return 2
    fi
    (umask 077 && printf '%s=%q\n' "$name" "${!name}" >> "$folder/secrets.sh")
  done
  while read -r node; do
    tpu tpu-vm scp "$folder/secrets.sh" "$node:$DIRECTORY/" --worker=all < /dev/null
  done < <(nodes)
  rm -rf "$folder"
  trap - EXIT
}

start() { on_workers all "bash '$DIRECTORY/tpu_vm_worker.sh' start"; }

status() { on_workers all "bash '$DIRECTORY/tpu_vm_worker.sh' status"; }

stop() { on_workers all "bash '$DIRECTORY/tpu_vm_worker.sh' stop"; }

follow() {
  tpu tpu-vm ssh "$(nodes | head -n 1)" --worker=0 --command="sudo journalctl --follow --lines=200 --unit='$UNIT'"
}

up() {
  create
  setup
  start
}

# `set -e` is off in a function that stands in a condition, so each attempt is a process of its own.
attempt() { bash ./tpu_vm_job.sh "$1"; }

keep() {
  local nodes states restarts=0
  until attempt up; do
    restarts=$((restarts + 1))
    if ((restarts > RESTARTS)); then
      say "no start in $restarts attempts"
      return 1
    fi
    sleep "$POLL_SECONDS"
  done
  while true; do
    sleep "$POLL_SECONDS"
    if ! nodes=$(node_states); then
      say "gcloud does not answer; asking again"
      continue
    fi
    if (($(count READY "$nodes") < SLICES)); then
      say "nodes are $(sort <<< "$nodes" | uniq -c | xargs): the run goes on when all are ready"
      attempt up || true
      continue
    fi
    # A worker that does not answer may be one that is being taken away.
    if ! states=$(status) || ! states=$(sed -n 's/^state: //p' <<< "$states") || [[ -z $states ]]; then
      say "a worker does not answer; asking again"
      continue
    fi
    if (($(count "failed 2" "$states"))); then
      say "the run ended over bad input, which a restart does not mend; bash tpu_vm_job.sh follow shows it"
      return 2
    fi
    if (($(count finished "$states") == $(count ".*" "$states"))); then
      say "finished"
      return
    fi
    if (($(count "running|finished" "$states") == $(count ".*" "$states"))); then continue; fi
    say "workers: $(sort <<< "$states" | uniq -c | xargs)"
    restarts=$((restarts + 1))
    if ((restarts > RESTARTS)); then
      say "given up after $RESTARTS restarts"
      return 1
    fi
    # Those that still run wait for the others in vain.
    attempt stop || true
    attempt up || true
  done
}

case "${1:-}" in
  up | keep | create | setup | start | status | follow | stop | delete) "$1" ;;
  *)
    echo "$USAGE" >&2
    exit 2
    ;;
esac
