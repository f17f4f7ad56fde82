#!/bin/sh
# Programs that quick and slow tests speak with and look with, from Debian's or Ubuntu's packages, where root may install
# them: flite (tests/data_pipelines/corpora/test_flite.py), chromium (the report and the demo's page in a real browser).
# What is missing is said here; the tests then skip themselves.
set -u
missing=
for program in flite chromium; do
  command -v "$program" > /dev/null || missing="$missing $program"
done
if [ -z "$missing" ]; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "install_programs: not root, or no apt-get; tests that need$missing will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
for program in $missing; do
  if ! apt-get -qq install --yes --no-install-recommends "$program" > /dev/null; then
    echo "install_programs: apt-get could not install $program; the tests that need it will be skipped" >&2
  fi
done
exit 0
