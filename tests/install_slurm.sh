#!/bin/sh
# Slurm and munge for tests/launch/slurm/test_cluster.py, from Debian's or Ubuntu's packages, where root may install them.
# What is missing is said here; the tests then skip themselves.
set -u
if command -v slurmctld > /dev/null && command -v slurmd > /dev/null && command -v munged > /dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "install_slurm: not root, or no apt-get; the tests on a real Slurm will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# The packages would start daemons of their own; 101 is policy-rc.d's word for "not here".
policy=/usr/sbin/policy-rc.d
made=no
if [ ! -e "$policy" ]; then
  made=yes
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
fi
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends slurm-wlm munge > /dev/null; }; then
  echo "install_slurm: apt-get could not install slurm-wlm and munge; the tests on a real Slurm will be skipped" >&2
fi
if [ "$made" = yes ]; then rm -f "$policy"; fi
exit 0
