# The rest of a Slurm job of `ellav launch slurm`, behind its options and settings (launch/slurm/script.py): run the tasks,
# and decide what becomes of the job when they have ended.
set -uo pipefail

told="" signalled=no

say() { printf 'slurm: %s\n' "$*"; }

# Goes to the tasks alone: srun takes a SIGTERM of its own for the end of the step.
# shellcheck disable=SC2329 # called by the traps
stop_tasks() { # stop_tasks WHY
  told=$1 signalled=yes
  scancel --signal=TERM "$JOB"
}
# Slurm sends USR1 ahead of the time limit; USR2 is sent by who wants the run to end with a checkpoint.
trap 'say "the time limit is near"; stop_tasks limit' USR1
trap 'say "asked to stop"; stop_tasks stop' USR2
# Comes when the job is taken away, to the tasks as well: their srun is not to be left alone, nor its output.
trap 'signalled=yes' TERM

await() { # await COMMAND …: its exit status, whatever signals come meanwhile
  local pid status
  "$@" &
  pid=$!
  while true; do
    signalled=no
    wait "$pid"
    status=$?
    if [[ $signalled == no ]]; then return "$status"; fi
  done
}

requeue() { # requeue WHY: back into the queue, if the job may
  local state
  if [[ $REQUEUE == no ]]; then return 1; fi
  # What is being cancelled or preempted is RUNNING no longer, and what becomes of it is decided already.
  state=$(squeue --noheader --format=%T --jobs="$JOB")
  if [[ $state != RUNNING ]]; then return 1; fi
  say "$1: back into the queue, to go on where it was"
  scontrol requeue "$JOB"
}

log="$OUT/slurm-$JOB.log"
before=$(stat --format=%s "$log")
refused() { # whether a task has refused its input; srun's own status is that of the task that fared worst
  ((status == 2)) || tail --bytes="+$((before + 1))" "$log" | grep -E '^srun: error: .*: Exited with exit code 2$' > /dev/null
}

status=0
if ((${#COPY[@]})); then
  await "${COPY[@]}"
  status=$?
fi
if [[ -n $told ]]; then
  status=143
elif ((status == 0)); then
  await "${RUN[@]}"
  status=$?
fi
if ((${#CLEAR[@]})); then "${CLEAR[@]}"; fi

if refused; then
  say "the run ended over bad input, which another start does not mend"
  exit 2
fi
case "$status" in
  0) say "finished" ;;
  130 | 143)
    # Without a word to this shell it was a preemption with time to save.
    if [[ $told != stop ]] && requeue "stopped"; then exit 0; fi
    ;;
  *)
    if ((${SLURM_RESTART_COUNT:-0} < RESTARTS)) && requeue "failed with status $status"; then exit 0; fi
    say "failed with status $status"
    ;;
esac
exit "$status"
