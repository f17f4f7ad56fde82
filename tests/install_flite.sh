#!/bin/sh
# Flite for tests/data_pipelines/corpora/test_flite.py, from Debian's or Ubuntu's packages, where root may install them.
# What is missing is said here; the tests then skip themselves.
set -u
if command -v flite > /dev/null; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  echo "install_flite: not root, or no apt-get; the tests of flite:N will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends flite > /dev/null; }; then
  echo "install_flite: apt-get could not install flite; the tests of flite:N will be skipped" >&2
fi
exit 0
