#!/bin/sh
# A web server whose page names the instance that answered.
set -eu
dnf install -yq nginx
token=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
instance=$(curl -fsS -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id)
echo "served by $instance" > /usr/share/nginx/html/index.html
systemctl enable --now nginx
