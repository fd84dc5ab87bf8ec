#!/bin/bash
sent=0
while true; do
    # The sender says how many it has sent while the near end was up: others reach nobody.
    if [ "$(cat /sys/class/net/peer0/carrier 2>/dev/null)" = 1 ] && echo x 2>/dev/null >/dev/udp/10.9.0.1/9999; then
        sent=$((sent + 1))
        echo $sent >/run/lab/sent
    fi
    sleep 0.05
done
