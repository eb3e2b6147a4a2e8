#!/bin/sh
# Installs spot-relay from a package at a URL, on Debian, Ubuntu, Amazon Linux and their kin, and only if its SHA-256 is
# the one expected. Run as root, at an image's build or an instance's first boot; a second run changes nothing.
#
#   SPOT_RELAY_URL=https://.../spot-relay_0.1.0_amd64.deb SPOT_RELAY_SHA256=... ./install.sh
#
# A configuration that is there already stays as it is.
set -eu
: "${SPOT_RELAY_URL:?the URL of the .deb or .rpm}" "${SPOT_RELAY_SHA256:?the SHA-256 of the package}"

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
package=$directory/${SPOT_RELAY_URL##*/}
export DEBIAN_FRONTEND=noninteractive

download() {
  if command -v curl >/dev/null; then
    curl -fsSL --retry 5 --retry-connrefused --connect-timeout 10 -o "$package" "$SPOT_RELAY_URL"
  elif command -v wget >/dev/null; then
    wget -q --tries=5 -O "$package" "$SPOT_RELAY_URL"
  else
    python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' "$SPOT_RELAY_URL" "$package"
  fi
}

download
if ! echo "$SPOT_RELAY_SHA256  $package" | sha256sum -c --quiet -; then
  echo "install.sh: $SPOT_RELAY_URL is not the package that was expected; nothing is installed" >&2
  exit 1
fi

case $package in
  *.deb)
    # A fresh image may not know what its repositories hold; only dependencies would need it.
    dpkg --force-confold -i "$package" || {
      apt-get update -q
      apt-get install -yq --no-install-recommends -f -o Dpkg::Options::=--force-confold
    }
    ;;
  *.rpm)
    if command -v dnf >/dev/null; then dnf install -yq "$package"; else yum install -yq "$package"; fi
    ;;
  *)
    echo "install.sh: $SPOT_RELAY_URL is neither a .deb nor a .rpm" >&2
    exit 1
    ;;
esac
spot-relay --version
