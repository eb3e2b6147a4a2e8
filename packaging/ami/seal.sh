#!/bin/sh
# The last step of an image build: removes what belongs to this one machine, above all spot-relay's records: a record of
# this machine's handover must not reach another. Run it as root; the machine is then discarded.
#
# The service stays enabled: each instance starts it at its first boot. The configuration stays, too.
set -eu

if [ -d /run/systemd/system ]; then systemctl stop spot-relay.service; fi
rm -rf /var/lib/spot-relay /var/lib/private/spot-relay /run/spot-relay

# The identity, which the first boot makes again.
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed
if command -v cloud-init >/dev/null; then cloud-init clean --logs --seed; fi
rm -rf /var/lib/cloud/instances /var/lib/cloud/instance

# Logs, keys and histories.
rm -rf /var/log/journal/*
find /var/log -type f -exec truncate --size=0 {} +
rm -f /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /root/.bash_history /home/*/.bash_history
if command -v apt-get >/dev/null; then apt-get clean; fi
if command -v dnf >/dev/null; then dnf clean all --quiet; fi
