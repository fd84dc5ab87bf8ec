#!/bin/bash
# The tests of one boot. Each says how it ends as the tests of the workspace do.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /lab || exit 1
stage=$(cat /var/lib/lab/stage 2>/dev/null || echo first)
passed=0
failed=0

# Runs a test: a function that says nothing unless it fails.
prove() {
    local said
    if said=$("$1" 2>&1); then
        echo "test boot::$stage::$1 ... ok"
        passed=$((passed + 1))
    else
        echo "$said"
        echo "test boot::$stage::$1 ... FAILED"
        failed=$((failed + 1))
    fi
}

# The end of the tests of this boot.
ended() {
    [ $failed -eq 0 ] || journalctl --no-pager --boot --output=cat --unit sg-agent | tail -40
    echo "test result: $([ $failed -eq 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out"
    echo "vm: ended boot-$stage $failed"
}

# Polls until a command succeeds, for so many seconds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            echo "in vain: $*"
            return 1
        fi
        sleep 0.1
    done
}

property() { systemctl show --value --property "$1" "${2:-sg-agent}"; }
is() { [ "$(property "$1")" = "$2" ]; }
has() { case $1 in *"$2"*) ;; *) echo "no \"$2\" in: $1" && return 1 ;; esac; }
generation() { sg-agent counters -o json | grep -o '"generation": *[0-9]*' | grep -o '[0-9]*$' || echo 0; }
sent() { cat /run/lab/sent 2>/dev/null || echo 0; }
# How many datagrams have reached this host for ports where nobody listens, and how many pings, since boot.
arrived() { grep '^Udp: [0-9]' /proc/net/snmp | cut -d ' ' -f 3; }
pinged() { grep '^Icmp: [0-9]' /proc/net/snmp | cut -d ' ' -f 10; }
at_least() { [ "$($1)" -ge "$2" ]; }

# What is denied is sent and does not arrive, and what is allowed does.
enforced() {
    local before
    before=$(arrived)
    within 20 at_least sent $(($(sent) + 10)) && within 20 at_least pinged $(($(pinged) + 3)) || return 1
    [ "$(arrived)" = "$before" ] || { echo "$(($(arrived) - before)) denied packets arrived"; return 1; }
}

. "./$stage.sh"
