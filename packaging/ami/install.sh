#!/bin/sh
# Installs spot-relay from a package at a URL, on Debian, Ubuntu, Amazon Linux and similar systems, if its SHA-256 is
# the expected one. Run it as root, at an image's build or an instance's first boot; a second run changes nothing.
#
#   SPOT_RELAY_URL=https://.../spot-relay_0.1.0_amd64.deb SPOT_RELAY_SHA256=... ./install.sh
#
# The URL may be a presigned one. An existing configuration stays. If another process installs something, as at many
# machines' first boot, this one waits for ten minutes at most (SPOT_RELAY_PATIENCE, in seconds). A failure goes to
# standard error, to the log and to the machine's console.
set -eu
: "${SPOT_RELAY_URL:?the URL of the .deb or .rpm}" "${SPOT_RELAY_SHA256:?the SHA-256 of the package}"
patience=${SPOT_RELAY_PATIENCE:-600}
# The query of a presigned URL is a secret.
shown=${SPOT_RELAY_URL%%\?*}

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
said=$directory/said
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

fail() {
  message="install.sh: $*; spot-relay is NOT installed"
  echo "$message" >&2
  if command -v logger >/dev/null; then logger -t spot-relay-install -p daemon.crit "$message" || true; fi
  { [ -w /dev/console ] && echo "$message" > /dev/console; } 2>/dev/null || true
  exit 1
}

download() {
  if command -v curl >/dev/null; then
    curl -fsSL --retry 5 --retry-connrefused --connect-timeout 10 -o "$1" "$SPOT_RELAY_URL"
  elif command -v wget >/dev/null; then
    wget -q --tries=5 -O "$1" "$SPOT_RELAY_URL"
  else
    python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' "$SPOT_RELAY_URL" "$1"
  fi
}

# Repeats a command while another process holds a lock of the package manager.
patiently() {
  until "$@" > "$said" 2>&1; do
    if ! grep -qiE 'lock' "$said"; then
      cat "$said" >&2
      return 1
    fi
    [ "$patience" -gt 0 ] || { cat "$said" >&2; fail "another process held the package manager's lock to the end"; }
    patience=$((patience - 2))
    sleep 2
  done
}

install_deb() {
  package=$directory/package.deb
  mv "$directory/package" "$package"
  name=$(dpkg-deb --field "$package" Package) wanted=$(dpkg-deb --field "$package" Version)
  # It is one command, so that no other process comes in between. A requested downgrade is allowed, too.
  set -- apt-get install -yq --no-install-recommends --allow-downgrades -o Dpkg::Options::=--force-confold "$package"
  if ! patiently "$@"; then
    # A fresh image may have no package lists; only dependencies need them.
    patiently apt-get update -q || fail "apt-get update failed"
    patiently "$@" || fail "apt-get could not install $shown"
  fi
  # shellcheck disable=SC2016
  found=$(dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$name" 2>/dev/null) || found=nothing
  [ "$found" = "installed $wanted" ] || fail "dpkg has $found of $name instead of $wanted"
}

install_rpm() {
  package=$directory/package.rpm
  mv "$directory/package" "$package"
  if command -v dnf >/dev/null; then manager=dnf; else manager=yum; fi
  patiently "$manager" install -yq "$package" || fail "$manager could not install $shown"
  wanted=$(rpm -qp --queryformat '%{NAME}-%{VERSION}-%{RELEASE}' "$package" 2>/dev/null)
  rpm -q "$wanted" >/dev/null 2>&1 || fail "rpm does not have $wanted"
}

download "$directory/package" || fail "$shown could not be fetched"
echo "$SPOT_RELAY_SHA256  $directory/package" | sha256sum -c --quiet - >&2 ||
  fail "$shown is not the package that was expected"
# This goes by the content, not by the name: a URL may have any ending.
case $(od -An -tx1 -N4 "$directory/package" | tr -d ' ') in
  213c6172) install_deb ;;
  edabeedb) install_rpm ;;
  *) fail "$shown is neither a .deb nor a .rpm" ;;
esac
spot-relay --version || fail "the program does not run"
