#!/usr/bin/env bash
# On each worker of a Cloud TPU VM: packages and mounts, and the run as a systemd unit, which outlives the connection, keeps
# its log, and is told to stop when the machine is taken away. Called by tpu_vm_job.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=/dev/null
source ./settings.sh

setup() {
  mount_all
  if [[ -e venv/ready-$REVISION ]]; then return; fi
  # The machines' own Python is older than 3.11.
  python3 -m pip install --quiet --user uv
  rm -rf source
  mkdir source
  tar -xzf source.tar.gz -C source
  "$HOME/.local/bin/uv" venv --quiet --clear --python 3.11 venv
  "$HOME/.local/bin/uv" pip install --quiet --python venv --requirement source/requirements.lock \
    --constraint source/requirements.lock "jax[tpu]"
  "$HOME/.local/bin/uv" pip install --quiet --python venv --no-deps ./source
  touch "venv/ready-$REVISION"
}

mount_all() {
  local mount kind source directory access
  for mount in "${MOUNTS[@]}"; do
    IFS='|' read -r kind source directory access <<< "$mount"
    if mountpoint -q "$directory"; then continue; fi
    sudo mkdir -p "$directory"
    sudo chown "$(id -u):$(id -g)" "$directory"
    case "$kind" in
      gs) mount_bucket "$source" "$directory" "$access" ;;
      nfs) mount_nfs "$source" "$directory" "$access" ;;
    esac
  done
}

mount_bucket() { # mount_bucket BUCKET DIRECTORY rw|ro
  command -v gcsfuse > /dev/null || install_gcsfuse
  if [[ $3 == rw ]]; then
    # What one host writes the others must see at once; a checkpoint is renamed when it is whole.
    gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \
      --rename-dir-limit=200000 "$1" "$2"
  else
    mkdir -p "$PWD/cache"
    gcsfuse -o ro --implicit-dirs --metadata-cache-ttl-secs=-1 --cache-dir="$PWD/cache" --file-cache-max-size-mb=-1 \
      --file-cache-cache-file-for-range-read "$1" "$2"
  fi
}

install_gcsfuse() {
  local list
  list="deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt"
  list+=" gcsfuse-$(lsb_release -cs) main"
  curl --fail --silent --show-error https://packages.cloud.google.com/apt/doc/apt-key.gpg \
    | sudo tee /usr/share/keyrings/cloud.google.asc > /dev/null
  echo "$list" | sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
  packages gcsfuse
}

mount_nfs() { # mount_nfs SERVER:/EXPORT DIRECTORY rw|ro
  command -v mount.nfs > /dev/null || packages nfs-common
  sudo mount -t nfs -o "hard,$3" "$1" "$2"
}

packages() {
  sudo apt-get -qq update
  sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install "$@"
}

start() {
  if [[ $(status) == "state: running" ]]; then
    echo "it runs already"
    return
  fi
  clear_unit
  # Not within the unit, which would take the mounts away when it is told to stop.
  mount_all
  # The unit stays behind the run's end, with its exit status.
  sudo systemd-run --quiet --unit="$UNIT" --uid="$(id -u)" --gid="$(id -g)" --property=RemainAfterExit=yes \
    --property=TimeoutStopSec="$GRACE_SECONDS" --property=WorkingDirectory="$PWD" /bin/bash tpu_vm_worker.sh run
}

run() {
  if ((${#ENVIRONMENT[@]})); then export "${ENVIRONMENT[@]}"; fi
  if [[ -e secrets.sh ]]; then
    set -a
    # shellcheck source=/dev/null
    source ./secrets.sh
    set +a
  fi
  exec "${TRAIN[@]}"
}

status() { # state: running, finished, failed STATUS, or absent
  local SubState="" ExecMainStatus="" line
  while read -r line; do
    case "$line" in
      SubState=* | ExecMainStatus=*) declare "$line" ;;
    esac
  done < <(systemctl show "$UNIT" --property=SubState --property=ExecMainStatus)
  case "$SubState" in
    exited) echo "state: finished" ;;
    failed) echo "state: failed $ExecMainStatus" ;;
    dead) echo "state: absent" ;;
    *) echo "state: running" ;;
  esac
}

stop() { clear_unit; }

clear_unit() {
  sudo systemctl stop "$UNIT" 2> /dev/null || true
  sudo systemctl reset-failed "$UNIT" 2> /dev/null || true
}

"$@"
